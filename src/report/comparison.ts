// Several runs against the first of them, on the same images: what is different in them, how much better or worse each is and whether
// that is more than chance, and on which images.
import { existsSync } from "node:fs"
import { basename, resolve } from "node:path"
import { UserError } from "../errors.ts"
import {
  type ConfusionMatrix,
  classIoU,
  classScores,
  commonImages,
  type Evaluation,
  type Metric,
  type MetricName,
  meanIoU,
  metrics,
  type PairedDifference,
  pairedBootstraps,
  type Statistic,
  shownMetrics,
} from "../metrics/index.ts"
import type { TrainConfig } from "../train/config.ts"
import { type Difference, difference, type Explanation } from "../train/explain.ts"
import { explainConfig } from "../train/explain-config.ts"
import { RunFolder, type RunRecord } from "../train/run-folder.ts"
import { findingsOf } from "./findings.ts"
import { validationSet } from "./predictor.ts"
import { type Scored, scored } from "./score-sections.ts"

export interface ComparedRun extends Scored {
  /** The folder's name; its path where two have the same. */
  readonly name: string
  readonly run: RunFolder
  readonly records: readonly RunRecord[]
}

/** An image in two runs. */
export interface ImageDifference {
  readonly id: string
  /** Mean IoU of the image in the first run and in the other, 0 to 1. */
  readonly first: number
  readonly other: number
}

/** A run against the first. */
export interface Pair {
  readonly other: ComparedRun
  /** The other's minus the first's. */
  readonly means: Partial<Readonly<Record<MetricName, PairedDifference>>>
  /** Of each class's IoU. */
  readonly classes: readonly PairedDifference[]
  /** Images that both can be scored on, in the order of the split. */
  readonly images: readonly ImageDifference[]
  /** Images that are better by more than a point, those that are worse, and the rest. */
  readonly wins: number
  readonly losses: number
  readonly even: number
  /** What the configurations do differently. */
  readonly configuration: Difference
}

export interface Comparison {
  readonly runs: readonly ComparedRun[]
  readonly pairs: readonly Pair[]
  /** Options in which not all runs are the same, with the value of each run. */
  readonly options: readonly { readonly key: keyof TrainConfig; readonly values: readonly unknown[] }[]
}

export interface CompareOptions {
  /** Where the data set is now, if it is no longer where the runs had it. */
  readonly data?: string
  /** While a run is scored that was not scored before: its name, images done and in all. */
  readonly onProgress?: (run: string, done: number, total: number) => void
  readonly signal?: AbortSignal
}

/** A difference of an image's mean IoU that counts. */
const EVEN = 0.01

/**
 * Compares runs with the first of them. Those that were not scored yet are scored first.
 * @param paths two or more run folders
 * @throws UserError when one is no run, or they cannot be compared: other classes, other images, other labels
 */
export async function compareRuns(paths: readonly string[], options: CompareOptions = {}): Promise<Comparison> {
  const { data, onProgress, signal } = options
  const folders = openRuns(paths)
  refuseOtherClasses(folders)
  refuseOtherImages(folders, data)
  const names = namesOf(folders)
  const runs: ComparedRun[] = []
  for (const [k, run] of folders.entries()) {
    const { evaluation } = await findingsOf(run, {
      ...(data !== undefined && { data }),
      onProgress: (done, total) => onProgress?.(names[k]!, done, total),
      signal,
    })
    runs.push({ name: names[k]!, run, records: run.records(), ...scored(evaluation) })
  }
  const explanations: Explanation[] = []
  for (const run of folders) explanations.push(await explainConfig(run.config, { run }))
  const [first, ...others] = runs as [ComparedRun, ...ComparedRun[]]
  const pairs = others.map((other, k) => pairOf(first, other, difference(explanations[0]!, explanations[k + 1]!)))
  const keys = new Set(pairs.flatMap(({ configuration }) => configuration.options.map(({ key }) => key)))
  const order = Object.keys(explanations[0]!.config) as (keyof TrainConfig)[]
  return {
    runs,
    pairs,
    options: order
      .filter((key) => keys.has(key))
      .map((key) => ({ key, values: explanations.map(({ config }) => config[key]) })),
  }
}

function openRuns(paths: readonly string[]): RunFolder[] {
  if (paths.length < 2) {
    throw new UserError(`There is nothing to compare ${paths[0] ?? "a run"} with; expected two runs or more.`)
  }
  for (const [k, path] of paths.entries()) {
    const other = paths.findIndex((earlier) => resolve(earlier) === resolve(path))
    if (other < k) throw new UserError(`${path} stands there twice; expected different runs.`)
  }
  return paths.map((path) => RunFolder.open(path))
}

function namesOf(runs: readonly RunFolder[]): string[] {
  const short = runs.map(({ path }) => basename(resolve(path)))
  return runs.map(({ path }, k) => (short.filter((name) => name === short[k]).length > 1 ? path : short[k]!))
}

function refuseOtherClasses([first, ...others]: readonly RunFolder[]): void {
  const names = (run: RunFolder) => run.labelMap.classes.map(({ name }) => name).join(", ")
  for (const other of others) {
    if (names(other) === names(first!)) continue
    throw new UserError(
      `${other.path} cannot be compared with ${first!.path}: its classes are ${names(other)}; there they are ${names(first!)}.`,
    )
  }
}

