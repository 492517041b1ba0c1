// Brightness, contrast, saturation and hue at random, each as torchvision defines it for floats:
// https://pytorch.org/vision/stable/generated/torchvision.transforms.ColorJitter.html
import { UserError } from "../../errors.ts"
import { permutation } from "../random.ts"
import { forEachRow, luma, type Photometric, type Picture } from "./picture.ts"

export type ColorJitterOptions = {
  /** Factors are drawn from max(0, 1 - b) to 1 + b: 0.4 is 0.6 to 1.4; 0 for none. */
  readonly brightness?: number
  readonly contrast?: number
  readonly saturation?: number
  /** Shifts are drawn from -h to h, as parts of the colour circle; at most 0.5. */
  readonly hue?: number
}

/** All four, those of them that are asked for, in an order drawn anew each time. */
export function colorJitter({
  brightness = 0,
  contrast = 0,
  saturation = 0,
  hue = 0,
}: ColorJitterOptions): Photometric | undefined {
  for (const [name, strength] of Object.entries({ brightness, contrast, saturation })) {
    if (!(strength >= 0 && strength < Number.POSITIVE_INFINITY)) {
      throw new UserError(`${name}: got ${strength}; expected 0 or more, such as 0.4 for factors from 0.6 to 1.4.`)
    }
  }
  if (!(hue >= 0 && hue <= 0.5)) {
    throw new UserError(`hue: got ${hue}; expected 0 to 0.5, which is half way round the colour circle.`)
  }
  if (brightness === 0 && contrast === 0 && saturation === 0 && hue === 0) return undefined
  return (picture, random) => {
    // All are drawn, used or not, so that turning one off leaves the others as they were.
    const order = permutation(4, random)
    const factors = [brightness, contrast, saturation].map((by) => random.uniform(Math.max(0, 1 - by), 1 + by))
    const shift = random.uniform(-hue, hue)
    for (const which of order) {
      if (which === 0 && brightness > 0) adjustBrightness(picture, factors[0]!)
      else if (which === 1 && contrast > 0) adjustContrast(picture, factors[1]!)
      else if (which === 2 && saturation > 0) adjustSaturation(picture, factors[2]!)
      else if (which === 3 && hue > 0) adjustHue(picture, shift)
    }
  }
}

const clamp = (value: number) => (value < 0 ? 0 : value > 1 ? 1 : value)

/** Towards black (0), or brighter (above 1). */
export function adjustBrightness(picture: Picture, factor: number): void {
  blend(picture, factor, 0)
}

/** Towards the picture's mean grey (0), or away from it (above 1). */
export function adjustContrast(picture: Picture, factor: number): void {
  const { data } = picture
  const plane = data.length / 3
  let [sum, count] = [0, 0]
  forEachRow(picture, (from, to) => {
    count += to - from
    for (let i = from; i < to; i++) sum += luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!)
  })
  blend(picture, factor, (1 - factor) * (sum / count))
}

/** value * factor + summand, between 0 and 1 */
function blend(picture: Picture, factor: number, summand: number): void {
  const { data } = picture
  for (let c = 0, start = 0; c < 3; c++, start += data.length / 3) {
    forEachRow(picture, (from, to) => {
      for (let i = start + from; i < start + to; i++) data[i] = clamp(data[i]! * factor + summand)
    })
  }
}

/** Towards each pixel's own grey (0), or away from it (above 1). */
export function adjustSaturation(picture: Picture, factor: number): void {
  const { data } = picture
  const plane = data.length / 3
  forEachRow(picture, (from, to) => {
    for (let i = from; i < to; i++) {
      const red = data[i]!
      const green = data[i + plane]!
      const blue = data[i + 2 * plane]!
      const grey = (1 - factor) * luma(red, green, blue)
      data[i] = clamp(red * factor + grey)
      data[i + plane] = clamp(green * factor + grey)
      data[i + 2 * plane] = clamp(blue * factor + grey)
    }
  })
}

/** By `shift` round the colour circle, whose length is 1: 1/3 turns red to green. */
export function adjustHue(picture: Picture, shift: number): void {
  const { data } = picture
  const plane = data.length / 3
  forEachRow(picture, (from, to) => {
    for (let i = from; i < to; i++) {
      const red = data[i]!
      const green = data[i + plane]!
      const blue = data[i + 2 * plane]!
      const value = Math.max(red, green, blue)
      const range = value - Math.min(red, green, blue)
      if (range === 0) continue // grey has no hue
      const hue =
        value === red ? (green - blue) / range : value === green ? 2 + (blue - red) / range : 4 + (red - green) / range
      const turned = hue + 6 * shift + 12 // in sixths of the circle; 12: above 0 whatever the shift
      data[i] = channel(value, range, turned + 5)
      data[i + plane] = channel(value, range, turned + 3)
      data[i + 2 * plane] = channel(value, range, turned + 1)
    }
  })
}

/** A channel of HSV as RGB: the value, less the range by how far the hue is from the channel's own; 5, 3, 1 sixths on for R, G, B. */
function channel(value: number, range: number, sixths: number): number {
  const k = sixths - 6 * Math.floor(sixths / 6)
  return clamp(value - range * Math.max(0, Math.min(k, 4 - k, 1)))
}
