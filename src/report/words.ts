// Numbers as people read them, in tables of the terminal and of pages alike.
import type { InferenceOptions } from "../infer/segment.ts"
import type { Enlargement, Interval, MetricName, Scores } from "../metrics/index.ts"

export const metricTitles: Readonly<Record<MetricName, string>> = {
  meanIoU: "mean IoU",
  meanIoUWithoutBackground: "mean IoU without background",
  meanIoUPresent: "mean IoU of classes in the truth",
  meanF1: "mean F1 (Dice)",
  frequencyWeightedIoU: "frequency-weighted IoU",
  meanAccuracy: "mean accuracy",
  pixelAccuracy: "pixel accuracy",
}

/** A share as per cent with one digit; "-" where it is undefined. */
export const percent = (value: number | null): string => (value === null ? "-" : (100 * value).toFixed(1))

/** "51.2 to 57.9": an interval of shares, in per cent. */
export const range = ({ low, high }: Pick<Interval, "low" | "high">, between = " to "): string =>
  low === null || high === null ? "-" : `${percent(low)}${between}${percent(high)}`

/** "+3.2", "-0.4", "0.0": a difference of shares in points. */
export const signed = (value: number): string => {
  const text = percent(value)
  return /^-?0\.0$/.test(text) ? "0.0" : value > 0 ? `+${text}` : text
}

/** How labels at the output stride become as large as the image. */
export const enlargementWords: Readonly<Record<Enlargement, string>> = { nearest: "in blocks", bilinear: "bilinearly" }

/** An option's value in a table. */
export const optionText = (value: unknown): string =>
  value === null ? "-" : Array.isArray(value) ? value.join(",") : String(value)

/** "3:07", "1:02:03" */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (value: number) => String(value).padStart(2, "0")
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}

/** "51 s", "9 min 51 s", "2 h 5 min" */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`
}

/** "averaged over the scales 0.75, 1 and over mirrored images": how a model was applied, where not simply to whole images. */
export function inferenceText({ scales, flip, window, overlap, memory, precision }: InferenceOptions): string {
  const over = [...(scales ? [`the scales ${scales.join(", ")}`] : []), ...(flip ? ["mirrored images"] : [])]
  const parts = [
    ...(over.length > 0 ? [`averaged over ${list(over)}`] : []),
    ...(window ? [`in windows of ${window.join("x")}`] : window === null ? ["whole images in any case"] : []),
    ...(overlap !== undefined ? [`with an overlap of ${overlap}`] : []),
    ...(memory !== undefined ? [`within ${Math.round(memory / 2 ** 20)} MiB`] : []),
    ...(precision !== undefined ? [`in ${precision}`] : []),
  ]
  return parts.join(", ")
}

/** What the means leave out, a sentence each. */
export function leftOutSentences(scores: Scores): string[] {
  const notInTruth = scores.classes.filter(({ truthPixels }) => truthPixels === 0).map(({ name }) => name)
  return [
    ...(scores.leftOut.length > 0
      ? [`The means leave out classes in neither truth nor prediction: ${scores.leftOut.join(", ")}.`]
      : []),
    ...(notInTruth.length > scores.leftOut.length
      ? [`Means of accuracy and of classes in the truth leave out what is not in the truth: ${notInTruth.join(", ")}.`]
      : []),
  ]
}

/** "a, b and c" */
export const list = (words: readonly string[]): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`

/** A warning where a model is no better than the trivial prediction: within one point of mean IoU. */
export function nothingLearned({ meanIoU, trivial }: Scores): string | null {
  if (meanIoU === null || trivial.meanIoU === null || meanIoU >= trivial.meanIoU + 0.01) return null
  return `This model has learned nothing yet: predicting ${trivial.name} everywhere scores as well, or better.`
}