/** What can be known before runs are scored, which may take minutes. */
function refuseOtherImages(runs: readonly RunFolder[], data?: string): void {
  const lists = runs.map((run) => (existsSync(data ?? run.config.data) ? validationSet(run, data).ids : null))
  const first = lists.findIndex((ids) => ids !== null)
  if (first < 0) return
  for (const [k, ids] of lists.entries()) {
    if (ids !== null) refuseOtherIds([runs[first]!.path, lists[first]!], [runs[k]!.path, ids])
  }
}

function refuseOtherIds(
  [first, ofFirst]: readonly [path: string, ids: readonly string[]],
  [other, ofOther]: readonly [path: string, ids: readonly string[]],
): void {
  const missing = (from: readonly string[], ids: readonly string[]) => {
    const known = new Set(ids)
    return from.filter((id) => !known.has(id))
  }
  const [onlyFirst, onlyOther] = [missing(ofFirst, ofOther), missing(ofOther, ofFirst)]
  const example = [...onlyFirst, ...onlyOther][0]
  if (example === undefined) return
  throw new UserError(
    `${other} cannot be compared with ${first}: they were validated on different images (${ofOther.length} and ${ofFirst.length}, ` +
      `and only one of them has ${example}). Score both on one split with "pixelwise eval", or train on the same data.`,
  )
}

function pairOf(first: ComparedRun, other: ComparedRun, configuration: Difference): Pair {
  refuseOtherIds([first.run.path, idsOf(first.evaluation)], [other.run.path, idsOf(other.evaluation)])
  const common = commonImages(other.evaluation, first.evaluation)
  refuseOtherLabels(first, other, common)
  const { background, classes } = first.evaluation
  const ofMeans = shownMetrics(first.scores).map((name): [string, Statistic] => {
    const metric: Metric = metrics[name]
    return [name, (matrix) => metric(matrix, { background })]
  })
  const ofClasses = classes.map((_, k): [string, Statistic] => [
    String(k),
    (matrix) => ({ value: classIoU(matrix, k) }),
  ])
  const paired = pairedBootstraps(common.a, common.b, Object.fromEntries([...ofMeans, ...ofClasses]))
  const images = common.ids.flatMap((id, k) => {
    const [ofFirst, ofOther] = [meanIoU(common.b[k]!).value, meanIoU(common.a[k]!).value]
    return ofFirst === null || ofOther === null ? [] : [{ id, first: ofFirst, other: ofOther }]
  })
  const count = (test: (gain: number) => boolean) => images.filter(({ first, other }) => test(other - first)).length
  return {
    other,
    means: Object.fromEntries(ofMeans.map(([name]) => [name, paired[name]!])),
    classes: classes.map((_, k) => paired[k]!),
    images,
    wins: count((gain) => gain > EVEN),
    losses: count((gain) => gain < -EVEN),
    even: count((gain) => Math.abs(gain) <= EVEN),
    configuration,
  }
}

const idsOf = ({ images }: Evaluation): string[] => images.map(({ id }) => id)

function refuseOtherLabels(first: ComparedRun, other: ComparedRun, common: ReturnType<typeof commonImages>): void {
  const truth = (matrix: ConfusionMatrix) => String(classScores(matrix).map(({ truthPixels }) => truthPixels))
  const changed = common.ids.find((_, k) => truth(common.a[k]!) !== truth(common.b[k]!))
  if (changed === undefined) return
  throw new UserError(
    `${other.run.path} cannot be compared with ${first.run.path}: the labels of ${changed} were not the same. ` +
      `If the masks were changed, score both again: pixelwise eval --run ${first.run.path}.`,
  )
}

/** Those with the largest gains, and those with the largest losses, the largest first. */
export function mostDifferent({ images }: Pair, count: number): { gained: ImageDifference[]; lost: ImageDifference[] } {
  const ranked = images.toSorted((a, b) => b.other - b.first - (a.other - a.first))
  return {
    gained: ranked.slice(0, count).filter(({ first, other }) => other > first),
    lost: ranked
      .slice(-count)
      .reverse()
      .filter(({ first, other }) => other < first),
  }
}

/** Where the means of runs are over different classes, which ones each leaves out; they then differ by that alone. */
export function differentMeans(runs: readonly ComparedRun[]): string | null {
  const leftOut = runs.map(({ scores }) => scores.leftOut.join(", "))
  if (new Set(leftOut).size < 2) return null
  const told = runs.map(({ name }, k) => `${name}: ${leftOut[k] || "none"}`)
  return `Their means are not over the same classes, so compare class by class. Left out, because in neither truth nor prediction: ${told.join("; ")}.`
}

/** What the difference of two runs means, in a sentence or two. */
export function verdict(first: ComparedRun, { other, means }: Pair): string {
  const { difference, low, high, probability } = means.meanIoU!
  if (difference === null || low === null || high === null) return `${other.name} and ${first.name} have no mean IoU.`
  const points = (value: number) => (100 * Math.abs(value)).toFixed(1)
  if (difference === 0 && low === 0 && high === 0) return `${other.name} and ${first.name} have the same mean IoU.`
  const how = difference < 0 ? "worse" : "better"
  const interval = `95 % interval ${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}`
  const says = `${other.name} is ${how} than ${first.name} by ${points(difference)} points of mean IoU (${interval})`
  return low <= 0 && high >= 0
    ? `${says}: with other images of the kind it might be the other way round (it is better in ${(100 * probability!).toFixed(0)} % of the resamples).`
    : `${says}: more than the choice of images explains.`
}
