// The Trainer: steps, evaluations between them, the best weights kept, a stop at any time without loss.
// It knows nothing of file formats or of the command line: it is given batches, and a way to evaluate.
import { type Batch, joinBatches } from "../data/batch.ts"
import { randomFor } from "../data/random.ts"
import { UserError } from "../errors.ts"
import { copyFileAtomic } from "../files.ts"
import type { Objective } from "../losses/objective.ts"
import type { Scores } from "../metrics/index.ts"
import { callAtStride, deviceOf, type SegmentationModel } from "../models/index.ts"
import { KeptStatistics } from "../nn/index.ts"
import {
  type AveragedState,
  clipByNorm,
  clipByValue,
  firstNonFinite,
  type GradScaler,
  gradientNorm,
  type Moment,
  type Optimizer,
  type Schedule,
} from "../optim/index.ts"
import {
  alone,
  fromData,
  type GradientMean,
  type Group,
  manualSeed,
  type Parameter,
  type Precision,
  rngState,
  setRngState,
  span,
  type Tensor,
  tidy,
} from "../torch/index.ts"
import { type Capture, CapturedStep } from "./captured-step.ts"
import { loadState, type Progress, saveBatch, saveState, saveWeights } from "./checkpoint.ts"
import { firstNonFiniteOutput } from "./non-finite.ts"
import type { StepProfile } from "./profile.ts"
import type { EvaluationRecord, RunFolder, StepRecord } from "./run-folder.ts"
import { isFiniteInAll, isStopped, ofMain } from "./together.ts"

/** A number of optimizer steps, or seconds in which training and its evaluations must fit. */
export type Length = { readonly steps: number } | { readonly seconds: number }

/** Where batches come from: data/loader.ts's Loader. */
export interface BatchSource {
  /** Training batches without end, from global step `startStep` on; with `reuse` each is valid until the next is asked for. */
  batches(options: { startStep: number; reuse: boolean }): AsyncIterable<Batch>
  /** Seconds spent waiting for images so far. */
  readonly waitSeconds: number
}

export interface TrainerParts {
  readonly model: SegmentationModel
  /**
   * The processes that train it together: each with its part of each batch, all with the same weights. Rank 0's clock counts,
   * and what is wanted of one (a stop) is done by all after the same step. Default: there is only this one.
   */
  readonly group?: Group
  /** Of the numbers that dropout draws in the processes above rank 0; rank 0's generator is seeded by the caller. Default: 0. */
  readonly seed?: number
  readonly optimizer: Optimizer
  /** Averages of the model's weights: what is evaluated and kept as best, where given. */
  readonly average?: AveragedState | undefined
  readonly objective: Objective
  /** Of the forward; loss, gradients of weights and weights are float32. Default: float32. */
  readonly precision?: Precision
  /** Of a forward in float16: a step whose gradients overflow is left out, and the scale lowered, down to 1. */
  readonly scaler?: GradScaler | undefined
  /** Base learning rate; the schedule's factor multiplies it. */
  readonly learningRate: number
  readonly schedule: Schedule
  /** Batches whose gradients are averaged for one step. Default: 1. */
  readonly accumulate?: number
  /** What gradients are limited to before each step. */
  readonly clip?: { readonly norm?: number | undefined; readonly value?: number | undefined }
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
  /** Makes forward, loss and backward one launch, where given: of one process, one batch a step and no scaler. */
  readonly capture?: Capture | undefined
  /** Told of some steps what ran when. */
  readonly profile?: StepProfile | undefined
}

export interface TrainerEvents {
  /** After each step; `progress` is the fraction of the run that is done. */
  onStep?: (record: StepRecord, progress: number) => void
  onEvaluation?: (record: EvaluationRecord) => void | Promise<void>
  /** After a step that was left out because its gradients overflowed, and the scale of those to come. */
  onOverflow?: (step: number, scale: number) => void
}

/** Training cannot go on. */
export class TrainingError extends Error {
  override name = "TrainingError"
}

// Of a time budget, evaluations may take this share; on large validation splits they would eat it otherwise.
const EVALUATION_SHARE = 0.1
// A killed process loses at most this much.
const SAVE_EVERY = 60 // seconds
// Gradients that overflow in float16 at this scale do so by themselves.
const LEAST_SCALE = 1
// No evaluation is due any more.
const NEVER = 2

export class Trainer {
  readonly #parts: TrainerParts
  readonly #group: Group
  readonly #parameters: readonly Parameter[]
  readonly #statistics: KeptStatistics
  readonly #device: string
  readonly #captured: CapturedStep | null
  #savedStep = 0
  #gradientNorm = 0 // so far in this step
  #rng: Tensor | null = null // while a step is being made: the generator's state before it
  #state: Progress
  #secondsPerEvaluation: number

