// What kind of error each wrong pixel is: a border that is a little off, an object that was missed, one that is not there, or the
// wrong class. One mean IoU hides which it is, and each wants another remedy.
// In the spirit of TIDE, which asks the same of boxes: Bolya et al. 2020, https://arxiv.org/abs/2008.08115
// How far a border may be off: as in boundary IoU, Cheng et al. 2021, https://arxiv.org/abs/2103.16562
import { groupBy, sum } from "../arrays.ts"
import type { RgbImage } from "../data/image.ts"
import { ignoreIndex } from "../data/label-map.ts"
import type { Rgb } from "../data/png.ts"
import type { ImageSize } from "../metrics/image-size.ts"
import { bandWidth, ConfusionMatrix, meanIoU } from "../metrics/index.ts"
import { fromData, ShapeError, squaredDistance, tidy } from "../torch/index.ts"

export const errorKinds = ["right", "boundary", "missed", "false", "swap", "void"] as const
export type ErrorKind = (typeof errorKinds)[number]

/** The kinds that are errors. */
export const wrongKinds = ["boundary", "missed", "false", "swap"] as const satisfies readonly ErrorKind[]
export type WrongKind = (typeof wrongKinds)[number]

const numberOf = Object.fromEntries(errorKinds.map((kind, number) => [kind, number])) as Record<ErrorKind, number>

/**
 * What each pixel is:
 * - void: its truth is void. It counts nowhere and changes nothing: no prediction at such a pixel matters, and void beside an
 *   object is no border of it, though one that lies within a void band (as VOC's do) is found across the band
 * - right: the prediction is the truth
 * - boundary: wrong, but moving a border by `boundaryWidth` pixels would mend it: a + b - 1 <= boundaryWidth, where a is the distance to
 *   the nearest pixel that is truly of the predicted class, b that to the nearest one predicted as the true class. (Distances are exact,
 *   between the centres of pixels. Where a straight border is drawn D pixels beside its place, a + b - 1 = D for each pixel between.)
 *   So an object of which nothing was found is a missed object, also where it is narrower than the width, and a border is as wrong
 *   as it is far off: there is no rim of boundary errors around missed objects. The picture's edge is no border
 * - missed: any other pixel of an object where background is predicted
 * - false: any other pixel of background where an object is predicted
 * - swap: any other pixel of one object class where another is predicted; without a background class all others are
 * @param prediction [H, W] 0..K-1; at void pixels anything
 * @param truth [H, W] 0..K-1 or 255 (void)
 * @param options.background null where no class is background
 * @param options.boundaryWidth whole pixels; 0: nothing is a boundary error. Default: boundary IoU's band, 2 % of the image's
 *   diagonal (12 pixels for 500x375), because it is the same part of a scene in a large and in a small copy of an image
 * @returns [H, W] positions in `errorKinds`. A VOC image takes 12 ms of a busy core (AMD EPYC, n = 100)
 * @throws ShapeError when there are not width x height labels; RangeError for a width that is not a whole number
 */
export function classifyErrors(
  prediction: Uint8Array,
  truth: Uint8Array,
  size: ImageSize,
  { background, boundaryWidth = bandWidth(size) }: { background: number | null; boundaryWidth?: number },
): Uint8Array {
  const pixels = size.width * size.height
  if (prediction.length !== pixels || truth.length !== pixels) {
    throw new ShapeError(
      `classifyErrors: there are ${prediction.length} predictions and ${truth.length} true labels; ` +
        `expected ${size.width}x${size.height} = ${pixels}.`,
    )
  }
  if (!Number.isInteger(boundaryWidth) || boundaryWidth < 0) {
    throw new RangeError(`classifyErrors: boundaryWidth is ${boundaryWidth}; expected a whole number of pixels.`)
  }
  const kinds = new Uint8Array(pixels)
  const wrong: number[] = []
  for (let at = 0; at < pixels; at++) {
    const [t, p] = [truth[at]!, prediction[at]!]
    if (t === ignoreIndex) kinds[at] = numberOf.void
    else if (t !== p) {
      kinds[at] = p === background ? numberOf.missed : t === background ? numberOf.false : numberOf.swap
      wrong.push(at)
    }
  }

  const inside = new Uint8Array(pixels)
  const off = new Float64Array(pixels) // how far each wrong pixel is from its predicted class in the truth, and its true one in the prediction
  const addDistances = (classes: Uint8Array, map: Uint8Array): void => {
    for (const [k, places] of groupBy(wrong, (at) => classes[at]!)) {
      for (let at = 0; at < pixels; at++) inside[at] = map[at] === k && truth[at] !== ignoreIndex ? 1 : 0
      const squared = inside.includes(1) ? squaredDistanceTo(inside, size) : null
      for (const at of places) off[at]! += squared ? Math.sqrt(squared[at]!) : Number.POSITIVE_INFINITY
    }
  }
  addDistances(prediction, truth)
  addDistances(truth, prediction)
  for (const at of wrong) if (off[at]! - 1 <= boundaryWidth) kinds[at] = numberOf.boundary
  return kinds
}

