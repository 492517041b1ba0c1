// The Trainer: steps, evaluations between them, the best weights kept, a stop at any time without loss.
// It knows nothing of file formats or of the command line: it is given batches, and a way to evaluate.
import type { Batch } from "../data/batch.ts"
import type { Scores } from "../infer/evaluate.ts"
import type { Loss } from "../losses/index.ts"
import type { SegmentationModel } from "../models/index.ts"
import type { AveragedState, Optimizer, Schedule } from "../optim/index.ts"
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
  /** Averages of the model's weights: what is evaluated and kept as best, where given. */
  readonly average?: AveragedState | undefined
  readonly loss: Loss
  /** Factor of the loss of the model's auxiliary head, if it has one. */
  readonly auxWeight?: number
  /** Base learning rate; the schedule's factor multiplies it. */
  readonly learningRate: number
  readonly schedule: Schedule
  readonly length: Length
  readonly loader: BatchSource
  /** Scores of the model (in eval mode) on the validation split; throws when `signal` is aborted meanwhile. */
  readonly evaluate: (signal?: AbortSignal) => Promise<Scores>
  /** Seconds that one evaluation will take, as far as is known before the first. */
  readonly evaluationSeconds: number
  /** How many evaluations are wanted, evenly spread, the last at the end. */
  readonly evaluations: number
  /** Kept with the best weights: how images are prepared for them. */
  readonly weightNotes?: Readonly<Record<string, string>>
  readonly run: RunFolder
}

export interface TrainerEvents {
  /** After each step; `progress` is the fraction of the run that is done. */
  onStep?: (record: StepRecord, progress: number) => void
  onEvaluation?: (record: EvaluationRecord) => void | Promise<void>
}

/** Training cannot go on. */
export class TrainingError extends Error {
  override name = "TrainingError"
}

// Of a time budget, evaluations may take this share; on large validation splits they would eat it otherwise.
const EVALUATION_SHARE = 0.1
// A killed process loses at most this much.
const SAVE_EVERY = 60 // seconds
// No evaluation is due any more.
const NEVER = 2

export class Trainer {
  readonly #parts: TrainerParts
  #state: Progress
  #secondsPerEvaluation: number

  constructor(parts: TrainerParts) {
    this.#parts = parts
    this.#secondsPerEvaluation = parts.evaluationSeconds
    this.#state = { step: 0, trainSeconds: 0, evaluationSeconds: 0, best: null, evaluations: 0, nextEvaluation: 0 }
    this.#state.nextEvaluation = 1 / this.#evaluationsLeft
  }

  get state(): Readonly<Progress> {
    return this.#state
  }

