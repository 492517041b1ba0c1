// The worker thread of loader.ts: makes the batches it is sent plans for, one after the other.
import { workerData } from "node:worker_threads"
import { move, transferableSymbol, valueSymbol } from "piscina"
import { UserError } from "../errors.ts"
import { type Batch, type BatchArrays, type BatchPlan, buffersOf, makeBatch } from "./batch.ts"
import { cached } from "./sample-cache.ts"
import { buildTransform, type TransformSpec } from "./transforms/index.ts"
import { type SampleSource, type VocFiles, VocFolder } from "./voc-folder.ts"

export type WorkerSetup = {
  readonly files: VocFiles
  readonly transform: TransformSpec
  readonly cacheBytes: number
  /** [1], shared with the loader: not 0 once it is closed. */
  readonly closed: Int32Array
  readonly isProfiled: boolean
}

/** What to make, and arrays of an earlier batch to make it in. */
export type WorkerTask = { readonly plan: BatchPlan; readonly used?: BatchArrays }

/** A batch, or the message of a UserError: between threads an error keeps its message but not its class. */
export type WorkerAnswer = { readonly batch: Batch } | { readonly problem: string }

const setup = workerData as WorkerSetup
const samples = cached(new VocFolder(setup.files), setup.cacheBytes)
// Looks between two samples, so that a loader closes without making the batches that nobody waits for.
const source: SampleSource = {
  readSample(index) {
    if (Atomics.load(setup.closed, 0) !== 0) throw new Error("Loader: it is closed")
    return samples.readSample(index)
  },
}
const transform = buildTransform(setup.transform)

let queue: Promise<unknown> = Promise.resolve()

/** Plans wait here rather than on the main thread, which cannot hand out the next one while it is inside a training step. */
export default function work(task: WorkerTask): Promise<WorkerAnswer> {
  const answer = queue.then(() => answerTo(task))
  queue = answer.catch(() => {})
  return answer
}

async function answerTo({ plan, used }: WorkerTask): Promise<WorkerAnswer> {
  try {
    const batch = await makeBatch(source, transform, plan, { used, isProfiled: setup.isProfiled })
    // moved to the main thread, not copied
    return move({ [transferableSymbol]: buffersOf(batch), [valueSymbol]: { batch } }) as unknown as WorkerAnswer
  } catch (error) {
    if (error instanceof UserError) return { problem: error.message }
    throw error
  }
}