/** [H, W] int32: how far outside pixels are from the nearest one inside, squared. */
const squaredDistanceTo = (inside: Uint8Array, { width, height }: ImageSize): Int32Array =>
  tidy(() => squaredDistance(fromData(inside, [height, width], { dtype: "bool" })).data()) as Int32Array

// --- what they add up to -----------------------------------------------------------------------------------------------

/** Errors of one image or of many, in plain numbers. */
export interface ErrorSummary {
  /** Pixels that are not void, and those of them that are wrong. */
  readonly pixels: number
  readonly wrong: number
  /** 0 to 1; null when nothing was counted. */
  readonly meanIoU: number | null
  readonly kinds: readonly {
    readonly kind: WrongKind
    readonly pixels: number
    /** Of all wrong pixels, 0 to 1; null when none is wrong. */
    readonly share: number | null
    /** What the mean IoU of the same images would be if these pixels were right: how much mending this kind can bring. */
    readonly meanIoUIfRight: number | null
  }[]
}

/** Adds up the errors of images. */
export class ErrorTally {
  /** By position in `errorKinds`, [truth, prediction] in pixels. */
  readonly #matrices: readonly ConfusionMatrix[]

  constructor(classes: number) {
    this.#matrices = errorKinds.map(() => new ConfusionMatrix(classes))
  }

  /**
   * @param kinds [H, W] from `classifyErrors` of the same prediction and truth
   * @throws RangeError for a label outside 0..K-1 that is not void
   */
  add(kinds: Uint8Array, prediction: Uint8Array, truth: Uint8Array): this {
    const { classes } = this.#matrices[0]!
    for (let at = 0; at < kinds.length; at++) {
      if (kinds[at] === numberOf.void) continue
      const [t, p] = [truth[at]!, prediction[at]!]
      if (t >= classes || p >= classes) {
        throw new RangeError(`ErrorTally: truth ${t} and prediction ${p} at pixel ${at}; expected 0..${classes - 1}.`)
      }
      this.#matrices[kinds[at]!]!.counts[t * classes + p]! += 1
    }
    return this
  }

  summary(): ErrorSummary {
    const total = ({ counts }: ConfusionMatrix) => sum(counts)
    const all = (mended?: WrongKind) => {
      const { classes } = this.#matrices[0]!
      const merged = new ConfusionMatrix(classes)
      for (const [number, matrix] of this.#matrices.entries()) {
        merged.merge(errorKinds[number] === mended ? asIfRight(matrix) : matrix)
      }
      return merged
    }
    const pixels = total(all())
    const wrong = pixels - total(this.#matrices[numberOf.right]!)
    return {
      pixels,
      wrong,
      meanIoU: meanIoU(all()).value,
      kinds: wrongKinds.map((kind) => {
        const ofKind = total(this.#matrices[numberOf[kind]]!)
        return {
          kind,
          pixels: ofKind,
          share: wrong > 0 ? ofKind / wrong : null,
          meanIoUIfRight: meanIoU(all(kind)).value,
        }
      }),
    }
  }
}

/** The same true pixels, all of them predicted as what they are. */
function asIfRight(matrix: ConfusionMatrix): ConfusionMatrix {
  const { classes } = matrix
  const right = new ConfusionMatrix(classes)
  for (const [cell, count] of matrix.counts.entries()) {
    const truth = Math.floor(cell / classes)
    right.counts[truth * classes + truth]! += count
  }
  return right
}

// --- as a picture ------------------------------------------------------------------------------------------------------

/**
 * Colours and words of an error map. The four of Okabe and Ito's palette (2008) that differ most in lightness too: L* is 46, 71,
 * 58 and 89, void has 100 and the dimmed image 32 at most, so that they can be told apart without colour vision and in print.
 */
export const errorLegend = [
  { kind: "boundary", name: "boundary", meaning: "a border that is a little off", color: [0, 114, 178] },
  { kind: "missed", name: "missed object", meaning: "background where there is an object", color: [230, 159, 0] },
  { kind: "false", name: "false object", meaning: "an object where there is background", color: [0, 158, 115] },
  { kind: "swap", name: "class swap", meaning: "another class than the object's", color: [240, 228, 66] },
  { kind: "void", name: "void", meaning: "not counted", color: [255, 255, 255] },
] as const satisfies readonly {
  readonly kind: Exclude<ErrorKind, "right">
  readonly name: string
  readonly meaning: string
  readonly color: Rgb
}[]

/**
 * The image in dark grey where the prediction is right, and the colours of `errorLegend` elsewhere.
 * @param kinds [H, W] from `classifyErrors`
 */
export function errorPicture({ width, height, data }: RgbImage, kinds: Uint8Array): RgbImage {
  const colors = errorKinds.map((kind) => errorLegend.find((entry) => entry.kind === kind)?.color)
  const rgb = new Uint8Array(data.length)
  for (let at = 0; at < kinds.length; at++) {
    const color = colors[kinds[at]!]
    const grey = 0.1 * (data[3 * at]! + data[3 * at + 1]! + data[3 * at + 2]!) // 0 to 76
    for (let c = 0; c < 3; c++) rgb[3 * at + c] = color ? color[c]! : grey
  }
  return { width, height, data: rgb }
}
