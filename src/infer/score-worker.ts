// The worker thread of score-predictions.ts: scores the images of the ranges that it is sent.
import { workerData } from "node:worker_threads"
import { UserError } from "../errors.ts"
import { imageScorer, type ScoreAnswer, type ScoreRange, type ScoreSetup } from "./score-images.ts"

const score = imageScorer(workerData as ScoreSetup)

export default function work(range: ScoreRange): ScoreAnswer {
  try {
    return { images: score(range) }
  } catch (error) {
    if (error instanceof UserError) return { problem: error.message }
    throw error
  }
}
