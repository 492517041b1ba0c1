// The profile of a few steps: what ran when, on which thread.

import { clock } from "../clock.ts"
import type { Batch, LoaderSpan } from "../data/batch.ts"
import type { SegmentationModel } from "../models/index.ts"
import { addSpan, isProfiling, type Profile, profileLength, startProfile, stopProfile } from "../torch/index.ts"

/** A loader's thread at work. */
export interface LoaderSlice extends LoaderSpan {
  /** 0: the main thread. */
  readonly worker: number
}

/** What was noted. Times in microseconds of `clock()`. */
export interface StepsProfile {
  readonly parts: readonly Profile[]
  readonly loader: readonly LoaderSlice[]
  readonly steps: readonly { readonly step: number; readonly begin: number; readonly end: number }[]
  /** How long the steps before took, which were not profiled; in the first of them the loader started. */
  readonly before: readonly number[]
}

// Before them: memory and kernels are made ready in the first steps, and JavaScript becomes machine code in the first seconds.
const WARM_UP = { steps: 10, microseconds: 5e6 }
const STEPS = 10
/** About 150 bytes each in the file: a step of DeepLabV3 on ResNet-50 has 9,000. */
const MOST_SLICES = 150_000

/** The trainer tells it when steps begin and end. An evaluation between them is left out. */
export class StepProfile {
  readonly #names: ReadonlyMap<object, string>
  readonly #parts: Profile[] = []
  readonly #loader: LoaderSlice[] = []
  readonly #steps: { step: number; begin: number; end: number }[] = []
  readonly #before: number[] = []
  #warmedUp = 0
  #slices = 0
  #stepsLeft: number
  #stepBegan = 0
  #waitingSince = 0

  /** @param steps that the run will make, where that is known; of a short one those at the end are profiled, never the first of several */
  constructor(model: SegmentationModel, { steps = Number.POSITIVE_INFINITY } = {}) {
    this.#names = new Map(Array.from(model.namedModules(), ([name, module]) => [module, name]))
    this.#stepsLeft = steps
  }

  /** @param done steps of the run that were made before, in another process */
  resumeAt(done: number): void {
    this.#stepsLeft -= done
  }

  get isDone(): boolean {
    return this.#steps.length >= STEPS || this.#slices + profileLength() > MOST_SLICES
  }

  get #isWarm(): boolean {
    const { length } = this.#before
    const late = Math.max(this.#stepsLeft - STEPS, Math.min(1, this.#stepsLeft - 1)) // never the first of several
    return length >= late || (length >= WARM_UP.steps && this.#warmedUp >= WARM_UP.microseconds)
  }

  beginStep(): void {
    if (!this.isDone && this.#isWarm && !isProfiling()) startProfile(this.#names)
    this.#stepBegan = this.#waitingSince = clock()
  }

  /** What the time since the step began, or since its last batch was done, was spent on. */
  batchCame({ profile }: Pick<Batch, "profile">): void {
    if (this.isDone) return
    const now = clock()
    addSpan("waiting for data", this.#waitingSince, now)
    const { worker = 0, spans = [] } = profile ?? {}
    this.#loader.push(...spans.map((span) => ({ ...span, worker })))
  }

  /** The trainer has done with a batch, and wants another for the same step. */
  batchDone(): void {
    this.#waitingSince = clock()
  }

  endStep(step: number): void {
    const end = clock()
    if (!isProfiling()) {
      if (this.isDone) return
      this.#before.push(end - this.#stepBegan)
      this.#warmedUp += end - this.#stepBegan
      return
    }
    addSpan(`step ${step}`, this.#stepBegan, end)
    this.#steps.push({ step, begin: this.#stepBegan, end })
    if (this.isDone) this.interrupt()
  }

  /** Something else comes before the next step. */
  interrupt(): void {
    if (!isProfiling()) return
    this.#slices += profileLength()
    this.#parts.push(stopProfile())
  }

  /** What there is; null when no step was profiled. */
  finish(): StepsProfile | null {
    this.interrupt()
    const first = this.#steps[0]
    if (!first) return null
    const last = this.#steps.at(-1)!
    // Batches are made ahead: what was done before the first step is no part of it.
    const loader = this.#loader.filter(({ begin, end }) => end > first.begin && begin < last.end)
    return { parts: this.#parts, loader, steps: this.#steps, before: this.#before }
  }
}
