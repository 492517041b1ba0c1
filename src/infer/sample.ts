// Values between the pixels of a map, at positions of one's own: what interpolate() does for a whole map, for a part of it too.
import { interpolate } from "../nn/index.ts"
import { aten, fromData, type Tensor } from "../torch/index.ts"
import { positionIn } from "./windows.ts"

/**
 * x between its pixels, bilinear. Where the positions are those of a whole map it is interpolate(), which takes a quarter of the
 * time: 21 classes from 281x375 to 375x500, two cores that were busy with other work too, best of 15: 5 ms, otherwise 20 (as
 * matrix products along one axis after the other 77, by picking rows and columns 98).
 * @param x [N, C, H, W] float32
 * @param rows [h] upwards, from 0 to H - 1
 * @param columns [w] upwards or downwards, from 0 to W - 1
 * @returns [N, C, h, w]
 */
export function sampleAt(x: Tensor, rows: Float64Array, columns: Float64Array, { alignCorners = false } = {}): Tensor {
  const [n, , height, width] = x.shape as [number, number, number, number]
  const isMirrored = columns[0]! > columns.at(-1)!
  const isWhole = (positions: Float64Array, side: number) =>
    positions.every((p, i) => Math.abs(p - positionIn(i, positions.length, side, alignCorners)) < 1e-6)
  if (isWhole(rows, height) && isWhole(isMirrored ? columns.toReversed() : columns, width)) {
    const isSame = rows.length === height && columns.length === width
    const whole = isSame ? x : interpolate(x, [rows.length, columns.length], { alignCorners })
    return isMirrored ? aten.flip(whole, [3]) : whole.alias()
  }
  const grid = new Float32Array(rows.length * columns.length * 2) // (x, y) from -1 in the first pixel to 1 in the last
  const across = columns.map((column) => (2 * column) / Math.max(1, width - 1) - 1)
  let at = 0
  for (const row of rows) {
    const down = (2 * row) / Math.max(1, height - 1) - 1
    for (const column of across) {
      grid[at++] = column
      grid[at++] = down
    }
  }
  const { device } = x
  const shared = fromData(grid, [1, rows.length, columns.length, 2], { device }).expand([
    n,
    rows.length,
    columns.length,
    2,
  ])
  return aten.grid_sampler(x, shared, BILINEAR, BORDER, true)
}

// grid_sampler's numbers for them.
const BILINEAR = 0
const BORDER = 1

/**
 * A part of images at positions of one's own; memory is taken for that part alone.
 * @param images [N, 3, H, W], row by row
 * @param rows [h] as in `sampleAt`
 * @param columns [w]
 * @returns [N, 3, h, w]
 */
export function sampleImages(
  images: Float32Array,
  [n, height, width]: readonly [n: number, h: number, w: number],
  rows: Float64Array,
  columns: Float64Array,
  { device, ...options }: { alignCorners?: boolean; device?: string } = {},
): Tensor {
  const [top, bottom] = extent(rows)
  const [left, right] = extent(columns)
  const [h, w] = [bottom - top, right - left]
  let part = images
  if (h < height || w < width) {
    part = new Float32Array(n * 3 * h * w)
    for (let plane = 0, at = 0; plane < n * 3; plane++) {
      for (let y = top; y < bottom; y++, at += w) {
        const row = (plane * height + y) * width
        part.set(images.subarray(row + left, row + right), at)
      }
    }
  }
  const inPart = (positions: Float64Array, start: number) => positions.map((position) => position - start)
  return sampleAt(
    fromData(part, [n, 3, h, w], { ...(device && { device }) }),
    inPart(rows, top),
    inPart(columns, left),
    options,
  )
}

/** The pixels between which all positions lie, from the first to before the last. */
function extent(positions: Float64Array): [from: number, to: number] {
  const [first, last] = [positions[0]!, positions.at(-1)!]
  return [Math.floor(Math.min(first, last)), Math.ceil(Math.max(first, last)) + 1]
}
