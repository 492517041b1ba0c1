// Calibration: whether a model that is 80 % sure is right in 80 % of the pixels. Expected calibration error and the bins of
// the reliability diagram: Guo et al. 2017, On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599

export interface ReliabilityBin {
  /** Confidences above `low` and at most `high`; the first bin has 0 too. */
  readonly low: number
  readonly high: number
  readonly pixels: number
  /** Mean confidence of the bin's pixels; null when it has none. */
  readonly confidence: number | null
  /** Share of the bin's pixels that are right; null when it has none. */
  readonly accuracy: number | null
}

export interface Calibration {
  /** 15 of equal width from 0 to 1. */
  readonly bins: readonly ReliabilityBin[]
  /** Expected calibration error: mean over pixels of |confidence - accuracy| of their bin, 0 to 1; null without pixels. */
  readonly ece: number | null
}

const BINS = 15 // as Guo et al.
const ABOVE_ONE = 1e-3 // what rounding may add to a sum of probabilities

/** Collects confidences, image by image. */
export class CalibrationCounter {
  readonly #pixels = new Float64Array(BINS)
  readonly #confidence = new Float64Array(BINS)
  readonly #right = new Float64Array(BINS)

  /**
   * @param confidence of the predicted class, 0 to 1, as many as labels
   * @param truth void (255) pixels do not count
   * @throws RangeError for a confidence outside 0 to 1; nothing is counted then
   */
  add(prediction: Uint8Array, truth: Uint8Array, confidence: Float32Array): void {
    for (let i = 0; i < confidence.length; i++) {
      const c = confidence[i] as number
      if (!(c >= 0 && c <= 1 + ABOVE_ONE))
        // NaN too
        throw new RangeError(`Calibration: the confidence at pixel ${i} is ${c}; expected 0 to 1.`)
    }
    const [pixels, sums, right] = [this.#pixels, this.#confidence, this.#right]
    for (let i = 0; i < truth.length; i++) {
      const t = truth[i] as number
      if (t === 255) continue
      const c = confidence[i] as number
      const bin = Math.max(0, Math.min(BINS - 1, Math.ceil(c * BINS) - 1))
      pixels[bin]! += 1
      sums[bin]! += c
      if (prediction[i] === t) right[bin]! += 1
    }
  }

  calibration(): Calibration {
    const bins = Array.from(this.#pixels, (pixels, k) => ({
      low: k / BINS,
      high: (k + 1) / BINS,
      pixels,
      confidence: pixels > 0 ? (this.#confidence[k] as number) / pixels : null,
      accuracy: pixels > 0 ? (this.#right[k] as number) / pixels : null,
    }))
    const total = this.#pixels.reduce((sum, pixels) => sum + pixels, 0)
    const gap = bins.reduce(
      (sum, { pixels, confidence, accuracy }) => sum + pixels * Math.abs((confidence ?? 0) - (accuracy ?? 0)),
      0,
    )
    return { bins, ece: total > 0 ? gap / total : null }
  }
}
