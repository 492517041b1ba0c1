// What eval and score show and write of an evaluation: the tables for people, one object for machines, all of it in a file.
import { existsSync, statSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { UserError } from "../errors.ts"
import { writeFileAtomic } from "../files.ts"
import {
  boundaryScores,
  ceilingScores,
  type Evaluation,
  honestyTable,
  intervalsOf,
  matrixOf,
  scoresOf,
} from "../metrics/index.ts"
import type { Output } from "./output.ts"
import { evaluationTable } from "./scores-table.ts"

interface Options {
  out?: string
  json?: boolean
}

/**
 * @param example the name that a file there could have
 * @throws UserError before the work rather than after it, when --out has no folder or is one
 */
export function checkOut(out: string | undefined, example: string): void {
  if (out === undefined) return
  const folder = dirname(resolve(out))
  if (!existsSync(folder)) throw new UserError(`--out ${out}: the folder ${folder} does not exist. Make it first.`)
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`--out ${out} is a folder; expected a file: ${join(out, example)}.`)
  }
}

/**
 * @param about what was scored on what: stands before the scores, and in the file
 * @param options.out where the whole evaluation is written, image by image
 */
export function showEvaluation(evaluation: Evaluation, about: object, output: Output, { out, json }: Options): void {
  output.endProgress()
  if (out !== undefined) writeFileAtomic(out, `${JSON.stringify({ ...about, ...evaluation })}\n`)
  // Either alone: the intervals of 2,913 images take most of a second.
  if (json) output.result({ ...about, ...asObject(evaluation) }, "")
  else output.result({}, evaluationTable(evaluation))
  if (out !== undefined) output.say(`\nImage by image in ${out}`)
}

const asObject = (evaluation: Evaluation) => ({
  images: evaluation.images.length,
  scores: scoresOf(evaluation),
  intervals: intervalsOf(evaluation),
  boundary: boundaryScores(evaluation),
  honesty: honestyTable(evaluation),
  calibration: evaluation.calibration,
  ceilings: ceilingScores(evaluation),
  confusion: matrixOf(evaluation),
})
