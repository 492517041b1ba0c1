// Functions of tensors that models and losses share.
import { aten, ShapeError, type Tensor } from "../torch/index.ts"

export type InterpolateMode = "nearest" | "bilinear"

/**
 * Resizes height and width, as torch.nn.functional.interpolate(size=...). Bilinear and nearest take source positions at
 * (i + 0.5) * in/out - 0.5 and floor(i * in/out); with alignCorners bilinear takes i * (in - 1)/(out - 1).
 * @param x [N, C, H, W]
 * @param size [height, width] in pixels
 */
export function interpolate(
  x: Tensor,
  size: readonly [number, number],
  { mode = "bilinear" as InterpolateMode, alignCorners = false } = {},
): Tensor {
  return mode === "nearest" ? aten.upsample_nearest2d(x, size) : aten.upsample_bilinear2d(x, size, alignCorners)
}

export const softmax = (x: Tensor, dim: number): Tensor => aten.softmax_int(x, dim)
export const logSoftmax = (x: Tensor, dim: number): Tensor => aten.log_softmax_int(x, dim)

/**
 * Pads bottom and right with zeros (the mean pixel, after normalisation) until both sides divide by `multiple`.
 * @param x [N, C, H, W]
 */
export function padToMultiple(x: Tensor, multiple: number): Tensor {
  const [, , h, w] = x.shape as [number, number, number, number]
  if (h === 0 || w === 0) throw new ShapeError(`padToMultiple: the image ${x.signature} is empty.`)
  const bottom = (multiple - (h % multiple)) % multiple
  const right = (multiple - (w % multiple)) % multiple
  return bottom || right ? aten.constant_pad_nd(x, [0, right, 0, bottom]) : x.alias()
}

/** The top-left [height, width] part. @param x [N, C, H, W] */
export function cropTo(x: Tensor, [h, w]: readonly [number, number]): Tensor {
  return x.size(2) === h && x.size(3) === w ? x.alias() : x.narrow(2, 0, h).narrow(3, 0, w)
}

/** As cropTo(); where x is smaller, its last row and column are repeated. @param x [N, C, H, W] */
export function fitTo(x: Tensor, [h, w]: readonly [number, number]): Tensor {
  const [, , height, width] = x.shape as [number, number, number, number]
  const cropped = cropTo(x, [Math.min(h, height), Math.min(w, width)])
  const [bottom, right] = [Math.max(0, h - height), Math.max(0, w - width)]
  return bottom || right ? aten.replication_pad2d(cropped, [0, right, 0, bottom]) : cropped
}

/** min(max(x, low), high). In bfloat16 by way of float32: there hardtanh has no gradient on libtorch 1.13's CPU. */
export function clampBetween(x: Tensor, low: number, high: number): Tensor {
  if (x.dtype !== "bfloat16") return aten.hardtanh(x, { minVal: low, maxVal: high })
  return aten.hardtanh(x.to({ dtype: "float32" }), { minVal: low, maxVal: high }).to({ dtype: "bfloat16" })
}