  /**
   * Goes on from what `train()` saved last: weights, optimizer, schedule, random state, position in the data.
   * @param replan whether the length is another than before, so that evaluations must be spread anew
   */
  resume({ replan = false } = {}): void {
    const { run } = this.#parts
    this.#state = loadState(run.file("last.safetensors"), this.#parts)
    if (replan) {
      this.#state.nextEvaluation = 1 // there is one at the end, which a budget must leave time for
      const progress = this.progress
      this.#state.evaluations = Math.floor(progress * this.#parts.evaluations) // those of the new plan that lie behind
      this.#state.nextEvaluation = progress + (1 - progress) / this.#evaluationsLeft
    }
    run.rewindLog(this.#state.step)
  }

  /** Fraction of the run that is done, 0 to 1. */
  get progress(): number {
    const { length } = this.#parts
    const { step, trainSeconds, evaluationSeconds, nextEvaluation } = this.#state
    if ("steps" in length) return Math.min(1, step / length.steps)
    const reserved = nextEvaluation <= 1 ? this.#evaluationsLeft * this.#secondsPerEvaluation : 0
    return Math.min(1, trainSeconds / Math.max(1e-3, length.seconds - evaluationSeconds - reserved))
  }

  /**
   * Trains until the length is reached or `signal` is aborted. Either way the state is saved.
   * @returns whether the end was reached
   * @throws TrainingError when the loss is not finite; what was saved before is still there
   */
  async train({ signal, onStep, onEvaluation }: TrainerEvents & { signal?: AbortSignal } = {}): Promise<boolean> {
    const { run, loader } = this.#parts
    let progress = this.progress
    let waited = loader.waitSeconds
    this.save() // so that from here on the run can always be resumed
    let saved = performance.now()
    let mark = performance.now()

    const evaluateIfDue = async (): Promise<void> => {
      if (progress < this.#state.nextEvaluation) return
      await this.#evaluate(progress, onEvaluation, signal)
      saved = mark = performance.now()
    }
    const isDone = () => progress >= 1 && this.#state.nextEvaluation === NEVER

    await evaluateIfDue() // a run that was stopped in an evaluation begins with it
    if (!isDone() && !signal?.aborted) {
      for await (const batch of loader.batches({ startStep: this.#state.step })) {
        if (signal?.aborted) break
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

        if (!signal?.aborted) await evaluateIfDue()
        if (isDone() || signal?.aborted) break
        if (now - saved > 1000 * SAVE_EVERY) {
          this.save()
          saved = now
        }
      }
    }
    this.save()
    return isDone()
  }

  /** Writes last.safetensors: everything that the next step depends on. */
  save(): void {
    saveState(this.#parts.run.file("last.safetensors"), this.#parts, this.#state)
  }

  get #seconds(): number {
    return this.#state.trainSeconds + this.#state.evaluationSeconds
  }

  /** How many more evaluations there will be, the last one included: as many as wanted, or as the budget's share allows. */
  get #evaluationsLeft(): number {
    const { length, evaluations } = this.#parts
    const wanted = Math.max(1, evaluations - this.#state.evaluations)
    if ("steps" in length) return wanted
    const affordable = (EVALUATION_SHARE * length.seconds - this.#state.evaluationSeconds) / this.#secondsPerEvaluation
    return Math.max(1, Math.min(wanted, Math.floor(affordable)))
  }

  #step({ images, masks, shape: [n, h, w], ids }: Batch, learningRate: number): number {
    const { run, model, optimizer, average, loss, auxWeight = 0 } = this.#parts
    model.train()
    const value = tidy(() => {
      optimizer.zeroGrad()
      const { logits, aux } = model.call(fromData(images, [n, 3, h, w])) // [N, K, H, W]
      const labels = fromData(masks, [n, h, w]).to({ dtype: "int64" })
      let result = loss(logits, labels)
      if (aux) result = result.add(loss(aux, labels), { alpha: auxWeight })
      const value = result.item()
      if (Number.isFinite(value)) result.backward()
      return value
    })
    if (!Number.isFinite(value)) {
      // Not saved: the forward has spoilt the running statistics of batch-norm already.
      throw new TrainingError(
        `The loss is ${value} at step ${this.#state.step + 1} (images ${ids.join(", ")}). ` +
          `${run.file("last.safetensors")} holds an earlier state; go on from it with a lower learning rate: --resume ${run.path} --learning-rate ${learningRate / 10}.`,
      )
    }
    optimizer.lr = learningRate
    optimizer.step()
    average?.update(this.#state.step + 1)
    return value
  }

  async #evaluate(progress: number, onEvaluation: TrainerEvents["onEvaluation"], signal?: AbortSignal): Promise<void> {
    const { run, model, average, evaluate } = this.#parts
    const start = performance.now()
    const spent = () => (performance.now() - start) / 1000
    this.save() // an evaluation may take minutes, and memory
    let record: EvaluationRecord
    average?.swap()
    try {
      const scores = await evaluate(signal)
      record = { kind: "evaluation", step: this.#state.step, seconds: this.#seconds + spent(), scores }
      // Of equals the first stays, so that resuming repeats the same choice.
      const score = scores.meanIoU ?? 0
      if (this.#state.best === null || score > this.#state.best) {
        this.#state.best = score
        const notes = { ...this.#parts.weightNotes, step: String(this.#state.step), meanIoU: String(score) }
        saveWeights(run.file("best.safetensors"), model, notes)
      }
    } catch (error) {
      if (signal?.aborted) return // it stays due
      throw error
    } finally {
      average?.swap()
    }
    run.log(record)
    run.writeJson("scores.json", record.scores)
    await onEvaluation?.(record)
    this.#state.evaluationSeconds += spent() // pictures and checkpoints count too
    this.#state.evaluations++
    this.#secondsPerEvaluation = spent()
    this.#state.nextEvaluation = progress >= 1 ? NEVER : progress + (1 - progress) / this.#evaluationsLeft
    this.save()
  }
}
