// Scores predictions that are already there, of any tool, against the masks of a split. It needs neither a model nor pictures, only
// two PNGs for each image; worker threads read and compare them.
import { availableParallelism } from "node:os"
import { setImmediate } from "node:timers/promises"
import type { VocMasks } from "../data/voc-folder.ts"
import { WorkerPool } from "../data/worker-pool.ts"
import { UserError } from "../errors.ts"
import { type Evaluation, Evaluator, type ImageEvaluation } from "../metrics/evaluation.ts"
import { imageScorer, type Predictions, type ScoreAnswer, type ScoreRange, type ScoreSetup } from "./score-images.ts"

export interface ScoreOptions {
  /** Measure boundary IoU, boundary F1 and Hausdorff distances too. Default false: they take several times as long as all else. */
  readonly boundary?: boolean
  /** Worker threads; 0: all work is done on this thread. Default: as many as there are cores, where they are worth their start. */
  readonly workers?: number
  /** Called now and then, and at the end, with the images done. */
  readonly onProgress?: (done: number, total: number) => void
  /** Ends it soon, with the signal's reason as error. */
  readonly signal?: AbortSignal
}

/** Images that a worker is given at a time. */
const AT_A_TIME = 16

/**
 * The scores of all predictions of a split.
 * @throws UserError for the first image, in the order of the split, whose mask or prediction cannot be used: see `predictionReader`
 */
export async function scorePredictions(
  masks: VocMasks,
  predictions: Predictions,
  { boundary = false, workers, onProgress, signal }: ScoreOptions = {},
): Promise<Evaluation> {
  const { labelMap, ids } = masks
  const classes = labelMap.classes.map(({ name }) => name)
  const empty = new Evaluator({ classes, background: labelMap.background ?? null, boundary }).finish()
  const scorer = openScorer({ masks, predictions, boundary }, workers ?? defaultThreads(ids.length))

  const images: ImageEvaluation[] = []
  const ahead: Promise<readonly ImageEvaluation[]>[] = []
  let asked = 0
  try {
    while (images.length < ids.length) {
      while (ahead.length < scorer.atOnce && asked < ids.length) {
        const range = [asked, Math.min(ids.length, asked + AT_A_TIME)] as const
        const answer = scorer.score(range)
        answer.catch(() => {}) // handled below, when its turn comes; until then it must not count as unhandled
        ahead.push(answer)
        asked = range[1]
      }
      images.push(...(await ahead.shift()!))
      onProgress?.(images.length, ids.length)
      signal?.throwIfAborted()
    }
  } finally {
    await Promise.allSettled(ahead) // a thread must not be ended inside a decompression: see data/loader-worker.ts
    await scorer.close()
  }
  return { ...empty, images }
}

/** A thread takes as long to start as a hundred images take to score. */
const defaultThreads = (images: number): number => {
  const threads = Math.min(availableParallelism(), 8, Math.floor(images / 100))
  return threads < 2 ? 0 : threads
}

interface Scorer {
  /** How many ranges should be under way. */
  readonly atOnce: number
  score(range: ScoreRange): Promise<readonly ImageEvaluation[]>
  close(): Promise<void>
}

function openScorer(setup: ScoreSetup, workers: number): Scorer {
  if (workers === 0) {
    const score = imageScorer(setup)
    return {
      atOnce: 1,
      async score(range) {
        await setImmediate() // lets a progress bar and Ctrl-C have their turn
        return score(range)
      },
      async close() {},
    }
  }
  const pool = new WorkerPool<ScoreRange, ScoreAnswer>(import.meta.url, "score-worker", {
    threads: workers,
    data: setup,
  })
  return {
    atOnce: 2 * workers,
    async score(range) {
      const answer = await pool.run(range)
      if ("problem" in answer) throw new UserError(answer.problem)
      return answer.images
    },
    close: () => pool.close(),
  }
}