  constructor(parts: TrainerParts) {
    this.#parts = parts
    this.#group = parts.group ?? alone
    this.#parameters = parts.model.parameters()
    this.#statistics = new KeptStatistics(parts.model)
    this.#device = deviceOf(parts.model)
    if (parts.capture && (this.#group.size > 1 || parts.scaler || (parts.accumulate ?? 1) > 1)) {
      throw new UserError("capture: expected one process, one batch a step and no scaler.")
    }
    this.#captured = parts.capture ? new CapturedStep(parts.capture, this.#parameters) : null
    this.#secondsPerEvaluation = parts.evaluationSeconds
    this.#state = { step: 0, trainSeconds: 0, evaluationSeconds: 0, best: null, evaluations: 0, nextEvaluation: 0 }
    this.#state.nextEvaluation = 1 / this.evaluationsLeft
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
      this.#state.nextEvaluation = progress + (1 - progress) / this.evaluationsLeft
    }
    run.rewindLog(this.#state.step)
  }

  /** Whether nothing is left to do, the last evaluation included. */
  get isDone(): boolean {
    return this.progress >= 1 && this.#state.nextEvaluation === NEVER
  }

  /** Fraction of the run that is done, 0 to 1. */
  get progress(): number {
    const { length } = this.#parts
    const { step, trainSeconds, evaluationSeconds, nextEvaluation } = this.#state
    if ("steps" in length) return Math.min(1, step / length.steps)
    const reserved = nextEvaluation <= 1 ? this.evaluationsLeft * this.#secondsPerEvaluation : 0
    return Math.min(1, trainSeconds / Math.max(1e-3, length.seconds - evaluationSeconds - reserved))
  }

  /**
   * Trains until the length is reached or `signal` is aborted. Either way the state is saved.
   * @returns whether the end was reached
   * @throws TrainingError when a loss or gradient is not finite: found before the step, so that what is saved then is the
   * state before it, running statistics and random numbers included; the save before that becomes earlier.safetensors
   */
  async train(events: TrainerEvents & { signal?: AbortSignal } = {}): Promise<boolean> {
    const { run } = this.#parts
    using gradients = this.#group.meanGradients(this.#parameters)
    try {
      return await this.#train(events, gradients)
    } catch (error) {
      this.#takeBackStep()
      if (error instanceof TrainingError) {
        if (this.#hasEarlierSave)
          run.write("earlier.safetensors", (path) => copyFileAtomic(run.file("last.safetensors"), path))
        this.save()
      }
      throw error
    } finally {
      this.#statistics.dispose()
      this.#captured?.[Symbol.dispose]()
    }
  }

  async #train(
    { signal, onStep, onEvaluation, onOverflow }: TrainerEvents & { signal?: AbortSignal },
    gradients: GradientMean,
  ): Promise<boolean> {
    const { run, loader, length, accumulate = 1, profile } = this.#parts
    const group = this.#group
    const steps = "steps" in length ? length.steps : undefined
    let progress = this.progress
    let waited = loader.waitSeconds
    this.save() // so that from here on the run can always be resumed
    let saved = performance.now()
    let mark = performance.now()

    /** @returns false when it was stopped meanwhile */
    const evaluateIfDue = async (): Promise<boolean> => {
      if (progress < this.#state.nextEvaluation) return true
      const isComplete = await this.#evaluate(progress, onEvaluation, signal)
      saved = mark = performance.now()
      return isComplete
    }
    const isDone = () => progress >= 1 && this.#state.nextEvaluation === NEVER

    // A run that was stopped in an evaluation begins with it.
    if ((await evaluateIfDue()) && !isDone() && !isStopped(group, signal)) {
      let losses: number[] = [] // of the batches that the next step is made of
      let images = 0
      profile?.beginStep()
      for await (const batch of loader.batches({ startStep: this.#state.step * accumulate, reuse: true })) {
        profile?.batchCame(batch)
        if (losses.length === 0) this.#beginStep()
        const at = { progress, step: this.#state.step, steps }
        losses.push(this.#backward(batch, at, losses.length === accumulate - 1 ? gradients : null))
        images += batch.ids.length * group.size
        if (losses.length < accumulate) {
          profile?.batchDone()
          continue
        }
        const learningRate = this.#parts.learningRate * this.#parts.schedule(at)
        const isMade = this.#finishStep(learningRate, batch)
        const loss = losses.reduce((sum, value) => sum + value, 0) / accumulate

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
          imagesPerSecond: images / seconds,
          dataWait: Math.min(1, (loader.waitSeconds - waited) / seconds),
        }
        waited = loader.waitSeconds
        losses = []
        images = 0
        progress = Math.max(progress, this.progress) // an evaluation that took longer than expected must not turn it back
        if (isMade) {
          run.log(record)
          onStep?.(record, progress)
        } else onOverflow?.(this.#state.step, this.#parts.scaler!.scale)

        profile?.endStep(this.#state.step)
        // The one exchange for all that is decided by a clock or a user.
        const ofMain = [progress, this.#state.trainSeconds].map((value) => (group.isMain ? value : 0))
        const [stops, ...times] = group.sumNumbers([signal?.aborted ? 1 : 0, ...ofMain])
        ;[progress, this.#state.trainSeconds] = times as [number, number]
        if (stops! > 0 || !(await evaluateIfDue()) || isDone()) break
        if (now - saved > 1000 * SAVE_EVERY) {
          this.save()
          saved = now
        }
        profile?.beginStep()
      }
    }
    this.save()
    return isDone()
  }

  /** Writes last.safetensors: everything that the next step depends on. */
  save(): void {
    this.#savedStep = this.#state.step
    this.#parts.run.write("last.safetensors", (path) => saveState(path, this.#parts, this.#state))
  }

  /** Whether last.safetensors is older than the state now: from before a loss that grew until it was no number. */
  get #hasEarlierSave(): boolean {
    return this.#savedStep < this.#state.step
  }

  get #seconds(): number {
    return this.#state.trainSeconds + this.#state.evaluationSeconds
  }

  /** How many more evaluations there will be, the last one included: as many as wanted, or as the budget's share allows. */
  get evaluationsLeft(): number {
    const { length, evaluations } = this.#parts
    const wanted = Math.max(1, evaluations - this.#state.evaluations)
    if ("steps" in length) return wanted
    const affordable = (EVALUATION_SHARE * length.seconds - this.#state.evaluationSeconds) / this.#secondsPerEvaluation
    return Math.max(1, Math.min(wanted, Math.floor(affordable)))
  }

  /** Keeps what the forward will change, so that the step can be taken back. */
  #beginStep(): void {
    const { model, optimizer } = this.#parts
    model.train()
    optimizer.zeroGrad()
    this.#statistics.keep()
    this.#rng = rngState(this.#device).keep()
    // Other numbers than rank 0's, whose generator is the run's; by the step, so that a resumed run draws them again. The
    // generator of the CPU takes 32 bits.
    const { rank } = this.#group
    if (rank > 0) manualSeed(Math.floor(2 ** 32 * randomFor(this.#parts.seed ?? 0, rank, this.#state.step).uniform()))
  }

  /**
   * Adds a batch's part to the gradients: with `accumulate` batches each counts that fraction. Means of losses are then
   * those of one large batch, exactly if the batches have equally many labelled pixels, as batch-norm has its own batch.
   * @param gradients given with the step's last batch: what brings the processes' gradients together
   * @returns the batch's loss, of all processes
   * @throws TrainingError when loss or gradients are not finite; with a scaler that is found at the end of the step
   */
  #backward(batch: Batch, at: Moment, gradients: GradientMean | null): number {
    const { model, objective, precision, scaler, accumulate = 1 } = this.#parts
    const group = this.#group
    const {
      images,
      masks,
      alpha,
      shape: [n, h, w],
    } = batch
    using rng = rngState(this.#device).keep() // of this batch, for a look at what went wrong
    const value = tidy(() => {
      const on = { device: this.#device }
      const x = fromData(images, [n, 3, h, w], on)
      const labels = fromData(masks, [n, h, w], on).to({ dtype: "int64" })
      const inputs = [x, labels, ...(alpha ? [fromData(alpha, [n, h, w], on)] : [])]
      const forward = ([x, labels, alpha]: readonly Tensor[]) => {
        const output = span("forward", () => callAtStride(model, x!, precision)) // logits [N, K, h, w]
        return span("loss", () => objective(output, { labels: labels!, alpha }, at))
      }
      const backward = (loss: Tensor) => span("backward", () => loss.backward())
      if (this.#captured) {
        return this.#captured.run(inputs, (inputs) => {
          const loss = forward(inputs)
          backward(loss)
          return loss
        })
      }
      const result = forward(inputs)
      const value = group.sumNumbers([result.item()])[0]! / group.size
      if (scaler || Number.isFinite(value)) {
        const mean = accumulate === 1 ? result : result.div(accumulate)
        const share = scaler ? scaler.scaled(mean) : mean
        gradients?.prepare(share)
        backward(share)
      }
      return value
    })
    if (scaler) return value
    if (!Number.isFinite(value)) throw this.#failure(batch, rng, `The loss is ${value}`)
    // 1.5 ms of the 560 of a step of LR-ASPP on mobilenet_v2_0.35 (164 gradients, 8 crops of 256x256, two busy cores).
    this.#gradientNorm = gradientNorm(this.#parameters)
    // A mean is the same in all processes.
    const isLearnable = gradients ? Number.isFinite(this.#gradientNorm) : isFiniteInAll(group, this.#gradientNorm)
    if (!isLearnable) {
      const name = firstNonFinite(model.namedParameters())
      const names = group.gather(name).filter((name) => name !== null)
      if (names.length > 0) throw this.#failure(batch, rng, `The gradient of ${names[0]} is not finite`) // else: only its square is not
    }
    return value
  }

  /**
   * @param batch the step's last
   * @returns false where it was left out because gradients overflowed; it counts all the same
   * @throws TrainingError when they overflow however small the scale
   */
  #finishStep(learningRate: number, batch: Batch): boolean {
    const { optimizer, average, clip, scaler } = this.#parts
    if (scaler) {
      const bad = this.#unscale(scaler)
      if (bad !== null && scaler.scale <= LEAST_SCALE) {
        using rng = (this.#rng as Tensor).clone().keep()
        throw this.#failure(
          batch,
          rng,
          `The gradient of ${bad} is not finite in float16, whatever the loss is scaled by,`,
        )
      }
      scaler.update(bad === null)
      if (bad !== null) this.#statistics.restore() // its forward may have overflowed
      if (bad !== null) return this.#endStep(false)
    }
    this.#statistics.meanOver(this.#group)
    if (clip?.value !== undefined) {
      clipByValue(this.#parameters, clip.value)
      this.#gradientNorm = gradientNorm(this.#parameters)
    }
    if (clip?.norm !== undefined) clipByNorm(this.#parameters, clip.norm, this.#gradientNorm)
    optimizer.lr = learningRate
    span("optimizer", () => optimizer.step())
    span("average", () => average?.update(this.#state.step + 1))
    return this.#endStep(true)
  }

  #endStep(isMade: boolean): boolean {
    this.#rng?.dispose()
    this.#rng = null
    return isMade
  }

  /** Brings the gradients back to their size. @returns the name of one that is not finite; null: all are */
  #unscale(scaler: GradScaler): string | null {
    scaler.unscale(this.#parameters)
    this.#gradientNorm = gradientNorm(this.#parameters)
    return Number.isFinite(this.#gradientNorm) ? null : firstNonFinite(this.#parts.model.namedParameters())
  }

  /** Brings back the state before a step that was begun and not finished. */
  #takeBackStep(): void {
    if (!this.#rng) return
    this.#statistics.restore()
    setRngState(this.#rng, this.#device)
    this.#rng.dispose()
    this.#rng = null
  }

  /**
   * The error for a batch that gave no number in one of the processes, which it keeps in bad-batch.safetensors.
   * @param rng the generator's state before its forward
   */
  #failure(batch: Batch, rng: Tensor, what: string): TrainingError {
    const { run, model, learningRate, precision } = this.#parts
    const { step } = this.#state
    const whole = joinBatches(this.#group.gather(batch))
    run.write("bad-batch.safetensors", (path) => saveBatch(path, whole))
    this.#takeBackStep() // so that the same forward can be made again
    const cause = tidy(() => {
      const before = rngState(this.#device) // of the whole step, whose first batches drew numbers of their own
      setRngState(rng, this.#device)
      const found = firstNonFiniteOutput(model, batch, precision)
      setRngState(before, this.#device)
      return this.#group.gather(found).find((found) => found !== null) ?? "every layer's output is finite"
    })
    return new TrainingError(
      `${what} at step ${step + 1} (images ${whole.ids.join(", ")}): ${cause}. ` +
        `${run.file("last.safetensors")} holds the state before this step and bad-batch.safetensors its images. ` +
        `Go on with a lower learning rate: --resume ${run.path} --learning-rate ${Number((learningRate / 10).toPrecision(3))}` +
        `${this.#hasEarlierSave ? `; if the loss had grown before, first copy earlier.safetensors, the state of step ${this.#savedStep}, over last.safetensors` : ""}.`,
    )
  }

  /** @returns false when it was stopped meanwhile, and stays due */
  async #evaluate(
    progress: number,
    onEvaluation: TrainerEvents["onEvaluation"],
    signal?: AbortSignal,
  ): Promise<boolean> {
    const { run, model, average, evaluate } = this.#parts
    this.#parts.profile?.interrupt()
    const start = performance.now()
    const spent = () => ofMain(this.#group, (performance.now() - start) / 1000)
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
        run.write("best.safetensors", (path) => saveWeights(path, model, notes))
      }
    } catch (error) {
      if ((error as Error).name === "AbortError") return false
      throw error
    } finally {
      average?.swap()
    }
    run.log(record)
    run.writeJson("scores.json", record.scores)
    await onEvaluation?.(record)
    const seconds = spent() // pictures and checkpoints count too
    this.#state.evaluationSeconds += seconds
    this.#state.evaluations++
    this.#secondsPerEvaluation = seconds
    this.#state.nextEvaluation = progress >= 1 ? NEVER : progress + (1 - progress) / this.evaluationsLeft
    this.save()
    return true
  }
}
