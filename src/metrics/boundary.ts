// How well contours are drawn, class by class within one image: boundary IoU, boundary F1 and Hausdorff distance.
// IoU forgives a bad contour of a large object and never a good one of a small object; these look at contours alone.
//
// - Boundary IoU: IoU of the bands, the pixels of a class within a width of its contour.
//   Cheng et al. 2021, https://arxiv.org/abs/2103.16562
// - Boundary F1: precision is the share of the predicted contour within a tolerance of the true one, recall the reverse.
//   Csurka et al. 2013, What is a good evaluation measure for semantic segmentation?, BMVC
// - 95th-percentile Hausdorff distance: the larger of the two 95th percentiles of how far the pixels of one contour are from
//   the other contour. Huttenlocher et al. 1993, Comparing images using the Hausdorff distance
//
// The contour of a class is its pixels beside a pixel of another label (4 neighbours) or at the image's frame: frame included as
// in the code of Cheng et al. and in SciPy's erosion. Void is put into the prediction where the truth has it: contours that
// end at void are there in both, and what was predicted under void changes nothing.
import type { ImageSize } from "./image-size.ts"

/** What boundary IoU and boundary F1 of one class need, in pixels. Sums over images mean something. */
export interface BoundaryCounts {
  readonly class: number
  /** Boundary IoU: pixels in the bands of truth and prediction both, and in either. */
  readonly bandBoth: number
  readonly bandEither: number
  /** Boundary F1: contour pixels of the prediction, and those of them within the tolerance of the truth's contour. */
  readonly predicted: number
  readonly predictedNear: number
  /** Contour pixels of the truth, and those of them within the tolerance of the prediction's contour. */
  readonly truth: number
  readonly truthNear: number
}

/** Width of boundary IoU's band as a share of the image's diagonal: Cheng et al.'s. */
export const BAND_SHARE = 0.02
/** Tolerance of boundary F1 as a share of the image's diagonal: Csurka et al.'s. */
export const TOLERANCE_SHARE = 0.0075

/** Width of the band in whole pixels, at least 1; a half goes to the even one, as in Cheng et al.'s code. 500 x 375: 12. */
export function bandWidth(size: ImageSize): number {
  const share = BAND_SHARE * diagonal(size)
  const whole = Math.floor(share)
  const up = share - whole > 0.5 || (share - whole === 0.5 && whole % 2 === 1)
  return Math.max(1, up ? whole + 1 : whole)
}

/** Tolerance in pixels, straight distance, not rounded. 500 x 375: 4.69. */
export const contourTolerance = (size: ImageSize): number => TOLERANCE_SHARE * diagonal(size)

export interface ImageBoundaries {
  /** Of each class in truth or prediction, in their order. */
  readonly counts: readonly BoundaryCounts[]
  /** [classes] in pixels; null where the truth or the prediction lacks the class. */
  readonly hausdorff95: readonly (number | null)[]
}

/**
 * @param prediction [height * width] 0..K-1; anything where the truth is void
 * @param truth [height * width] 0..K-1, or 255: void
 * @param classes K
 */
export function measureBoundaries(
  prediction: Uint8Array,
  truth: Uint8Array,
  size: ImageSize,
  classes: number,
): ImageBoundaries {
  const predicted = prediction.slice()
  for (let i = 0; i < truth.length; i++) if (truth[i] === 255) predicted[i] = 255
  const [ofTruth, ofPrediction] = [trace(truth, size), trace(predicted, size)]
  const bands = countBands(predicted, truth, ofPrediction.interior, ofTruth.interior)
  const [trueContours, predictedContours] = [
    contourPixels(truth, ofTruth.contour),
    contourPixels(predicted, ofPrediction.contour),
  ]
  const near = contourTolerance(size) ** 2
  const counts: BoundaryCounts[] = []
  const hausdorff95 = new Array<number | null>(classes).fill(null)
  for (let k = 0; k < classes; k++) {
    const [t, p] = [trueContours(k), predictedContours(k)]
    if (t.length === 0 && p.length === 0) continue // every pixel of a class is inside some contour of it
    const [fromPrediction, fromTruth] = [squaredDistances(p, t, size), squaredDistances(t, p, size)]
    counts.push({
      class: k,
      bandBoth: bands.both[k] as number,
      bandEither: bands.either[k] as number,
      predicted: p.length,
      predictedNear: countUpTo(fromPrediction, near),
      truth: t.length,
      truthNear: countUpTo(fromTruth, near),
    })
    if (t.length > 0 && p.length > 0) {
      hausdorff95[k] = Math.max(percentile95(fromPrediction), percentile95(fromTruth))
    }
  }
  return { counts, hausdorff95 }
}

