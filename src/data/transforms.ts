// From decoded 8-bit samples to what a network takes: scaled, padded, cropped, flipped and normalised in ONE pass.
// Why one pass: each output pixel is computed once, from four input pixels, and nothing in between is ever stored.
// The order and rules are DeepLab's (Chen et al. 2017, https://arxiv.org/abs/1706.05587), the resizing is PyTorch's.
import { UserError } from "../errors.ts"
import type { RgbImage } from "./image.ts"
import { ignoreIndex } from "./label-map.ts"
import type { Random } from "./random.ts"
import type { Sample } from "./voc-folder.ts"

export type TensorSample = {
  readonly id: string
  readonly height: number
  readonly width: number
  /** [3, height, width], normalised */
  readonly image: Float32Array
  /** [height, width] in 0..K-1, or 255 for void and padding */
  readonly mask: Uint8Array
}

/** What the loader applies to each sample; all its randomness comes from `random`. */
export type Transform = (sample: Sample, random: Random) => TensorSample

/** x = (value / 255 - mean) / std, per channel R, G, B; mean and std as fractions of full brightness, as in torchvision. */
export type Normalization = {
  readonly mean?: readonly [number, number, number]
  readonly std?: readonly [number, number, number]
}

/** Of ImageNet's training set; what torchvision's weights expect. The default. */
export const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const

/** value / 127.5 - 1; what TensorFlow's MobileNet and DeepLab weights expect. */
export const symmetric = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const

/** The normalisations by name. */
export const normalizations = { imagenet, symmetric } satisfies Record<string, Normalization>
export type NormalizationName = keyof typeof normalizations
export const normalizationNames = Object.keys(normalizations) as NormalizationName[]

export type RandomCropOptions = Normalization & {
  /** [height, width] in pixels */
  readonly cropSize: readonly [height: number, width: number]
  /** Smallest and largest scale factor. */
  readonly scale?: readonly [min: number, max: number]
  /** 0: any factor between them; else only min, min + step, min + 2 step ... max (DeepLab: 0.25). */
  readonly scaleStep?: number
  /** Enlarge a picture that would not fill the crop, beyond the largest scale if need be, instead of padding it. */
  readonly fill?: boolean
  /** Probability of a left-right flip. */
  readonly flip?: number
  /** Probability of an up-down flip. */
  readonly verticalFlip?: number
}

/**
 * DeepLab's training crop: random scale (new size = trunc(size * factor)), padding at the bottom and right up to the
 * crop (image: 0 after normalisation, which is the mean; mask: 255), uniform random crop, flips. With `fill` there is no
 * padding: it is like nothing that whole images show, and batch-norm would take it into its statistics.
 */
export function randomCrop({
  cropSize,
  scale: [min, max] = [0.5, 2],
  scaleStep = 0,
  fill = false,
  flip = 0.5,
  verticalFlip = 0,
  ...normalization
}: RandomCropOptions): Transform {
  const size = checkSize("cropSize", cropSize)
  const normalize = checkNormalization(normalization)
  if (!(min > 0 && max >= min)) {
    throw new UserError(`scale: got ${min} to ${max}; expected two factors above 0, the smaller first.`)
  }
  if (!(scaleStep >= 0)) throw new UserError(`scaleStep: got ${scaleStep}; expected 0 (any factor) or more.`)
  const factors = scaleStep > 0 ? Math.floor((max - min) / scaleStep + 1e-9) + 1 : 0
  for (const [name, p] of Object.entries({ flip, verticalFlip })) {
    if (!(p >= 0 && p <= 1)) throw new UserError(`${name}: got ${p}; expected a probability from 0 to 1.`)
  }
  return (sample, random) => {
    // Flips are drawn last and always, so that turning them off changes no crop.
    const drawn = factors > 0 ? min + scaleStep * random.int(0, factors - 1) : random.uniform(min, max)
    const [leastHeight, leastWidth] = fill ? size : [1, 1]
    const factor = fill ? Math.max(drawn, size[0] / sample.height, size[1] / sample.width) : drawn
    const height = Math.max(leastHeight, Math.trunc(sample.height * factor))
    const width = Math.max(leastWidth, Math.trunc(sample.width * factor))
    const top = random.int(0, Math.max(0, height - size[0]))
    const left = random.int(0, Math.max(0, width - size[1]))
    const isFlipped = random.chance(flip)
    const isFlippedVertically = random.chance(verticalFlip)
    return resample(sample, { scaled: [height, width], top, left, size, isFlipped, isFlippedVertically }, normalize)
  }
}

