// Where windows lie along one axis of an image, and how much each has to say. The two axes of an image are planned apart:
// the share of a window in a pixel is its share in the row times its share in the column.
//
// Windows are blended with a Gaussian of an eighth of their length around their middle, as in nnU-Net (Isensee et al. 2021,
// https://doi.org/10.1038/s41592-020-01008-z): near its edge a window lacks context and counts least. A Hann window is 0 at its
// edge and would need half of each window as overlap to add up evenly; the Gaussian is above 0 everywhere, so that dividing by the sum
// gives a sensible blend at any overlap.

/** One window along one axis, and the image's pixels that it says something about. */
export interface Span {
  /** First pixel of the scaled image that the window sees. */
  readonly start: number
  /** Pixels of the image, from `from` to before `to`. */
  readonly from: number
  readonly to: number
  /** [to - from] where those lie in the window, in its pixels. */
  readonly positions: Float64Array
  /** [to - from] the window's share of each; those of all windows add up to 1. */
  readonly shares: Float64Array
}

export interface Axis {
  /** Pixels of the image. */
  readonly side: number
  /** Pixels of the scaled image. */
  readonly scaled: number
  /** Pixels of a window in the scaled image. */
  readonly length: number
  readonly spans: readonly Span[]
}

export interface AxisOptions {
  readonly scale: number
  /** Pixels; the scaled image where that is smaller. */
  readonly window: number
  /** Share of a window that it has in common with the next one at least. */
  readonly overlap: number
  readonly alignCorners: boolean
}

/** The windows along an axis of `side` pixels: as few as have the overlap, at even distances, the first and last at the ends. */
export function planAxis(side: number, { scale, window, overlap, alignCorners }: AxisOptions): Axis {
  const scaled = scaledSide(side, scale, alignCorners)
  const length = Math.min(window, scaled)
  // Of another size than the image, it has pixels between its own: without one in common, what lies between the last pixel of a
  // window and the first of the next would be nobody's.
  const common = Math.max(scaled === side ? 0 : 1, Math.ceil(length * overlap))
  const starts = windowStarts(scaled, length, Math.max(1, length - common))
  const positions = Float64Array.from({ length: side }, (_, i) => positionIn(i, side, scaled, alignCorners))
  const weight = (start: number, position: number) => gaussian(position - start, length)
  // A pixel lies between two of the scaled image: a window that sees both of them can tell.
  const sees = (start: number, position: number) => position >= start && position <= start + length - 1
  const sums = positions.map((position) =>
    starts.reduce((sum, start) => sum + (sees(start, position) ? weight(start, position) : 0), 0),
  )
  const spans = starts.map((start) => {
    const from = positions.findIndex((position) => sees(start, position))
    const to = positions.findLastIndex((position) => sees(start, position)) + 1
    const seen = positions.subarray(from, to)
    return {
      start,
      from,
      to,
      positions: seen.map((position) => position - start),
      shares: seen.map((position, i) => weight(start, position) / sums[from + i]!),
    }
  })
  return { side, scaled, length, spans: spans.filter(({ from }) => from >= 0) }
}

/** The same windows on the mirrored image, as the image sees them: `start` still counts in the mirrored one. */
export const mirrored = (axis: Axis): Axis => ({
  ...axis,
  spans: axis.spans.map(({ start, from, to, positions, shares }) => ({
    start,
    from: axis.side - to,
    to: axis.side - from,
    positions: positions.toReversed(),
    shares: shares.toReversed(),
  })),
})

/** DeepLab's rule keeps 513 = 32 * 16 + 1 of that form where corners are aligned. */
function scaledSide(side: number, scale: number, alignCorners: boolean): number {
  return Math.max(1, alignCorners ? Math.floor((side - 1) * scale + 1) : Math.round(side * scale))
}

/** Where pixel `i` of `from` lies in the same axis of `to` pixels, as interpolate() has it; `i` may be between pixels. */
export function positionIn(i: number, from: number, to: number, alignCorners: boolean): number {
  const position = alignCorners ? (from > 1 ? (i * (to - 1)) / (from - 1) : 0) : ((i + 0.5) * to) / from - 0.5
  return Math.min(to - 1, Math.max(0, position))
}

/** @param step pixels from one to the next at most */
function windowStarts(scaled: number, length: number, step: number): number[] {
  if (length === scaled) return [0]
  const gaps = Math.ceil((scaled - length) / step)
  return Array.from({ length: gaps + 1 }, (_, k) => Math.round((k * (scaled - length)) / gaps))
}

function gaussian(position: number, length: number): number {
  return Math.exp(-0.5 * ((position - (length - 1) / 2) / (length / 8)) ** 2)
}
