// Scores a run's best model on a split: whole images, each at its own size, and everything that evaluation measures.
import { resolve } from "node:path"
import { openVocFolder } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { fileDigest, writeFileAtomic } from "../files.ts"
import { evaluationLoader } from "../infer/evaluate.ts"
import { type InferenceOptions, isPlain, segment } from "../infer/segment.ts"
import { type Evaluation, Evaluator, type ScoredImage } from "../metrics/evaluation.ts"
import { logitStride } from "../models/index.ts"
import { classSelection } from "./config.ts"
import type { RunFolder } from "./run-folder.ts"
import { trainedModel } from "./trained-model.ts"

/** What was scored on what, and how it went. */
export interface RunEvaluation extends Evaluation {
  readonly run: string
  /** The file of the weights. */
  readonly weights: string
  /** SHA-256 of that file: the scores are those of other weights as soon as it differs. */
  readonly weightsDigest: string
  readonly data: string
  readonly split: string
  /** When, as an ISO time: what was found out beside it carries the same. */
  readonly evaluated: string
}

export interface EvaluateRunOptions {
  /** Data set; default: the run's own. It must have the classes of the run. */
  readonly data?: string
  /** Default: the run's validation split. */
  readonly split?: string
  readonly inference?: InferenceOptions
  /** What computes: "cpu", "cuda", "cuda:1". Default: cpu. */
  readonly device?: string
  /** Called with each image as it was scored: predictions, truth and confidences are valid during the call only. */
  readonly onImage?: (image: Required<ScoredImage>) => void
  /** Called after each batch, with the images done. */
  readonly onProgress?: (done: number, total: number) => void
  /** Ends it after the batch at hand, with the signal's reason as error. */
  readonly signal?: AbortSignal
}

/**
 * Scores a run's best model on a split, by all metrics. What the run's own model says of its own validation split, by plain
 * inference, is the run's result: it is written to RUN/evaluation.json too.
 * @throws UserError when the run has no weights, or the data set cannot be read or has other classes
 */
export async function evaluateRun(
  run: RunFolder,
  { data, split, inference = {}, device, onImage, onProgress, signal }: EvaluateRunOptions = {},
): Promise<RunEvaluation> {
  const { config, labelMap } = run
  const of = { data: data ?? config.data, split: split ?? config.valSplit }
  const dataset = openVocFolder(of.data, { split: of.split, ...classSelection(config) })
  const names = (map: typeof labelMap) => map.classes.map(({ name }) => name)
  const classes = names(labelMap)
  if (String(names(dataset.labelMap)) !== String(classes)) {
    throw new UserError(
      `${of.data} has the classes ${names(dataset.labelMap).join(", ")}; the run ${run.path} was trained on ${classes.join(", ")}.`,
    )
  }
  const { model, weights, normalization, precision } = trainedModel(run, { ...(device && { device }) })
  const weightsDigest = fileDigest(weights)
  try {
    const stride = logitStride(model)
    const evaluator = new Evaluator({
      classes,
      background: labelMap.background ?? null,
      stride: stride > 1 ? stride : null, // labels as fine as the image lose nothing
    })
    await using loader = evaluationLoader(dataset, { normalization })
    let done = 0
    for await (const { ids, images, masks, shape } of loader.pass({ reuse: true })) {
      const [, height, width] = shape
      const { labels, confidence } = segment(model, images, shape, { precision, ...inference, confidence: true })
      for (const [k, id] of ids.entries()) {
        const [from, to] = [k * height * width, (k + 1) * height * width]
        const image = {
          id,
          width,
          height,
          prediction: labels.subarray(from, to),
          truth: masks.subarray(from, to),
          confidence: confidence!.subarray(from, to),
        }
        evaluator.add(image)
        onImage?.(image)
      }
      done += ids.length
      onProgress?.(done, dataset.ids.length)
      signal?.throwIfAborted()
    }
    const evaluated = new Date().toISOString()
    const evaluation = { run: run.path, weights, weightsDigest, ...of, evaluated, ...evaluator.finish() }
    const isOwn = resolve(of.data) === resolve(config.data) && of.split === config.valSplit
    if (isOwn && isPlain(inference)) writeFileAtomic(run.file("evaluation.json"), `${JSON.stringify(evaluation)}\n`)
    return evaluation
  } finally {
    model.dispose()
  }
}
