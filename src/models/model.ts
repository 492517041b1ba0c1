// What every segmentation model is: images in, logits of the same size out.
import type { Module } from "../nn/index.ts"
import type { Tensor } from "../torch/index.ts"

export interface SegmentationOutput {
  /** [N, K, H, W], before softmax, at the input's size. */
  logits: Tensor
}

/** Takes images [N, 3, H, W] of any size; pads and crops itself where its strides need it. */
export interface SegmentationModel extends Module<[Tensor], SegmentationOutput> {
  /** Both sides are padded to multiples of this inside, in pixels. */
  readonly stride: number
}
