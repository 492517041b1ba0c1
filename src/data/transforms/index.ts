// All transforms by name. Adding one: a file with a function from its options to a `Transform`, and its line here.
import { randomCrop } from "./random-crop.ts"
import { resize } from "./resize.ts"
import { resizeToRange } from "./resize-to-range.ts"
import type { Transform } from "./transform.ts"
import { whole } from "./whole.ts"

export {
  imagenet,
  type Normalization,
  type NormalizationName,
  normalizationNames,
  normalizations,
  resnetV1,
  symmetric,
  toTensorData,
} from "./normalization.ts"
export type { RandomCropOptions } from "./random-crop.ts"
export type { ArraysFor, SampleArrays, TensorSample, Transform } from "./transform.ts"
export { randomCrop, resize, resizeToRange, whole }

export const transforms = { randomCrop, resize, resizeToRange, whole } satisfies Record<
  string,
  (options: never) => Transform
>

/** A transform as plain data, such as `{ name: "randomCrop", cropSize: [256, 256] }`: worker threads build their own from it. */
export type TransformSpec = {
  [Name in keyof typeof transforms]: { readonly name: Name } & Parameters<(typeof transforms)[Name]>[0]
}[keyof typeof transforms]

export function buildTransform({ name, ...options }: TransformSpec): Transform {
  return (transforms[name] as (options: object) => Transform)(options)
}
