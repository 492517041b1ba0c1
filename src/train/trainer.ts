// The Trainer: steps, evaluations between them, the best weights kept, a stop at any time without loss.
// It knows nothing of file formats or of the command line: it is given batches, and a way to evaluate.
import type { Batch } from "../data/batch.ts"
import type { Scores } from "../infer/evaluate.ts"
import type { Loss } from "../losses/index.ts"
import type { SegmentationModel } from "../models/index.ts"
import type { Optimizer, Schedule } from "../optim/index.ts"
import { fromData, tidy } from "../torch/index.ts"
import { loadState, type Progress, saveState, saveWeights } from "./checkpoint.ts"
import type { EvaluationRecord, RunFolder, StepRecord } from "./run-folder.ts"

/** A number of optimizer steps, or seconds in which training and its evaluations must fit. */
export type Length = { readonly steps: number } | { readonly seconds: number }

/** Where batches come from: data/loader.ts's Loader. */
export interface BatchSource {
  /** Training batches without end, from global step `startStep` on. */
  batches(options: { startStep: number }): AsyncIterable<Batch>
  /** Seconds spent waiting for images so far. */
  readonly waitSeconds: number
}

export interface TrainerParts {
  readonly model: SegmentationModel
  readonly optimizer: Optimizer
  readonly loss: Loss
  /** Base learning rate; the schedule's factor multiplies it. */
  readonly learningRate: number
  readonly schedule: Schedule
  readonly length: Length
  readonly loader: BatchSource
  /** Scores of the model (in eval mode) on the validation split. */
  readonly evaluate: () => Promise<Scores>
  /** Seconds that one evaluation will take, as far as is known before the first. */
  readonly evaluationSeconds: number
  /** How many evaluations are wanted, evenly spread, the last at the end. */
  readonly evaluations: number
  readonly run: RunFolder
}

export interface TrainerEvents {
  /** After each step; `progress` is the fraction of the run that is done. */
  onStep?: (record: StepRecord, progress: number) => void
  onEvaluation?: (record: EvaluationRecord) => void | Promise<void>
}

/** Training cannot go on. What was reached is saved. */
export class TrainingError extends Error {
  override name = "TrainingError"
}

// Of a time budget, evaluations may take this share; on large validation splits they would eat it otherwise.
const EVALUATION_SHARE = 0.2

export class Trainer {
  readonly #parts: TrainerParts
  #state: Progress = { step: 0, trainSeconds: 0, evaluationSeconds: 0, best: null, evaluations: 0 }
  #secondsPerEvaluation: number
  readonly #plannedEvaluations: number

  constructor(parts: TrainerParts) {
    const { length, evaluations, evaluationSeconds } = parts
    this.#parts = parts
    this.#secondsPerEvaluation = evaluationSeconds
    this.#plannedEvaluations =
      "seconds" in length
        ? Math.max(1, Math.min(evaluations, Math.floor((EVALUATION_SHARE * length.seconds) / evaluationSeconds)))
        : evaluations
  }

  get state(): Readonly<Progress> {
    return this.#state
  }

