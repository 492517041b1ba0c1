// The training crop: scaled, rotated, padded, cropped, flipped, changed in colour and normalised.
// The order and rules are DeepLab's (Chen et al. 2017, https://arxiv.org/abs/1706.05587); what DeepLab lacks is torchvision's.
import { UserError } from "../../errors.ts"
import { randomFor } from "../random.ts"
import { placeOnClass } from "./class-place.ts"
import { type ColorJitterOptions, colorJitter } from "./color-jitter.ts"
import { type GaussianBlurOptions, gaussianBlur } from "./gaussian-blur.ts"
import { type GrayscaleOptions, grayscale } from "./grayscale.ts"
import { type Affine, affineOf, type Normalization } from "./normalization.ts"
import type { Photometric, Picture } from "./picture.ts"
import { sampleView, type View } from "./sampling.ts"
import { checkRange, type SizeRange, sizeInRange } from "./size-rules.ts"
import { checkProbabilities, checkSize, newArrays, type Size, type Transform } from "./transform.ts"

/** Adding a photometric operation: a function from its options to a `Photometric`, and its line here, in order. */
const photometrics = { colorJitter, grayscale, gaussianBlur } satisfies Record<
  string,
  (options: never) => Photometric | undefined
>

export type RandomCropOptions = Normalization &
  ColorJitterOptions &
  GrayscaleOptions &
  GaussianBlurOptions & {
    /** [height, width] in pixels */
    readonly cropSize: Size
    /** Sides are brought into this range first, before the scale is applied. */
    readonly range?: SizeRange
    /** Smallest and largest scale factor. */
    readonly scale?: readonly [min: number, max: number]
    /** 0: any factor between them; else only min, min + step, min + 2 step ... max (DeepLab: 0.25). */
    readonly scaleStep?: number
    /** Enlarge a picture that would not fill the crop, beyond the largest scale if need be, instead of padding it. */
    readonly fill?: boolean
    /** Which pixels stay where they are under scaling, see sampling.ts. DeepLab: true. */
    readonly alignCorners?: boolean
    /** Smallest and largest rotation in degrees, counter-clockwise, about the middle of the scaled picture. */
    readonly rotation?: readonly [min: number, max: number]
    /** Probability of a rotation. */
    readonly rotationProbability?: number
    /** Probability that the crop is placed where a pixel of `cropClasses` is, in pictures that have one. */
    readonly classCrop?: number
    /** Labels, 0..K-1. */
    readonly cropClasses?: readonly number[]
    /** R, G, B from 0 to 255 of what lies beyond the picture; the normalisation's mean, which becomes 0, when left out. */
    readonly padPixel?: readonly [number, number, number]
    /** Probability of a left-right flip. */
    readonly flip?: number
    /** Probability of an up-down flip. */
    readonly verticalFlip?: number
  }

/**
 * In this order: sides into a range; random scale (new size = trunc(size * factor)); rotation; padding at the bottom and
 * right up to the crop (image: `padPixel`; mask: 255), and where a rotation leaves nothing; a crop at random or on a class;
 * flips; colour jitter, grey and blur of the picture, not of the padding; normalisation. With `fill` there is no padding at
 * the bottom and right: it is like nothing that whole images show, and batch-norm would take it into its statistics.
 */
