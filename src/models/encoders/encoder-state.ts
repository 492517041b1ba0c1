// From the checkpoint of a whole network to what belongs to its encoder.
import type { Tensor } from "../../torch/index.ts"

/**
 * The encoder's entries of a classifier's ("features.0.0.weight", "classifier.1.weight"; ResNet's "conv1.weight",
 * "fc.weight") or a segmentation model's state dict ("backbone.conv1.weight"), under the encoder's own names.
 */
export function encoderState(state: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const prefix = ["backbone.", "features."].find((start) => [...state.keys()].some((name) => name.startsWith(start)))
  return new Map(
    [...state].flatMap(([name, tensor]): [string, Tensor][] => {
      if (prefix !== undefined) return name.startsWith(prefix) ? [[name.slice(prefix.length), tensor]] : []
      return /^(fc|classifier)\./.test(name) ? [] : [[name, tensor]]
    }),
  )
}
