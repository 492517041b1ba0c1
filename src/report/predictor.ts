// A run's best model at work on single images of its validation split, for pictures of what it sees.
import type { RgbImage } from "../data/image.ts"
import type { Mask } from "../data/mask.ts"
import { toTensorData } from "../data/transforms/index.ts"
import { openVocFolder, type VocFolder } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { type InferenceOptions, segment } from "../infer/segment.ts"
import { classSelection } from "../train/config.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { trainedModel } from "../train/trained-model.ts"

/** An image with what should be seen in it, and what was. */
export interface Sample {
  readonly id: string
  readonly image: RgbImage
  readonly truth: Mask
  readonly prediction: Mask
}

/** The validation split of a run. @param data where its data set is now. Default: where it was */
export const validationSet = (run: RunFolder, data?: string): VocFolder => {
  const { config } = run
  return openVocFolder(data ?? config.data, { split: config.valSplit, ...classSelection(config) })
}

/**
 * Predicts images by their id.
 * ```ts
 * using predictor = openPredictor(run, dataset)
 * const { prediction } = await predictor.predict("2007_000033")
 * ```
 */
export function openPredictor(run: RunFolder, dataset: VocFolder, inference: InferenceOptions = {}) {
  const { model, normalization, precision } = trainedModel(run)
  return {
    async predict(id: string): Promise<Sample> {
      const index = dataset.ids.indexOf(id)
      if (index < 0) {
        throw new UserError(
          `The image ${id}, which ${run.path} was scored on, is no longer in the split "${dataset.files.split}" of ${dataset.files.root}. Score the run again: pixelwise eval --run ${run.path}.`,
        )
      }
      const { image: data, mask, width, height } = await dataset.readSample(index)
      const size = { width, height }
      const image = { ...size, data }
      const { labels } = segment(model, toTensorData(image, normalization), [1, height, width], {
        precision,
        ...inference,
      })
      return { id, image, truth: { ...size, labels: mask }, prediction: { ...size, labels } }
    },
    [Symbol.dispose]() {
      model.dispose()
    },
  }
}

export type Predictor = ReturnType<typeof openPredictor>