// --- bands and contours ---------------------------------------------------------------------------------------------------

interface Trace {
  /** [height * width] 1 at contour pixels, of void too. */
  readonly contour: Uint8Array
  /** [height * width] 1 where all within the band's width, rows and columns alike, is one label and inside the image. */
  readonly interior: Uint8Array
}

/**
 * Contours and bands of all classes in one pass: a square of pixels is of one label where each of its columns is, and
 * neighbours are the same.
 */
function trace(labels: Uint8Array, size: ImageSize): Trace {
  const { width, height } = size
  const reach = bandWidth(size)
  const side = 2 * reach + 1
  const contour = new Uint8Array(labels.length)
  const interior = new Uint8Array(labels.length)
  const tops = new Int32Array(width) // of each column, the row from which on all down to here is one label
  for (let y = 0; y < height; y++) {
    const toAbove = y > 0 ? width : 0
    const highest = y - side + 1
    let across = 0 // how many columns to the left have one label in the last `side` rows
    let left = labels[y * width] as number
    for (let x = 0; x < width; x++) {
      const i = y * width + x
      const label = labels[i] as number
      if (labels[i - toAbove] !== label) {
        contour[i] = contour[i - toAbove] = 1
        tops[x] = y
      }
      if (left !== label) {
        contour[i] = contour[i - 1] = 1
        across = 0
        left = label
      }
      across = (tops[x] as number) <= highest ? across + 1 : 0
      if (across >= side) interior[i - reach * width - reach] = 1
    }
  }
  contour.fill(1, 0, width)
  contour.fill(1, (height - 1) * width)
  for (let y = 0; y < height; y++) contour[y * width] = contour[(y + 1) * width - 1] = 1
  return { contour, interior }
}

// Both loops below pass four pixels at once where there is nothing to count, which is nearly everywhere. (They come to the first of
// four first, and the last one to three are in no four.)
const inFours = (flags: Uint8Array): Int32Array => new Int32Array(flags.buffer, 0, flags.length >> 2)
const FOUR_ONES = 0x01010101

/** Of each label [256], pixels in the bands of both, and in either. */
function countBands(predicted: Uint8Array, truth: Uint8Array, predictedInterior: Uint8Array, trueInterior: Uint8Array) {
  const both = new Uint32Array(256)
  const either = new Uint32Array(256)
  const predictedFours = inFours(predictedInterior)
  const trueFours = inFours(trueInterior)
  for (let i = 0; i < truth.length; i++) {
    if (((predictedFours[i >> 2] as number) & (trueFours[i >> 2] as number)) === FOUR_ONES) {
      i += 3
      continue
    }
    const inTruth = trueInterior[i] === 0
    const inPrediction = predictedInterior[i] === 0
    const t = truth[i] as number
    const p = predicted[i] as number
    if (t === p) {
      if (inTruth || inPrediction) either[t]! += 1
      if (inTruth && inPrediction) both[t]! += 1
    } else {
      if (inTruth) either[t]! += 1
      if (inPrediction) either[p]! += 1
    }
  }
  return { both, either }
}

/** The contour pixels of each class, row by row. */
function contourPixels(labels: Uint8Array, contour: Uint8Array): (label: number) => Int32Array {
  const fours = inFours(contour)
  const found = scratch(0, labels.length)
  const sizes = new Uint32Array(256)
  let count = 0
  for (let i = 0; i < labels.length; i++) {
    if (fours[i >> 2] === 0) {
      i += 3
      continue
    }
    if (contour[i] === 0) continue
    found[count++] = i
    sizes[labels[i] as number]! += 1
  }
  const next = new Uint32Array(256)
  for (let label = 1; label < 256; label++) next[label] = (next[label - 1] as number) + (sizes[label - 1] as number)
  const pixels = new Int32Array(count)
  for (let n = 0; n < count; n++) {
    const label = labels[found[n] as number] as number
    pixels[next[label] as number] = found[n] as number
    next[label]! += 1
  }
  return (label) => pixels.subarray((next[label] as number) - (sizes[label] as number), next[label])
}

// --- distances ------------------------------------------------------------------------------------------------------------

/**
 * From each of some pixels the squared distance to the nearest of others, exactly: as in a distance transform first each
 * column by itself, then along the row, but only for the pixels asked for, and only as far as something nearer can be.
 * @param from, to pixels, row by row
 * @returns as many as `from`; Infinity when there is nothing to go to
 */