export function randomCrop({
  cropSize,
  range,
  scale: [min, max] = [0.5, 2],
  scaleStep = 0,
  fill = false,
  alignCorners = false,
  rotation: [minDegrees, maxDegrees] = [0, 0],
  rotationProbability = 1,
  classCrop = 0,
  cropClasses = [],
  padPixel,
  flip = 0.5,
  verticalFlip = 0,
  ...others
}: RandomCropOptions): Transform {
  const size = checkSize("cropSize", cropSize)
  const normalize = affineOf(others)
  if (range) checkRange(range)
  if (!(min > 0 && max >= min)) {
    throw new UserError(`scale: got ${min} to ${max}; expected two factors above 0, the smaller first.`)
  }
  if (!(scaleStep >= 0)) throw new UserError(`scaleStep: got ${scaleStep}; expected 0 (any factor) or more.`)
  const factors = scaleFactors([min, max], scaleStep)
  if (!(minDegrees >= -360 && maxDegrees <= 360 && minDegrees <= maxDegrees)) {
    throw new UserError(
      `rotation: got ${minDegrees} to ${maxDegrees}; expected two angles from -360 to 360 degrees, the smaller first.`,
    )
  }
  checkProbabilities({ flip, verticalFlip, rotationProbability, classCrop })
  if (classCrop > 0 && cropClasses.length === 0) {
    throw new UserError(`classCrop: got ${classCrop}, but no cropClasses; name at least one class.`)
  }
  if (!cropClasses.every((label) => Number.isInteger(label) && label >= 0 && label < 254)) {
    throw new UserError(`cropClasses: got [${cropClasses.join(", ")}]; expected labels from 0 to 253.`)
  }
  const pad = padValues(padPixel, normalize)
  const operations = Object.values(photometrics).map((create) => create(others))
  const isRecolored = operations.some((operation) => operation !== undefined)

  return (sample, random, arraysFor = newArrays(sample)) => {
    // Flips are drawn always and last of these, so that turning them off changes no crop. What came later to this list has
    // generators of its own, which are begun whether they are used or not: so none of it changes what another draws.
    const drawn = factors ? factors[random.int(0, factors.length - 1)]! : random.uniform(min, max)
    const [fullHeight, fullWidth] = range
      ? sizeInRange([sample.height, sample.width], range)
      : [sample.height, sample.width]
    const [leastHeight, leastWidth] = fill ? size : [1, 1]
    const factor = fill ? Math.max(drawn, size[0] / fullHeight, size[1] / fullWidth) : drawn
    const height = Math.max(leastHeight, Math.trunc(fullHeight * factor))
    const width = Math.max(leastWidth, Math.trunc(fullWidth * factor))
    let top = random.int(0, Math.max(0, height - size[0]))
    let left = random.int(0, Math.max(0, width - size[1]))
    const isFlipped = random.chance(flip)
    const isFlippedVertically = random.chance(verticalFlip)
    const own = () => randomFor(random.int(0, 0xffffffff))
    const [turning, placing, ...coloring] = [own(), own(), ...operations.map(own)] as const

    const isTurned = turning.chance(rotationProbability)
    const degrees = isTurned ? turning.uniform(minDegrees, maxDegrees) : 0
    const scaled = [height, width] as const
    if (placing.chance(classCrop)) {
      const place = placeOnClass(sample, { scaled, alignCorners, degrees }, size, cropClasses, placing)
      if (place) [top, left] = place
    }
    const view: View = { scaled, alignCorners, degrees, top, left, size, isFlipped, isFlippedVertically }
    const out = arraysFor(...size)
    if (isRecolored) {
      const spans = sampleView(sample, view, toFractions, pad, out)
      const picture: Picture = { height: size[0], width: size[1], data: out.image, spans }
      for (const [i, operation] of operations.entries()) operation?.(picture, coloring[i]!)
      normalizePicture(picture, normalize)
    } else sampleView(sample, view, normalize, pad, out)
    return { ...out, id: sample.id, height: size[0], width: size[1] }
  }
}

/** From 8-bit values to 0..1, which is what photometric operations work on. */
const toFractions: Affine = { gain: [1 / 255, 1 / 255, 1 / 255], offset: [0, 0, 0] }

function normalizePicture({ height, width, data, spans }: Picture, { gain, offset }: Affine): void {
  for (let c = 0; c < 3; c++) {
    const [a, b] = [255 * gain[c]!, offset[c]!]
    for (let y = 0; y < height; y++) {
      const row = (c * height + y) * width
      for (let i = row + spans.from[y]!, end = row + spans.to[y]!; i < end; i++) data[i] = data[i]! * a + b
    }
  }
}

/** The factors of which a picture's scale is one; null where it may be any between the two. */
export function scaleFactors([min, max]: readonly [number, number], scaleStep: number): readonly number[] | null {
  if (scaleStep === 0) return null
  return Array.from({ length: Math.floor((max - min) / scaleStep + 1e-9) + 1 }, (_, k) => min + scaleStep * k)
}

/** What padding is after normalisation. */
export function padValues(
  pixel: readonly [number, number, number] | undefined,
  { gain, offset }: Affine,
): readonly number[] {
  if (pixel === undefined) return [0, 0, 0]
  if (pixel.length !== 3 || !pixel.every((value) => value >= 0 && value <= 255)) {
    throw new UserError(`padPixel: got [${pixel.join(", ")}]; expected R, G, B from 0 to 255.`)
  }
  return pixel.map((value, c) => value * gain[c]! + offset[c]!)
}
