// From 8-bit values to the floats that a network was trained on.
import { UserError } from "../../errors.ts"
import type { RgbImage } from "../image.ts"

/** x = (value / 255 - mean) / std, per channel R, G, B; mean and std as fractions of full brightness, as in torchvision. */
export type Normalization = {
  readonly mean?: readonly [number, number, number]
  readonly std?: readonly [number, number, number]
}

/** Of ImageNet's training set; what torchvision's weights expect. The default. */
export const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const

/** value / 127.5 - 1; what TensorFlow's MobileNet and DeepLab weights expect. */
export const symmetric = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const

/** value - mean, in steps of 8-bit values; what TensorFlow's ResNet v1 weights expect. */
export const resnetV1 = { mean: [123.15 / 255, 115.9 / 255, 103.06 / 255], std: [1 / 255, 1 / 255, 1 / 255] } as const

/** The normalisations by name. */
export const normalizations = { imagenet, symmetric, "resnet-v1": resnetV1 } satisfies Record<string, Normalization>
export type NormalizationName = keyof typeof normalizations
export const normalizationNames = Object.keys(normalizations) as NormalizationName[]

/** value * gain + offset, per channel */
export type Affine = { readonly gain: readonly number[]; readonly offset: readonly number[] }

/** What normalises 8-bit values. @throws UserError for a mean or std that is none */
export function affineOf({ mean = imagenet.mean, std = imagenet.std }: Normalization): Affine {
  if (mean.length !== 3 || !mean.every(Number.isFinite)) {
    throw new UserError(`mean: got [${mean.join(", ")}]; expected three numbers for R, G, B, from 0 to 1.`)
  }
  if (std.length !== 3 || !std.every((s) => s > 0 && s < Number.POSITIVE_INFINITY)) {
    throw new UserError(`std: got [${std.join(", ")}]; expected three numbers above 0 for R, G, B.`)
  }
  return { gain: std.map((s) => 1 / (255 * s)), offset: mean.map((m, c) => -m / std[c]!) }
}

/**
 * An image as floats, normalised and nothing else.
 * @returns `out`, [3, height, width]
 */
export function toTensorData(
  { width, height, data }: RgbImage,
  normalization: Normalization = {},
  out: Float32Array = new Float32Array(3 * width * height),
): Float32Array {
  const { gain, offset } = affineOf(normalization)
  const pixels = width * height
  for (let c = 0; c < 3; c++) {
    const [a, b] = [gain[c]!, offset[c]!]
    for (let i = 0, at = c; i < pixels; i++, at += 3) out[c * pixels + i] = data[at]! * a + b
  }
  return out
}
