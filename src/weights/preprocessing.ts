// What weights expect of their input: how pixels are normalised, how strided convolutions are padded. Weights that are used
// with another preprocessing than they were trained with still run, and are silently worse.
import { type NormalizationName, normalizationNames } from "../data/transforms/index.ts"
import type { Padding } from "../models/index.ts"
import type { Weights } from "./registry.ts"

export interface WeightPreprocessing {
  readonly normalization?: NormalizationName
  readonly padding?: Padding
}

/**
 * What a file's notes, or the registry, say. Our own files say it under our names; others in words: "x/127.5-1 RGB",
 * "torchvision ImageNet mean/std", "TF: stride-2 convs pad (0,1,0,1)".
 */
export function preprocessingOf(metadata: Readonly<Record<string, string>>, entry?: Weights): WeightPreprocessing {
  if (entry) return { normalization: "imagenet", padding: "symmetric" } // all of torchvision's
  const { normalization = metadata.preprocess ?? "", padding = "" } = metadata
  const named = normalizationNames.find((name) => name === normalization)
  const described = /127\.5/.test(normalization)
    ? "symmetric"
    : /mean.*std|torchvision/i.test(normalization)
      ? "imagenet"
      : undefined
  const isTensorflow = /\b(tf|tensorflow)\b|\bsame\b/i.test(padding)
  return {
    normalization: named ?? described,
    padding: isTensorflow ? "tensorflow" : padding === "" ? undefined : "symmetric",
  }
}
