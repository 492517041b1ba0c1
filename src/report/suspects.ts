// Labels that may be wrong: regions where the model is sure of something else. Where a trained model errs with confidence, and not
// just along a border, it is often the truth that errs: an object that nobody labelled, or that got another class.
// Northcutt et al. 2021, Confident learning, https://arxiv.org/abs/1911.00068, by regions instead of pixels as in Rottmann and
// Reese 2023, Automated detection of label errors in semantic segmentation datasets via deep learning and uncertainty
// quantification, https://arxiv.org/abs/2207.06104
// It says where to look, not what is wrong: a model that is sure and mistaken looks the same.
import { connectedComponents } from "../data/components.ts"
import { ShapeError } from "../torch/index.ts"
import { classifyErrors, errorKinds } from "./errors.ts"

/** A connected region of one true class in which another is predicted. */
export interface Suspect {
  /** The image. */
  readonly id: string
  readonly truth: number
  readonly prediction: number
  /** The smallest box around it, in pixels. */
  readonly box: Box
  readonly pixels: number
  /** Mean probability of the predicted class in the region, 0 to 1. */
  readonly confidence: number
}

export type Box = readonly [x: number, y: number, width: number, height: number]

export interface SuspectOptions {
  /** Least mean confidence of a region; default 0.8. */
  readonly minConfidence?: number
  /** Least size of a region; default: a thousandth of the image, at least 16 pixels. */
  readonly minPixels?: number
  /** See `classifyErrors`: boundary errors are nobody's label error. */
  readonly boundaryWidth?: number
  /** [H, W] what `classifyErrors` said of this image, where that is known: most of the time goes into it. */
  readonly kinds?: Uint8Array
}

/**
 * The regions of an image whose labels look wrong, the most suspicious first (see `bySuspicion`).
 * @param image.prediction [H, W] the most probable class, 0..K-1
 * @param image.truth [H, W] 0..K-1 or 255 (void), which is never suspicious
 * @param image.confidence [H, W] probability of the predicted class, 0 to 1
 * @throws ShapeError when the sizes differ
 */
export function suspectedLabelErrors(
  image: {
    readonly id: string
    readonly width: number
    readonly height: number
    readonly prediction: Uint8Array
    readonly truth: Uint8Array
    readonly confidence: Float32Array
  },
  {
    minConfidence = 0.8,
    minPixels,
    boundaryWidth,
    kinds = classifyErrors(image.prediction, image.truth, image, { background: null, boundaryWidth }),
  }: SuspectOptions = {},
): Suspect[] {
  const { id, width, height, prediction, truth, confidence } = image
  if (confidence.length !== truth.length) {
    throw new ShapeError(
      `suspectedLabelErrors: there are ${confidence.length} confidences; expected ${truth.length}, one for each label.`,
    )
  }
  const pairs = new Uint16Array(truth.length).fill(NONE)
  for (let at = 0; at < pairs.length; at++) if (isSuspicious[kinds[at]!]) pairs[at] = 256 * truth[at]! + prediction[at]!
  const { ids, components } = connectedComponents(pairs, { width, height }, { ignore: [NONE] })
  const sums = new Float64Array(components.length)
  for (let at = 0; at < ids.length; at++) if (ids[at]! >= 0) sums[ids[at]!]! += confidence[at]!

  const enough = minPixels ?? Math.max(16, Math.ceil((width * height) / 1000))
  return components
    .map(({ label, pixels, box }, k) => ({
      id,
      truth: label >> 8,
      prediction: label & 255,
      box,
      pixels,
      confidence: sums[k]! / pixels,
    }))
    .filter((suspect) => suspect.pixels >= enough && suspect.confidence >= minConfidence)
    .sort(bySuspicion)
}

const isSuspicious = errorKinds.map((kind) => kind === "missed" || kind === "false" || kind === "swap")
const NONE = 65535 // void predicted as void: no pair of classes

/**
 * Order for `sort`, also across images: confidence times the side of a square as large as the region.
 *
 * Tried on VOC: LR-ASPP on MobileNetV2 0.35 (7 classes, 55 % mIoU), 180 validation images, in which one object of every third or fourth
 * image was given another class or none, 149 in 3 draws. Of the first 20 suspects, 15.3 on average were such objects. Sizes alone found
 * 14.7, confidence alone 1.7: it puts specks first. With a least confidence of 0.9 there were 11, because only few are left, with 0.5
 * there were 13.3. A weak model is right less often; then look at the first ones only.
 */
export const bySuspicion = (a: Suspect, b: Suspect): number =>
  b.confidence * Math.sqrt(b.pixels) - a.confidence * Math.sqrt(a.pixels)

/** A box with surroundings, to show a suspect in: half its longer side around it, at least 32 pixels, inside the image. */
export function cropAround(
  [x, y, width, height]: Box,
  image: { readonly width: number; readonly height: number },
): Box {
  const margin = Math.max(32, Math.round(Math.max(width, height) / 2))
  const [left, top] = [Math.max(0, x - margin), Math.max(0, y - margin)]
  const right = Math.min(image.width, x + width + margin)
  const bottom = Math.min(image.height, y + height + margin)
  return [left, top, right - left, bottom - top]
}
