// The oracle ceiling of an output stride: what a model that never errs would score, had it to say its labels on a grid of
// cells of stride x stride pixels. What is missing to 1 is lost to the stride, and no training gets it back.
// Long et al. 2015, section "Upper bounds on IU", https://arxiv.org/abs/1411.4038
//
// Mean IoU on VOC 2012 val, per cent (and what Long et al. have, who shrink the masks otherwise, on a part of VOC 2011 val):
//   stride          128    64    32    16     8     4
//   nearest        55.7  72.1  84.6  93.2  98.3  99.9
//   bilinear       58.3  79.2  91.0  97.1  99.6 100.0
//   Long et al.    50.9  73.3  86.1  92.8  96.4  98.5
import type { Cell } from "./confusion-matrix.ts"
import type { ImageSize } from "./image-size.ts"

export const enlargements = ["nearest", "bilinear"] as const
/**
 * How the oracle's cells become pixels. Pixels vote for their label in their cell.
 * - nearest: each cell has one label, the one with the most votes. No labels that are constant on the cells have more right
 *   pixels: of pixel accuracy this is the bound itself, of mean IoU nearly.
 * - bilinear: the votes are enlarged bilinearly and the most at a pixel win, as models enlarge their logits. This draws
 *   contours finer than the cells. It is an oracle, not a bound: logits may say more than votes.
 */
export type Enlargement = (typeof enlargements)[number]

/** What the oracle of an output stride scored. */
export interface Ceiling {
  readonly stride: number
  readonly enlargement: Enlargement
  /** Of the whole set. */
  readonly confusion: readonly Cell[]
}

/**
 * The labels that the oracle predicts. The grid begins at the top left, and the last cells may be cut off.
 * @param truth [height * width] 0..253, or 255: void, which has no vote
 * @returns [height * width]; where no vote reaches, all is void
 */
export function oracle(
  truth: Uint8Array,
  size: ImageSize,
  { stride, enlargement }: { readonly stride: number; readonly enlargement: Enlargement },
): Uint8Array {
  if (!Number.isInteger(stride) || stride < 1) {
    throw new RangeError(`oracle: stride is ${stride}; expected a whole number of pixels above 0.`)
  }
  return enlargement === "nearest" ? nearest(truth, size, stride) : bilinear(truth, size, stride)
}

function nearest(truth: Uint8Array, { width, height }: ImageSize, stride: number): Uint8Array {
  const labels = new Uint8Array(truth.length)
  const votes = new Uint32Array(256)
  for (let top = 0; top < height; top += stride) {
    const bottom = Math.min(top + stride, height)
    for (let left = 0; left < width; left += stride) {
      const right = Math.min(left + stride, width)
      let [winner, most] = [255, 0]
      votes.fill(0)
      for (let y = top; y < bottom; y++) {
        for (let i = y * width + left; i < y * width + right; i++) {
          const label = truth[i] as number
          if (label === 255) continue
          votes[label]! += 1
          if ((votes[label] as number) > most) {
            most = votes[label] as number
            winner = label
          }
        }
      }
      for (let y = top; y < bottom; y++) labels.fill(winner, y * width + left, y * width + right)
    }
  }
  return labels
}

function bilinear(truth: Uint8Array, { width, height }: ImageSize, stride: number): Uint8Array {
  const columns = placesOf(width, stride)
  const { first, second, share } = columns
  const rows = placesOf(height, stride)
  const votes = votesOf(truth, { width, height }, stride)
  const labels = new Uint8Array(truth.length).fill(255)
  const most = new Float64Array(width) // of the row at hand
  const cells = new Float64Array(columns.cells) // one class's votes, between two rows of cells
  for (let y = 0; y < height; y++) {
    const row = labels.subarray(y * width, (y + 1) * width)
    const [above, below, down] = [rows.first[y] as number, rows.second[y] as number, rows.share[y] as number]
    most.fill(0)
    for (const [label, plane] of votes) {
      for (let c = 0; c < columns.cells; c++) {
        const a = plane[above * columns.cells + c] as number
        const b = plane[below * columns.cells + c] as number
        cells[c] = a + down * (b - a)
      }
      for (let x = 0; x < width; x++) {
        const a = cells[first[x] as number] as number
        const b = cells[second[x] as number] as number
        const value = a + (share[x] as number) * (b - a)
        if (value > (most[x] as number)) {
          most[x] = value
          row[x] = label
        }
      }
    }
  }
  return labels
}

/** Of each class in the truth, in their order, [rows, columns] pixels in each cell. */
function votesOf(
  truth: Uint8Array,
  { width, height }: ImageSize,
  stride: number,
): [label: number, plane: Float64Array][] {
  const columns = Math.ceil(width / stride)
  const planes: (Float64Array | undefined)[] = []
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / stride) * columns
    for (let x = 0; x < width; x++) {
      const label = truth[y * width + x] as number
      if (label === 255) continue
      planes[label] ??= new Float64Array(Math.ceil(height / stride) * columns)
      planes[label][row + Math.floor(x / stride)]! += 1
    }
  }
  return planes.flatMap((plane, label): [number, Float64Array][] => (plane ? [[label, plane]] : []))
}

/** Between which two cells each pixel lies, and how far on the way to the second (align_corners = false). */
function placesOf(length: number, stride: number) {
  const cells = Math.ceil(length / stride)
  const at = Float64Array.from({ length }, (_, x) => Math.min(Math.max((x + 0.5) / stride - 0.5, 0), cells - 1))
  const first = Int32Array.from(at, Math.floor)
  return {
    cells,
    first,
    second: first.map((c) => Math.min(c + 1, cells - 1)),
    share: at.map((place, x) => place - first[x]!),
  }
}
