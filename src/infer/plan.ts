// What a model is asked about an image: in which sizes it looks at it, mirrored or not, and through which windows, so that
// memory suffices.
import { callIn, deviceOf, type SegmentationModel } from "../models/index.ts"
import { memory, type Precision, resetPeakMemory, tidy, zeros } from "../torch/index.ts"
import { type Axis, mirrored, planAxis, type Span } from "./windows.ts"

/** One look at the image: in one size, mirrored or not. */
export interface View {
  readonly isMirrored: boolean
  readonly rows: Axis
  readonly columns: Axis
}

export interface Plan {
  readonly views: readonly View[]
  /** How many images are seen at once. */
  readonly together: number
}

export interface PlanOptions {
  readonly scales: readonly number[]
  readonly flip: boolean
  /** null: whole images; undefined: windows only where memory does not suffice. */
  readonly window: readonly [height: number, width: number] | null | undefined
  readonly overlap: number
  /** Bytes. */
  readonly memory: number
  readonly precision: Precision
}

export const defaultMemory = (): number => Math.min(2 * 2 ** 30, memory().limitBytes / 4)

/** Up to this many pixels images are not cut up unasked, and memory is not even estimated. */
const SMALL = 512 * 512

/** Sides of the windows that are tried, in pixels. */
const WINDOWS = [4096, 3072, 2560, 2048, 1536, 1280, 1024, 768, 640, 512, 384, 256] as const

/** @param shape of the images, which all have one size */
export function planViews(
  model: SegmentationModel,
  [n, h, w]: readonly [n: number, h: number, w: number],
  { scales, flip, window, overlap, memory, precision }: PlanOptions,
): Plan {
  const viewsThrough = (height: number, width: number): View[] =>
    scales.flatMap((scale) => {
      const options = { scale, overlap, alignCorners: model.alignCorners ?? false }
      const rows = planAxis(h, { ...options, window: height })
      const columns = planAxis(w, { ...options, window: width })
      const view = { isMirrored: false, rows, columns }
      return flip ? [view, { isMirrored: true, rows, columns: mirrored(columns) }] : [view]
    })
  const fit = (views: readonly View[], n: number): boolean => {
    const largest = Math.max(h * w, ...views.map(({ rows, columns }) => rows.scaled * columns.scaled)) // pixels
    return n * largest <= SMALL || n * bytesOf(views, costOf(model, precision)) <= memory
  }

  let views = window ? viewsThrough(...window) : viewsThrough(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
  if (window === undefined && !fit(views, 1)) {
    for (const side of WINDOWS) {
      views = viewsThrough(side, side)
      if (fit(views, 1)) break // or the smallest, even where that is too large
    }
  }
  return { views, together: fit(views, n) ? n : 1 }
}

/** A row of windows: how one view sees the rows of a span. */
export interface WindowRow {
  readonly view: View
  readonly span: Span
}

/** All rows of windows, by the first row of the image that they speak about: what is above that is final. */
export function windowRows(views: readonly View[]): WindowRow[] {
  const all = views.flatMap((view) => view.rows.spans.map((span) => ({ view, span })))
  return all.sort((a, b) => a.span.from - b.span.from)
}

/** The most rows of the image of which something but not all is known, at any time. */
export function openRows(windowRows: readonly WindowRow[]): number {
  let [bottom, most] = [0, 0]
  for (const { span } of windowRows) {
    bottom = Math.max(bottom, span.to)
    most = Math.max(most, bottom - span.from)
  }
  return most
}

interface Cost {
  /** That the model takes at its highest, for each pixel that it sees; its logits at that size are among them. */
  readonly bytesPerPixel: number
  readonly classes: number
}

/** Bytes for one image. */
function bytesOf(views: readonly View[], { bytesPerPixel, classes }: Cost): number {
  const most = (spans: readonly Span[]) => Math.max(...spans.map(({ from, to }) => to - from))
  const perWindow = views.map(({ rows, columns }) => {
    const region = most(rows.spans) * most(columns.spans) // pixels of the image
    const cut = 2 * 3 * 4 * region // what it sees, as an array and as a tensor
    // One after the other, but freed blocks are kept for the next tensors of their size, so both count.
    return cut + bytesPerPixel * rows.length * columns.length + 3 * 4 * classes * region
  })
  // Of rows that are not final: sums, and then their labels as int64, values and bytes.
  const open = (4 * classes + 13) * openRows(windowRows(views)) * views[0]!.columns.side
  return open + Math.max(...perWindow)
}

const PROBE = 256 // pixels a side
const costs: Record<Precision, WeakMap<SegmentationModel, Cost>> = {
  float32: new WeakMap(),
  bfloat16: new WeakMap(),
  float16: new WeakMap(),
}

/** What a model takes of the CPU's memory in a precision, measured once: on CUDA next to nothing. This begins the count of `memory().peakBytes` anew. */
function costOf(model: SegmentationModel, precision: Precision): Cost {
  const known = costs[precision].get(model)
  if (known) return known
  const cost = tidy(() => {
    const image = zeros([1, 3, PROBE, PROBE], { device: deviceOf(model) })
    const { liveBytes } = memory()
    resetPeakMemory()
    const { logits } = callIn(precision, model, image)
    return { bytesPerPixel: (memory().peakBytes - liveBytes) / PROBE ** 2, classes: logits.size(1) }
  })
  costs[precision].set(model, cost)
  return cost
}
