// Several looks at an image become one: each window's probabilities, times its share, added up.
//
// What is kept are sums for the rows that are not yet final. Rows of windows are taken from top to bottom, over all views;
// where the next one begins, all rows above are final and are handed over.
import { callAtStride, deviceOf, type SegmentationModel } from "../models/index.ts"
import { softmax } from "../nn/index.ts"
import { fromData, type Precision, type Tensor, tidy, zeros } from "../torch/index.ts"
import { padForCorners } from "./pad.ts"
import { openRows, type View, windowRows } from "./plan.ts"
import { sampleAt, sampleImages } from "./sample.ts"
import { type Axis, positionIn, type Span } from "./windows.ts"

export interface BlendOptions {
  /** All of one image size. */
  readonly views: readonly View[]
  readonly precision: Precision
  /** Takes rows that are final, from `top` on: probabilities [N, K, rows, W], which are the caller's only during the call. */
  onRows: (probabilities: Tensor, top: number) => void
  onWindow: () => void
}

/**
 * @param images [N, 3, H, W], row by row
 */
export function blend(
  model: SegmentationModel,
  images: Float32Array,
  [n, h, w]: readonly [n: number, h: number, w: number],
  { views, precision, onRows, onWindow }: BlendOptions,
): void {
  const device = deviceOf(model)
  const order = windowRows(views)
  const height = openRows(order)
  let sums: Tensor | undefined // [N, K, height, W], from the image's row `top` on
  let [top, bottom] = [0, 0] // rows that are not final

  const finishAbove = (row: number): void => {
    const done = row - top
    if (done === 0 || sums === undefined) return
    const all = sums
    tidy(() => {
      onRows(all.narrow(2, 0, done), top)
      // Down to `bottom` moved up, in parts that do not overlap with where they go.
      for (let from = done; from < bottom - top; from += done) {
        const rows = Math.min(done, bottom - top - from)
        all.narrow(2, from - done, rows).copy_(all.narrow(2, from, rows))
      }
      all.narrow(2, bottom - row, done).zero_()
    })
    top = row
  }

  try {
    for (const { view, span } of order) {
      finishAbove(span.from)
      bottom = Math.max(bottom, span.to)
      for (const column of view.columns.spans) {
        tidy(() => {
          const seen = probabilities(model, precision, images, [n, h, w], view, span, column) // [N, K, to - from, to - from]
          const shares = fromData(
            Float32Array.from(span.shares, (share) => share / views.length),
            [span.shares.length, 1],
            { device },
          )
          const weighted = seen.mul_(shares).mul_(fromData(Float32Array.from(column.shares), undefined, { device }))
          sums ??= zeros([n, seen.size(1), height, w], { device }).keep()
          place(sums, span.from - top, span.to - top, column).add_(weighted)
        })
        onWindow()
      }
    }
    finishAbove(h)
  } finally {
    sums?.dispose()
  }
}

const place = (sums: Tensor, from: number, to: number, column: Span): Tensor =>
  sums.narrow(2, from, to - from).narrow(3, column.from, column.to - column.from)

/** What the model says through one window, [N, K, h, w], about the pixels of the image that it sees there. */
function probabilities(
  model: SegmentationModel,
  precision: Precision,
  images: Float32Array,
  shape: readonly [n: number, h: number, w: number],
  { isMirrored, rows, columns }: View,
  row: Span,
  column: Span,
): Tensor {
  const alignCorners = model.alignCorners ?? false
  const rowsSeen = pixelsOf(rows, row, { isMirrored: false, alignCorners })
  const columnsSeen = pixelsOf(columns, column, { isMirrored, alignCorners })
  const x = sampleImages(images, shape, rowsSeen, columnsSeen, { alignCorners, device: deviceOf(model) }) // [N, 3, rows.length, columns.length]
  const padded = padForCorners(x, model)
  const { logits } = callAtStride(model, padded, precision) // [N, K, h, w]
  const inLogits = ({ positions }: Span, dim: 2 | 3) =>
    positions.map((position) => positionIn(position, padded.size(dim), logits.size(dim), alignCorners))
  return softmax(sampleAt(logits, inLogits(row, 2), inLogits(column, 3), { alignCorners }), 1)
}

/** Where the pixels of a window lie in the image. */
function pixelsOf(
  { side, scaled, length }: Axis,
  { start }: Span,
  { isMirrored, alignCorners }: { isMirrored: boolean; alignCorners: boolean },
): Float64Array {
  return Float64Array.from({ length }, (_, i) => {
    const pixel = isMirrored ? scaled - 1 - (start + i) : start + i
    return positionIn(pixel, scaled, side, alignCorners)
  })
}
