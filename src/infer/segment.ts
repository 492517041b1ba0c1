// Inference: images in, one label per pixel out. The model sees each image whole or window by window, in several sizes
// and mirrored, if asked to; what it says is averaged as probabilities.
//
//   image -> scale, mirror -> window -> model -> logits -> enlarge to the image's pixels -> softmax -> add up
//
// This is the order of TensorFlow's DeepLab (research/deeplab/model.py, predict_labels_multi_scale): logits go in one step from the
// size in which they are made to the image's, softmax comes after that, and probabilities are averaged, not logits. Windows lie
// in the scaled image, as in hszhao/semseg and mmsegmentation: the model sees parts of the size that it was trained on.
import { UserError } from "../errors.ts"
import { callAtStride, callIn, deviceOf, type SegmentationModel } from "../models/index.ts"
import { cropTo, softmax } from "../nn/index.ts"
import {
  aten,
  fromData,
  levers,
  noGrad,
  type Precision,
  ShapeError,
  type Tensor,
  tidy,
  upsampledArgmax,
} from "../torch/index.ts"
import { blend } from "./blend.ts"
import { padForCorners } from "./pad.ts"
import { defaultMemory, planViews } from "./plan.ts"

/** How a model is applied to images. Nothing given: once to each whole image, or in windows where memory would not suffice. */
export interface InferenceOptions {
  /** Sizes in which the model sees the image, as factors of its own. Default: [1]. */
  readonly scales?: readonly number[]
  /** Whether it also sees each of them mirrored left to right. Default: false. */
  readonly flip?: boolean
  /**
   * [height, width] in pixels of the part of the scaled image that it sees at once; null: all of it, whatever that takes.
   * Default: all of it where `memory` suffices, otherwise the largest square for which it does.
   */
  readonly window?: readonly [height: number, width: number] | null
  /**
   * Share of a window, from 0 to below 1, that it has at least in common with the next one. Default: 0.5; 0.25 of windows that
   * `memory` asks for, which are large. On half of VOC's validation images (7 classes, LR-ASPP trained on crops of 256) windows of
   * 256 gave 56.9 % mean IoU without overlap, 59.8 with 0.25, 60.1 with 0.5, 61.5 with 0.75; whole images 58.6.
   */
  readonly overlap?: number
  /** Bytes that inference may take besides images and results. Default: 2 GiB, or a quarter of the machine's where that is less. */
  readonly memory?: number
  /** Of the model's forward; its probabilities are float32. Default: float32, or of a run's model what the run was trained in. */
  readonly precision?: Precision
}

export interface SegmentOptions extends InferenceOptions {
  /** Whether the probability of each label is wanted. */
  readonly confidence?: boolean
  /** Whether the probabilities of all classes are wanted: of 21 classes on 20 megapixels they take 1.7 GB. */
  readonly probabilities?: boolean
  /** Called after each window: how many are done, and how many there are. */
  readonly onProgress?: (done: number, total: number) => void
}

export interface Segmentation {
  /** [N, H, W] in 0..K-1 */
  labels: Uint8Array
  /** [N, H, W] probability of the label */
  confidence?: Float32Array
  /** [N, K, H, W] */
  probabilities?: Float32Array
}

type Shape = readonly [n: number, h: number, w: number]

/**
 * The most probable class of each pixel. Besides images and results it takes about `memory` bytes; rows are finished from
 * top to bottom, and only those that are not final are kept for all classes.
 * @param model in eval() mode: batch-norm with one image's own statistics would give something else
 * @param images [N, 3, H, W] float32, normalised, row by row
 * @throws UserError for options that make no sense
 */