/** The whole picture resized to one size, whatever its shape was. */
export function resize({
  size,
  ...normalization
}: Normalization & { readonly size: readonly [number, number] }): Transform {
  const scaled = checkSize("size", size)
  const normalize = checkNormalization(normalization)
  const window = { scaled, top: 0, left: 0, size: scaled, isFlipped: false, isFlippedVertically: false }
  return (sample) => resample(sample, window, normalize)
}

/** The whole picture at its own size: for evaluation. */
export function whole(normalization: Normalization = {}): Transform {
  checkNormalization(normalization)
  return ({ id, height, width, image, mask }) => {
    return { id, height, width, image: toTensorData({ height, width, data: image }, normalization), mask }
  }
}

/** Adding a transform: a function from its options to a `Transform`, and its line here. */
export const transforms = { randomCrop, resize, whole } satisfies Record<string, (options: never) => Transform>

/** A transform as plain data, such as `{ name: "randomCrop", cropSize: [256, 256] }`: worker threads build their own from it. */
export type TransformSpec = {
  [Name in keyof typeof transforms]: { readonly name: Name } & Parameters<(typeof transforms)[Name]>[0]
}[keyof typeof transforms]

export function buildTransform({ name, ...options }: TransformSpec): Transform {
  return (transforms[name] as (options: object) => Transform)(options)
}

/** An image as [3, height, width] floats, normalised and nothing else. */
export function toTensorData({ width, height, data }: RgbImage, normalization: Normalization = {}): Float32Array {
  const { gain, offset } = checkNormalization(normalization)
  const pixels = width * height
  const out = new Float32Array(3 * pixels)
  for (let c = 0; c < 3; c++) {
    const [a, b] = [gain[c]!, offset[c]!]
    for (let i = 0, at = c; i < pixels; i++, at += 3) out[c * pixels + i] = data[at]! * a + b
  }
  return out
}

/** Which part of the resized picture is wanted, and which way round. */
type Window = {
  /** [height, width] that the whole picture is resized to */
  readonly scaled: readonly [number, number]
  /** The first row and column of the crop in it */
  readonly top: number
  readonly left: number
  /** [height, width] of the crop; what reaches beyond the picture is padding */
  readonly size: readonly [number, number]
  readonly isFlipped: boolean
  readonly isFlippedVertically: boolean
}

/** value * gain + offset, per channel */
type Affine = { readonly gain: readonly number[]; readonly offset: readonly number[] }

/**
 * Computes the window, pixel by pixel. A 256x256 crop takes 0.9 ms (Zen 5, one core).
 *
 * Coordinates are PyTorch's with align_corners=false: pixel X of n' resized pixels has its centre at (X + 0.5) n / n' of
 * n input pixels. Bilinear: s = max(0, (X + 0.5) n / n' - 0.5), between pixels i = floor(s) and min(i + 1, n - 1),
 * with weight s - i for the second (mode "bilinear"). Nearest: pixel floor((X + 0.5) n / n') (mode "nearest-exact";
 * PyTorch's older "nearest" leaves out the half and shifts masks against images by up to half a pixel).
 */
