// Padding that inference adds to what models do themselves.
import type { SegmentationModel } from "../models/index.ts"
import { aten, type Tensor } from "../torch/index.ts"

/**
 * Where corners are aligned, logits lie over the image's pixels only in sizes of k * stride + 1, as TensorFlow's DeepLab crops and
 * evaluates them (513 = 32 * 16 + 1): at others they are stretched, 3 pixels too far at the right of an image 500 wide. So such images
 * get rows and columns of zeros, the mean pixel after normalisation, at the bottom and right.
 * @param x [N, 3, H, W]
 */
export function padForCorners(x: Tensor, { alignCorners, upsampleLogits, stride }: SegmentationModel): Tensor {
  if (!alignCorners || upsampleLogits === undefined) return x.alias()
  const missing = (side: number) => (stride - ((side - 1) % stride)) % stride
  const [bottom, right] = [missing(x.size(2)), missing(x.size(3))]
  return bottom || right ? aten.constant_pad_nd(x, [0, right, 0, bottom]) : x.alias()
}
