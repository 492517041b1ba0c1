// What every segmentation model is: images in, logits of the same size out.
import type { Module } from "../nn/index.ts"
import type { Tensor } from "../torch/index.ts"
import type { Encoder } from "./encoders/index.ts"

export interface SegmentationOutput {
  /** [N, K, H, W], before softmax, at the input's size. */
  logits: Tensor
  /** The same from an earlier map, of a model that has an auxiliary head: for the loss alone. */
  aux?: Tensor
}

/** Takes images [N, 3, H, W] of any size; pads and crops itself where its strides need it. */
export interface SegmentationModel extends Module<[Tensor], SegmentationOutput> {
  /** Pixels of the image per pixel of the coarsest map. */
  readonly stride: number
  /** What pretrained ImageNet weights go into; a model with a path of its own (UNet as in its paper) has none. */
  readonly backbone?: Encoder
  /** Names of the layers that give the logits: theirs is the only shape that depends on the number of classes. */
  readonly logitLayers: readonly string[]
  /** Frees the auxiliary head, which nobody needs once training is over. */
  dropAuxiliary?(): void
}

/** The finest of an encoder's maps whose stride is at least `stride`: its position. */
export function atStride({ strides }: Encoder, stride: number): number {
  return Math.max(
    0,
    strides.findIndex((s) => s >= stride),
  )
}