function resample(sample: Sample, window: Window, { gain, offset }: Affine): TensorSample {
  const { image: pixels, mask: labels, width: stride } = sample
  const [height, width] = window.size
  const rows = axis(sample.height, window.scaled[0], window.top, height, window.isFlippedVertically)
  const columns = axis(sample.width, window.scaled[1], window.left, width, window.isFlipped)
  const plane = height * width
  const image = new Float32Array(3 * plane)
  const mask = new Uint8Array(plane).fill(ignoreIndex)
  const [gainR, gainG, gainB] = gain as [number, number, number]
  const [offsetR, offsetG, offsetB] = offset as [number, number, number]

  for (let y = rows.from; y < rows.to; y++) {
    const upper = rows.first[y]! * stride
    const lower = rows.second[y]! * stride
    const down = rows.weight[y]!
    const nearest = rows.nearest[y]! * stride
    for (let x = columns.from; x < columns.to; x++) {
      const right = columns.weight[x]!
      const a = 3 * (upper + columns.first[x]!)
      const b = 3 * (upper + columns.second[x]!)
      const c = 3 * (lower + columns.first[x]!)
      const d = 3 * (lower + columns.second[x]!)
      const wa = (1 - down) * (1 - right)
      const wb = (1 - down) * right
      const wc = down * (1 - right)
      const wd = down * right
      const at = y * width + x
      const red = wa * pixels[a]! + wb * pixels[b]! + wc * pixels[c]! + wd * pixels[d]!
      const green = wa * pixels[a + 1]! + wb * pixels[b + 1]! + wc * pixels[c + 1]! + wd * pixels[d + 1]!
      const blue = wa * pixels[a + 2]! + wb * pixels[b + 2]! + wc * pixels[c + 2]! + wd * pixels[d + 2]!
      image[at] = red * gainR + offsetR
      image[at + plane] = green * gainG + offsetG
      image[at + 2 * plane] = blue * gainB + offsetB
      mask[at] = labels[nearest + columns.nearest[x]!]!
    }
  }
  return { id: sample.id, height, width, image, mask }
}

/** For each of `size` output rows (or columns): the two input rows, the weight of the second, and the nearest one. */
function axis(input: number, scaled: number, start: number, size: number, isFlipped: boolean) {
  const valid = Math.min(size, scaled - start) // the rest is padding: at the end, or after a flip at the beginning
  const [from, to] = isFlipped ? [size - valid, size] : [0, valid]
  const first = new Int32Array(size)
  const second = new Int32Array(size)
  const nearest = new Int32Array(size)
  const weight = new Float64Array(size)
  for (let i = from; i < to; i++) {
    const center = (start + (isFlipped ? size - 1 - i : i) + 0.5) * (input / scaled)
    const s = Math.max(0, center - 0.5)
    first[i] = Math.min(Math.floor(s), input - 1)
    second[i] = Math.min(first[i]! + 1, input - 1)
    weight[i] = s - first[i]!
    nearest[i] = Math.min(Math.floor(center), input - 1)
  }
  return { from, to, first, second, weight, nearest }
}

function checkSize(name: string, size: readonly [number, number]): readonly [number, number] {
  if (size.length === 2 && size.every((n) => Number.isInteger(n) && n > 0)) return size
  throw new UserError(`${name}: got ${size.join(" x ")}; expected height and width in whole pixels.`)
}

function checkNormalization({ mean = imagenet.mean, std = imagenet.std }: Normalization): Affine {
  if (mean.length !== 3 || !mean.every(Number.isFinite)) {
    throw new UserError(`mean: got [${mean.join(", ")}]; expected three numbers for R, G, B, from 0 to 1.`)
  }
  if (std.length !== 3 || !std.every((s) => s > 0 && s < Number.POSITIVE_INFINITY)) {
    throw new UserError(`std: got [${std.join(", ")}]; expected three numbers above 0 for R, G, B.`)
  }
  return { gain: std.map((s) => 1 / (255 * s)), offset: mean.map((m, c) => -m / std[c]!) }
}