export function segment(
  model: SegmentationModel,
  images: Float32Array,
  [n, h, w]: Shape,
  options: SegmentOptions = {},
): Segmentation {
  if (model.training) throw new Error("segment: the model is in training mode; call model.eval() first.")
  if (images.length !== n * 3 * h * w)
    throw new ShapeError(`segment: got ${images.length} values, expected [${n}, 3, ${h}, ${w}].`)
  checkInference(options)
  const { scales = [1], flip = false, window, memory = defaultMemory(), precision = "float32", onProgress } = options
  const overlap = options.overlap ?? (window === undefined ? 0.25 : 0.5)
  using _ = noGrad()
  const { views, together } = planViews(model, [n, h, w], { scales, flip, window, overlap, memory, precision })
  const device = deviceOf(model)
  const windows = views.reduce((sum, { rows, columns }) => sum + rows.spans.length * columns.spans.length, 0)
  const total = windows * Math.ceil(n / together)
  let done = 0
  const onWindow = () => onProgress?.(++done, total)

  const result: Segmentation = { labels: new Uint8Array(n * h * w) }
  for (let first = 0; first < n; first += together) {
    const count = Math.min(together, n - first)
    const part = images.subarray(first * 3 * h * w, (first + count) * 3 * h * w)
    const shape = [count, h, w] as const
    if (windows === 1 && views[0]!.rows.scaled === h && views[0]!.columns.scaled === w) {
      tidy(() => {
        const padded = padForCorners(fromData(part, [count, 3, h, w], { device }), model)
        if (levers.upsampleLabels && !options.confidence && !options.probabilities) {
          result.labels.set(labelsOf(model, padded, [h, w], precision), first * h * w)
          return
        }
        const logits = cropTo(callIn(precision, model, padded).logits, [h, w])
        write(result, logits, () => softmax(logits, 1), { first, top: 0 }, [n, h, w], options)
      })
      onWindow()
    } else {
      const onRows = (probabilities: Tensor, top: number) =>
        write(result, probabilities, () => probabilities, { first, top }, [n, h, w], options)
      blend(model, part, shape, { views, precision, onRows, onWindow })
    }
  }
  return result
}

/** The most probable class of each pixel, [n, h, w], without the logits of all pixels. @param image [n, 3, H, W] */
function labelsOf(
  model: SegmentationModel,
  image: Tensor,
  [h, w]: readonly [number, number],
  precision: Precision,
): Uint8Array {
  const { logits } = callAtStride(model, image, precision)
  const labels = upsampledArgmax(logits, [image.size(2), image.size(3)], { alignCorners: model.alignCorners })
  return labels.narrow(1, 0, h).narrow(2, 0, w).data() as Uint8Array
}

/**
 * Puts rows that are final into the result.
 * @param scores [n, K, rows, W], whose largest is the label
 * @param probabilities the same as probabilities
 * @param place of the first image and row
 */
function write(
  result: Segmentation,
  scores: Tensor,
  probabilities: () => Tensor,
  { first, top }: { first: number; top: number },
  [n, h, w]: Shape,
  wanted: { confidence?: boolean; probabilities?: boolean },
): void {
  const [count, k, rows] = scores.shape as [number, number, number, number]
  const put = <T extends Uint8Array | Float32Array>(into: T, planes: number, values: Tensor): void => {
    const data = values.data() as T
    for (let plane = 0; plane < count * planes; plane++) {
      const at = ((first * planes + plane) * h + top) * w
      into.set(data.subarray(plane * rows * w, (plane + 1) * rows * w), at)
    }
  }
  const [, labels] = aten.max_dim(scores, 1) // takes a third of argmax's time, and gives the first of equals too
  put(result.labels, 1, labels.to({ dtype: "uint8" }))
  if (wanted.confidence) {
    result.confidence ??= new Float32Array(n * h * w)
    put(result.confidence, 1, probabilities().max({ dim: 1 }).clamp({ max: 1 })) // sums of shares may pass 1 by rounding
  }
  if (wanted.probabilities) {
    result.probabilities ??= new Float32Array(n * k * h * w)
    put(result.probabilities, k, probabilities())
  }
}

/** Whether nothing is asked for but what is done anyway. */
export const isPlain = (options: InferenceOptions): boolean =>
  Object.values(options).every((value) => value === undefined)

/** @throws UserError naming the option, what it is, and what it should be */
export function checkInference({ scales, window, overlap, memory }: InferenceOptions): void {
  const fail = (name: string, got: unknown, expected: string): never => {
    throw new UserError(`${name}: got ${got}; expected ${expected}.`)
  }
  if (
    scales &&
    (scales.length === 0 || !scales.every((s) => s >= 0.1 && s <= 10) || new Set(scales).size < scales.length)
  )
    fail(
      "scales",
      scales.join(",") || "none",
      "different factors of the image's size from 0.1 to 10, such as 0.5,0.75,1",
    )
  if (window && !(window.length === 2 && window.every((side) => Number.isInteger(side) && side >= 2)))
    fail("window", window.join(","), "height and width in whole pixels, at least 2")
  if (overlap !== undefined && !(overlap >= 0 && overlap < 1))
    fail("overlap", overlap, "the share of a window that it has in common with the next one, from 0 to below 1")
  if (overlap !== undefined && window === null) fail("overlap", overlap, "none, since whole images have no windows")
  if (memory !== undefined && !(memory > 0)) fail("memory", memory, "bytes, above 0")
}
