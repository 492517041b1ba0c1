// Batches, made ahead of time in worker threads while the main thread trains.
// What comes out depends only on (seed, epoch, sample): not on the number of workers, on timing, or on where a run resumed.
import { availableParallelism } from "node:os"
import { setImmediate } from "node:timers/promises"
import { UserError } from "../errors.ts"
import { arraysOf, type Batch, type BatchArrays, type BatchPlan, buffersOf, makeBatch } from "./batch.ts"
import type { WorkerAnswer, WorkerSetup, WorkerTask } from "./loader-worker.ts"
import { permutation, randomFor } from "./random.ts"
import { cached } from "./sample-cache.ts"
import { buildTransform, type Transform, type TransformSpec } from "./transforms/index.ts"
import type { SampleSource, VocFolder } from "./voc-folder.ts"
import { WorkerPool } from "./worker-pool.ts"

/** The part of the work that one of several processes has. */
export interface Share {
  /** 0 to size - 1. */
  readonly rank: number
  readonly size: number
}

export type LoaderOptions = {
  /** Of all processes together. */
  readonly batchSize: number
  /**
   * Of several processes the one that this is. Of each training batch it then has its slice, the same images in the same
   * augmentation as in the whole one; of the batches of `pass` every `size`-th.
   */
  readonly share?: Share
  /** How many samples each batch of `pass` has, one after the other; by default `batchSize` each. */
  readonly passSizes?: readonly number[]
  readonly transform: TransformSpec
  /** Chooses order and augmentation. */
  readonly seed?: number
  /** Worker threads; 0 makes each batch on the main thread when it is asked for. */
  readonly workers?: number
  /** Batches made ahead. Bounded, because decoding competes with training for the same cores. */
  readonly prefetch?: number
  /** Memory for decoded samples, of all workers together; 0 reads every sample anew. */
  readonly cacheBytes?: number
  /** Whether each batch says how it was made, for a profile. */
  readonly profile?: boolean
}

/** All cores but one, which stays with training; at least 1, at most 4. @param cores of this process */
export const defaultWorkers = (cores = availableParallelism()) => Math.max(1, Math.min(4, cores - 1))

/**
 * Loads a data set in batches.
 * ```ts
 * await using loader = new Loader(dataset, { batchSize: 8, transform: { name: "randomCrop", cropSize: [256, 256] } })
 * for await (const batch of loader.batches()) { ... }   // training: shuffled, without end
 * for await (const batch of loader.pass()) { ... }      // evaluation: every sample once, in order
 * ```
 * A problem with a sample ends the iteration with its UserError, at the step that sample belongs to.
 */
export class Loader {
  /** Seconds for which iterations stood waiting for a batch: the part of a run's time that loading costs. */
  waitSeconds = 0

  readonly #dataset: VocFolder
  readonly #source: SampleSource
  readonly #batchSize: number
  readonly #passSizes: readonly number[]
  readonly #share: Share
  readonly #seed: number
  readonly #prefetch: number
  readonly #isProfiled: boolean
  readonly #transform: Transform
  readonly #pool: WorkerPool<WorkerTask, WorkerAnswer> | undefined
  readonly #closed = new Int32Array(new SharedArrayBuffer(4)) // seen by the workers, who then fail what they are asked
  #isClosed = false