  /** Goes on from what `train()` saved last: weights, optimizer, schedule, random state, position in the data. */
  resume(): void {
    const { run, model, optimizer } = this.#parts
    this.#state = loadState(run.file("last.safetensors"), model, optimizer)
    if (this.#state.evaluations > 0)
      this.#secondsPerEvaluation = this.#state.evaluationSeconds / this.#state.evaluations
    run.rewindLog(this.#state.step)
  }

  /** Fraction of the run that is done, 0 to 1. */
  get progress(): number {
    const { length } = this.#parts
    const { step, trainSeconds, evaluationSeconds, evaluations } = this.#state
    if ("steps" in length) return Math.min(1, step / length.steps)
    const reserved = Math.max(0, this.#plannedEvaluations - evaluations) * this.#secondsPerEvaluation
    return Math.min(1, trainSeconds / Math.max(1e-3, length.seconds - evaluationSeconds - reserved))
  }

  /**
   * Trains until the length is reached or `signal` is aborted. Either way the state is saved.
   * @returns whether the end was reached
   * @throws TrainingError when the loss is not finite; the weights before that step are saved
   */
  async train({ signal, onStep, onEvaluation }: TrainerEvents & { signal?: AbortSignal } = {}): Promise<boolean> {
    const { run, loader } = this.#parts
    let progress = this.progress
    let waited = loader.waitSeconds
    let mark = performance.now()
    if (progress < 1 && !signal?.aborted) {
      for await (const batch of loader.batches({ startStep: this.#state.step })) {
        const learningRate = this.#parts.learningRate * this.#parts.schedule({ progress, step: this.#state.step })
        const loss = this.#step(batch, learningRate)

        const now = performance.now()
        const seconds = (now - mark) / 1000
        mark = now
        this.#state.step++
        this.#state.trainSeconds += seconds
        const record: StepRecord = {
          kind: "step",
          step: this.#state.step,
          seconds: this.#seconds,
          loss,
          learningRate,
          imagesPerSecond: batch.ids.length / seconds,
          dataWait: Math.min(1, (loader.waitSeconds - waited) / seconds),
        }
        waited = loader.waitSeconds
        run.log(record)
        progress = Math.max(progress, this.progress) // an evaluation that took longer than expected must not turn it back
        onStep?.(record, progress)

        if (signal?.aborted) break
        if (progress >= 1 || Math.floor(progress * this.#plannedEvaluations) > this.#state.evaluations) {
          await this.#evaluate(onEvaluation)
          mark = performance.now()
        }
        if (progress >= 1) break
      }
    }
    this.save()
    return progress >= 1
  }

  /** Writes last.safetensors: everything that the next step depends on. */
  save(): void {
    const { run, model, optimizer } = this.#parts
    saveState(run.file("last.safetensors"), model, optimizer, this.#state)
  }

  get #seconds(): number {
    return this.#state.trainSeconds + this.#state.evaluationSeconds
  }

  #step({ images, masks, shape: [n, h, w], ids }: Batch, learningRate: number): number {
    const { model, optimizer, loss } = this.#parts
    model.train()
    const value = tidy(() => {
      optimizer.zeroGrad()
      const { logits } = model.call(fromData(images, [n, 3, h, w])) // [N, K, H, W]
      const result = loss(logits, fromData(masks, [n, h, w]).to({ dtype: "int64" }))
      const value = result.item()
      if (Number.isFinite(value)) result.backward()
      return value
    })
    if (!Number.isFinite(value)) {
      this.save()
      throw new TrainingError(
        `The loss is ${value} at step ${this.#state.step + 1} (images ${ids.join(", ")}). The state before it is saved; try a lower learning rate.`,
      )
    }
    optimizer.lr = learningRate
    optimizer.step()
    return value
  }

  async #evaluate(onEvaluation: TrainerEvents["onEvaluation"]): Promise<void> {
    const { run, model, evaluate } = this.#parts
    const start = performance.now()
    const scores = await evaluate()
    this.#state.evaluationSeconds += (performance.now() - start) / 1000
    this.#state.evaluations++
    this.#secondsPerEvaluation = this.#state.evaluationSeconds / this.#state.evaluations

    const record: EvaluationRecord = { kind: "evaluation", step: this.#state.step, seconds: this.#seconds, scores }
    run.log(record)
    // Not above the best: the first of equals stays, so that resuming repeats the same choice.
    const score = scores.meanIoU ?? 0
    if (this.#state.best === null || score > this.#state.best) {
      this.#state.best = score
      saveWeights(run.file("best.safetensors"), model, { step: String(this.#state.step), meanIoU: String(score) })
    }
    this.save()
    await onEvaluation?.(record)
  }
}
