// What every segmentation model is: images in, logits of the same size out.
import { type AnyModule, interpolate, type Module } from "../nn/index.ts"
import { aten, autocast, noGrad, type Precision, type Tensor, tidy } from "../torch/index.ts"
import type { Encoder } from "./encoders/index.ts"

export interface SegmentationOutput {
  /** [N, K, H, W], before softmax, at the input's size (but see `callAtStride`). */
  logits: Tensor
  /** The same from an earlier map, of a model that has an auxiliary head: for the loss alone. */
  aux?: Tensor
  /** The same of each scale of an image pyramid, in training: for losses of their own. */
  scales?: Tensor[]
}

/** Takes images [N, 3, H, W] of any size; pads and crops itself where its strides need it. */
export interface SegmentationModel extends Module<[Tensor], SegmentationOutput> {
  /** Pixels of the image per pixel of the coarsest map. */
  readonly stride: number
  /** What pretrained ImageNet weights go into; a model with a path of its own (UNet as in its paper) has none. */
  readonly backbone?: Encoder | undefined
  /** Names of the layers that give the logits: theirs is the only shape that depends on the number of classes. */
  readonly logitLayers: readonly string[]
  /**
   * Whether logits are enlarged to the image's size, as they are unless `callAtStride` asks for them as they are made. A model
   * whose last layer is as large as the image has nothing to enlarge.
   */
  upsampleLogits?: boolean
  /** Whether enlarging keeps the centres of the corner pixels in place, as in TensorFlow's DeepLab; otherwise the edges. */
  alignCorners?: boolean
  /** Frees the auxiliary head, which nobody needs once training is over. */
  dropAuxiliary?(): void
}

/**
 * The last line of a model whose last layer is smaller than the image: [N, K, h, w] to [N, K, H, W], if wanted. In float32: between
 * two bfloat16 logits there is seldom a third.
 */
export function enlarge(
  logits: Tensor,
  image: Tensor,
  { upsampleLogits, alignCorners }: Pick<SegmentationModel, "upsampleLogits" | "alignCorners">,
): Tensor {
  return upsampleLogits ? interpolate(inFloat32(logits), [image.size(2), image.size(3)], { alignCorners }) : logits
}

/**
 * The output as the last layer makes it, [N, K, h, w]: a loss may enlarge it in passing, or compare it with smaller labels.
 * @param image [N, 3, H, W]
 * @param precision as in `callIn`
 */
export function callAtStride(
  model: SegmentationModel,
  image: Tensor,
  precision: Precision = "float32",
): SegmentationOutput {
  if (model.upsampleLogits === undefined) return callIn(precision, model, image)
  model.upsampleLogits = false
  try {
    return callIn(precision, model, image)
  } finally {
    model.upsampleLogits = true
  }
}

/**
 * Pixels of the image per pixel of the logits, as the last layer makes them: 1 where it is as large as the image. It is finer
 * than the model's stride where a decoder goes back to earlier maps. Measured on two small images.
 * @param model in eval mode
 */
export function logitStride(model: SegmentationModel): number {
  if (model.upsampleLogits === undefined) return 1
  using _ = noGrad()
  const { stride } = model
  const rows = (side: number) =>
    tidy(() => callAtStride(model, aten.zeros([1, 3, side, side], { device: deviceOf(model) })).logits.size(2))
  return (4 * stride) / (rows(8 * stride) - rows(4 * stride)) // of the difference: some encoders lose a row at the border
}

/** model.call() in a precision (see autocast): weights are float32, and so is what comes out, whatever is between. */
export function callIn(precision: Precision, model: SegmentationModel, image: Tensor): SegmentationOutput {
  if (precision === "float32") return model.call(image)
  return tidy(() => {
    const { logits, aux, scales } = autocast({ dtype: precision, device: image.device }, () => model.call(image))
    return {
      logits: inFloat32(logits),
      ...(aux && { aux: inFloat32(aux) }),
      ...(scales && { scales: scales.map(inFloat32) }),
    }
  })
}

const inFloat32 = (x: Tensor): Tensor =>
  x.dtype === "bfloat16" || x.dtype === "float16" ? x.to({ dtype: "float32" }) : x

/** Where a model is, and its images must be: "cpu", "cuda:0". */
export function deviceOf(model: AnyModule): string {
  for (const [, { device }] of model.namedParameters()) return device
  return "cpu"
}

/** The finest of an encoder's maps whose stride is at least `stride`: its position. */
export function atStride({ strides }: Encoder, stride: number): number {
  return Math.max(
    0,
    strides.findIndex((s) => s >= stride),
  )
}