  constructor(
    dataset: VocFolder,
    {
      batchSize,
      passSizes,
      share = { rank: 0, size: 1 },
      transform,
      seed = 0,
      workers = defaultWorkers(),
      prefetch = Math.max(2, workers),
      cacheBytes = 0,
      profile = false,
    }: LoaderOptions,
  ) {
    checkWhole("batchSize", batchSize, 1)
    checkWhole("workers", workers, 0)
    checkWhole("prefetch", prefetch, 1)
    checkWhole("cacheBytes", cacheBytes, 0)
    if (!Number.isSafeInteger(seed)) throw new UserError(`seed: got ${seed}; expected a whole number.`)
    this.#dataset = dataset
    this.#source = cached(dataset, cacheBytes)
    this.#batchSize = batchSize
    const count = dataset.ids.length
    this.#passSizes =
      passSizes ??
      Array.from({ length: Math.ceil(count / batchSize) }, (_, k) => Math.min(batchSize, count - k * batchSize))
    const sum = this.#passSizes.reduce((total, size) => total + size, 0)
    if (sum !== count)
      throw new UserError(`passSizes: got ${sum} samples in all; expected the ${count} of the data set.`)
    if (passSizes === undefined) checkShares(batchSize, count, share.size)
    this.#share = share
    this.#seed = seed
    this.#isProfiled = profile
    this.#prefetch = workers === 0 ? 0 : prefetch
    this.#transform = buildTransform(transform) // also checks the options here, before any worker starts
    if (workers > 0) {
      this.#pool = new WorkerPool(import.meta.url, "loader-worker", {
        threads: workers,
        tasksAtOnce: Math.ceil(prefetch / workers),
        data: {
          files: dataset.files,
          transform,
          cacheBytes: Math.floor(cacheBytes / workers),
          closed: this.#closed,
          isProfiled: profile,
        } satisfies WorkerSetup,
      })
    }
  }

  /**
   * Training steps in an epoch. The last, incomplete batch is dropped (batch-norm on a small remainder is noise, and on one
   * sample an error), except where it is the only one. Each epoch is shuffled anew, so no sample is left out for good.
   */
  get stepsPerEpoch(): number {
    return Math.max(1, Math.floor(this.#dataset.ids.length / this.#batchSize))
  }

  /** Batches in a pass over all samples, those of other processes included. */
  get batchesInPass(): number {
    return this.#passSizes.length
  }

  /**
   * Batches for training, shuffled, without end.
   * @param startStep the first step wanted; what came before is skipped without being loaded, so a resumed run sees what the
   *   uninterrupted one would have seen
   * @param reuse write a batch's arrays again once the next batch is asked for: saves new memory for each, and the batch
   *   must not be kept
   */
  batches({ startStep = 0, reuse = false } = {}): AsyncGenerator<Batch, never> {
    checkWhole("startStep", startStep, 0)
    return this.#iterate(this.#trainingPlans(startStep), reuse) as AsyncGenerator<Batch, never>
  }

  /**
   * Every sample of this process's share once, in order; without `passSizes` the last batch may be smaller.
   * @param reuse as in `batches`
   */
  pass({ reuse = false } = {}): AsyncGenerator<Batch, void> {
    return this.#iterate(this.#passPlans(), reuse)
  }

  /** Ends the worker threads. An iteration that still waits for a batch then ends with an error. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    Atomics.store(this.#closed, 0, 1)
    await this.#pool?.close()
  }

  *#trainingPlans(startStep: number): Generator<BatchPlan> {
    const perEpoch = this.stepsPerEpoch
    const { rank, size } = this.#share
    const part = Math.min(this.#batchSize, this.#dataset.ids.length) / size
    let order: Uint32Array = new Uint32Array()
    for (let step = startStep; ; step++) {
      const epoch = Math.floor(step / perEpoch)
      const inEpoch = step % perEpoch
      if (inEpoch === 0 || order.length === 0) {
        order = permutation(this.#dataset.ids.length, randomFor(this.#seed, epoch))
      }
      const start = inEpoch * this.#batchSize + rank * part
      yield { seed: this.#seed, epoch, step, indices: [...order.subarray(start, start + part)] }
    }
  }

  *#passPlans(): Generator<BatchPlan> {
    let start = 0
    for (const [step, length] of this.#passSizes.entries()) {
      const first = start
      start += length
      if (step % this.#share.size !== this.#share.rank) continue
      yield { seed: this.#seed, epoch: 0, step, indices: Array.from({ length }, (_, i) => first + i) }
    }
  }

  async *#iterate(plans: Generator<BatchPlan>, reuse: boolean): AsyncGenerator<Batch, void> {
    const ahead: Promise<Batch>[] = []
    const used: BatchArrays[] = []
    while (true) {
      while (ahead.length <= this.#prefetch) {
        const { value, done } = plans.next()
        if (done) break
        const batch = this.#load(value, used.pop())
        batch.catch(() => {}) // handled below, when its turn comes; until then it must not count as unhandled
        ahead.push(batch)
      }
      const next = ahead.shift()
      if (next === undefined) return
      const asked = performance.now()
      const batch = await next
      // A batch that is there already arrives without a turn of the event loop, and only its turns deliver Ctrl-C and timers:
      // a training loop that never waits for data would otherwise not hear of them.
      await setImmediate()
      this.waitSeconds += (performance.now() - asked) / 1000
      yield batch
      if (reuse) used.push(arraysOf(batch))
    }
  }

  async #load(plan: BatchPlan, used?: BatchArrays): Promise<Batch> {
    if (this.#isClosed) throw new Error("Loader: it is closed")
    if (this.#pool === undefined)
      return makeBatch(this.#source, this.#transform, plan, { used, isProfiled: this.#isProfiled })
    const answer = await this.#pool.run({ plan, used }, used && buffersOf(used)).catch((cause) => {
      throw this.#isClosed ? new Error("Loader: closed while a batch was awaited", { cause }) : cause
    })
    if ("problem" in answer) throw new UserError(answer.problem)
    return answer.batch
  }
}

/** @throws UserError where a batch, or all `count` images if they are fewer, cannot be shared out evenly among the processes */
export function checkShares(batchSize: number, count: number, processes: number): void {
  const whole = Math.min(batchSize, count)
  if (whole % processes === 0) return
  const most = whole < batchSize ? `, of at most the ${count} images there are` : ""
  throw new UserError(
    `A batch of ${whole} images cannot be shared out evenly among ${processes} processes. Use a batch size that is a multiple of ${processes}${most}.`,
  )
}

function checkWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return
  throw new UserError(`${name}: got ${value}; expected a whole number, at least ${least}.`)
}