function squaredDistances(from: Int32Array, to: Int32Array, { width }: ImageSize): Float64Array {
  const distances = new Float64Array(from.length)
  if (to.length === 0 || from.length === 0) return distances.fill(Number.POSITIVE_INFINITY)
  const box = boxOf([from, to], width)
  const { above, below } = nearestInColumns(to, box, width)
  for (let n = 0; n < from.length; n++) {
    const pixel = from[n] as number
    const y = Math.floor(pixel / width) - box.top
    const x = (pixel % width) - box.left
    const at = y * box.width + x
    const toRight = box.width - 1 - x
    let steps = Math.min(y - (above[at] as number), (below[at] as number) - y)
    let least = steps * steps
    for (let dx = 1; dx * dx < least && (dx <= x || dx <= toRight); dx++) {
      if (dx <= x) {
        steps = Math.min(y - (above[at - dx] as number), (below[at - dx] as number) - y)
        least = Math.min(least, dx * dx + steps * steps)
      }
      if (dx <= toRight) {
        steps = Math.min(y - (above[at + dx] as number), (below[at + dx] as number) - y)
        least = Math.min(least, dx * dx + steps * steps)
      }
    }
    distances[n] = least
  }
  return distances
}

interface Box extends ImageSize {
  readonly left: number
  readonly top: number
}

function boxOf(sets: readonly Int32Array[], imageWidth: number): Box {
  let [left, right, top, bottom] = [imageWidth, -1, Number.POSITIVE_INFINITY, -1]
  for (const pixels of sets) {
    top = Math.min(top, Math.floor((pixels[0] as number) / imageWidth))
    bottom = Math.max(bottom, Math.floor((pixels.at(-1) as number) / imageWidth))
    for (let n = 0; n < pixels.length; n++) {
      const x = (pixels[n] as number) % imageWidth
      if (x < left) left = x
      if (x > right) right = x
    }
  }
  return { left, top, width: right - left + 1, height: bottom - top + 1 }
}

/**
 * Of each pixel of the box the rows of the nearest of some pixels in its column, not below and not above it; where there is none, a
 * row that is further than any pixel. Rows are copied from their neighbours as a whole: nothing is computed at a pixel.
 */
function nearestInColumns(pixels: Int32Array, { left, top, width, height }: Box, imageWidth: number) {
  const above = scratch(0, width * height)
  const below = scratch(1, width * height)
  above.fill(-width - height, 0, width)
  for (let y = 0, n = 0; y < height; y++) {
    if (y > 0) above.copyWithin(y * width, (y - 1) * width, y * width)
    for (const end = (top + y + 1) * imageWidth; n < pixels.length && (pixels[n] as number) < end; n++) {
      above[y * width + ((pixels[n] as number) % imageWidth) - left] = y
    }
  }
  below.fill(width + 2 * height, (height - 1) * width)
  for (let y = height - 1, n = pixels.length - 1; y >= 0; y--) {
    if (y < height - 1) below.copyWithin(y * width, (y + 1) * width, (y + 2) * width)
    for (const start = (top + y) * imageWidth; n >= 0 && (pixels[n] as number) >= start; n--) {
      below[y * width + ((pixels[n] as number) % imageWidth) - left] = y
    }
  }
  return { above, below }
}

const kept: Int32Array[] = []
/**
 * Memory for a moment, not empty. It is used again by the next image: to come by as much anew takes longer than what is done with
 * it. That of large images is not kept.
 */
function scratch(which: 0 | 1, length: number): Int32Array {
  if (length > 2 ** 20) return new Int32Array(length)
  if ((kept[which]?.length ?? 0) < length) kept[which] = new Int32Array(length)
  return (kept[which] as Int32Array).subarray(0, length)
}

function countUpTo(values: Float64Array, most: number): number {
  let count = 0
  for (let n = 0; n < values.length; n++) if ((values[n] as number) <= most) count++
  return count
}

/** 95th percentile of distances, in between two of them linearly (NumPy's default). Puts the squared distances in order. */
function percentile95(squared: Float64Array): number {
  squared.sort()
  const place = 0.95 * (squared.length - 1)
  const lower = Math.sqrt(squared[Math.floor(place)] as number)
  const upper = Math.sqrt(squared[Math.ceil(place)] as number)
  return lower + (place - Math.floor(place)) * (upper - lower)
}

// Not Math.hypot, which rounds more than once: 500 x 375 has exactly 625.
const diagonal = ({ width, height }: ImageSize): number => Math.sqrt(width * width + height * height)
