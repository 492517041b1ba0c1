// What is known of a run's best model on its validation split: its scores (evaluation.json) and what its errors are
// (diagnosis.json). Read from the run where they are there and of its present weights, else measured in one pass.
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import { readText } from "../data/files.ts"
import { UserError } from "../errors.ts"
import { fileDigest } from "../files.ts"
import { isPlain } from "../infer/segment.ts"
import { type EvaluateRunOptions, evaluateRun, type RunEvaluation } from "../train/evaluate-run.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { weightsFile } from "../train/trained-model.ts"
import { classifyErrors, type ErrorSummary, ErrorTally } from "./errors.ts"
import { bySuspicion, type Suspect, suspectedLabelErrors } from "./suspects.ts"

export interface Diagnosis {
  /** Of which evaluation: the time that stands in it too. */
  readonly evaluated: string
  /** Of all images together. */
  readonly errors: ErrorSummary
  /** The most suspicious first. */
  readonly suspects: readonly Suspect[]
}

export interface Findings {
  readonly evaluation: RunEvaluation
  readonly diagnosis: Diagnosis
}

export type FindingsOptions = Omit<EvaluateRunOptions, "split" | "onImage">

const MOST_SUSPECTS = 60 // kept; nobody looks through more

/**
 * What was measured by plain inference is kept in the run, and used as long as the weights are the same.
 * @param options.data where the data set is now; what is measured there is kept only where it is the run's own
 * @throws UserError when the run has no weights, or when what must be measured cannot be
 */
export async function findingsOf(run: RunFolder, options: FindingsOptions = {}): Promise<Findings> {
  const { inference = {} } = options
  const kept = isPlain(inference) ? keptFindings(run) : null
  if (kept) return kept
  const { background = null, classes } = run.labelMap
  const tally = new ErrorTally(classes.length)
  const suspects: Suspect[] = []
  const evaluation = await evaluateRun(run, {
    ...options,
    onImage: (image) => {
      const { prediction, truth } = image
      const kinds = classifyErrors(prediction, truth, image, { background })
      tally.add(kinds, prediction, truth)
      suspects.push(...suspectedLabelErrors(image, { kinds }))
    },
  })
  const { evaluated } = evaluation
  const diagnosis = { evaluated, errors: tally.summary(), suspects: suspects.sort(bySuspicion).slice(0, MOST_SUSPECTS) }
  if (isPlain(inference) && resolve(evaluation.data) === resolve(run.config.data)) {
    run.writeJson("diagnosis.json", diagnosis)
  }
  return { evaluation, diagnosis }
}

/** What the run's files say, where both are there, of the weights as they are (or no longer are there), and of one evaluation. */
function keptFindings(run: RunFolder): Findings | null {
  if (!["evaluation.json", "diagnosis.json"].every((name) => existsSync(run.file(name)))) return null
  const evaluation: RunEvaluation = read(run, "evaluation.json")
  const diagnosis: Diagnosis = read(run, "diagnosis.json")
  const weights = weightsFile(run)
  const isCurrent = weights === undefined || evaluation.weightsDigest === fileDigest(weights)
  return isCurrent && evaluation.evaluated === diagnosis.evaluated ? { evaluation, diagnosis } : null
}

function read<T>(run: RunFolder, name: string): T {
  const file = run.file(name)
  try {
    return JSON.parse(readText(file, "evaluation")) as T
  } catch (cause) {
    if (cause instanceof UserError) throw cause
    throw new UserError(`${file} is damaged: it is not JSON. Remove it, and it is made again.`, { cause })
  }
}
