// How far a score would move had other images of the same kind been drawn: bootstrap intervals over images, and whether one
// run is better than another on the same images.
// Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 (percentile interval) and 16
import { uniformInt } from "pure-rand/distribution/uniformInt"
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus"
import { sum } from "../arrays.ts"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { type Evaluation, matrixOfImage } from "./evaluation.ts"

/** One number of a confusion matrix: an entry of `metrics`, or `(matrix) => ({ value })`. */
export type Statistic = (matrix: ConfusionMatrix) => { readonly value: number | null }

export interface BootstrapOptions {
  /** How many resamples. Default 1000. */
  readonly samples?: number
  /** Default 0. Equal seeds give equal intervals. */
  readonly seed?: number
  /** Share of the resamples inside the interval. Default 0.95. */
  readonly level?: number
}

export interface Interval {
  /** Of the set itself; null where undefined. */
  readonly value: number | null
  /** Null where the metric is undefined in every resample. */
  readonly low: number | null
  readonly high: number | null
}

export interface PairedDifference {
  /** Metric of a minus metric of b, of the set itself; null where undefined. */
  readonly difference: number | null
  /** Null where the difference is undefined in every resample. */
  readonly low: number | null
  readonly high: number | null
  /** Share of the resamples in which a is better than b; ties count half. */
  readonly probability: number | null
}

/**
 * The percentile interval of a metric: as many images are drawn as there are, with replacement, their matrices added up and
 * scored, again and again. Resamples in which the metric is undefined are left out, and a mean over classes leaves out those that
 * a resample lacks: with a class in a few images only, the interval lies to one side of the value. It says how far the choice of
 * images matters; the choice of the training's random numbers comes on top.
 * @param matrices one per image
 */
export function bootstrapInterval(
  matrices: readonly ConfusionMatrix[],
  metric: Statistic,
  options: BootstrapOptions = {},
): Interval {
  return bootstrapIntervals(matrices, { metric }, options).metric
}

/** As bootstrapInterval, for several metrics of the same resamples at once. */
export function bootstrapIntervals<Name extends string>(
  matrices: readonly ConfusionMatrix[],
  metrics: Readonly<Record<Name, Statistic>>,
  { level = 0.95, ...options }: BootstrapOptions = {},
): Record<Name, Interval> {
  const names = Object.keys(metrics) as Name[]
  const whole = sumOf(matrices)
  const values = new Map(names.map((name) => [name, [] as (number | null)[]]))
  resample([matrices], options, ([matrix]) => {
    for (const name of names) values.get(name)!.push(metrics[name](matrix!).value)
  })
  const intervals = names.map((name): [Name, Interval] => {
    const value = whole && metrics[name](whole).value
    return [name, { value, ...middle(values.get(name)!, level) }]
  })
  return Object.fromEntries(intervals) as Record<Name, Interval>
}

/**
 * The percentile interval of the difference of two runs' scores, over the same images drawn for both: what they have in common, hard
 * images above all, falls out. When it does not reach 0, the difference is more than the choice of images.
 * @param a, b one matrix per image, of the same images in the same order: see `commonImages`
 */
export function pairedBootstrap(
  a: readonly ConfusionMatrix[],
  b: readonly ConfusionMatrix[],
  metric: Statistic,
  options: BootstrapOptions = {},
): PairedDifference {
  return pairedBootstraps(a, b, { metric }, options).metric
}

/** As pairedBootstrap, for several metrics of the same resamples at once. */
export function pairedBootstraps<Name extends string>(
  a: readonly ConfusionMatrix[],
  b: readonly ConfusionMatrix[],
  metrics: Readonly<Record<Name, Statistic>>,
  { level = 0.95, ...options }: BootstrapOptions = {},
): Record<Name, PairedDifference> {
  if (a.length !== b.length) {
    throw new RangeError(`pairedBootstrap: ${a.length} images and ${b.length}; expected the same. See commonImages().`)
  }
  const names = Object.keys(metrics) as Name[]
  const difference = (name: Name, one: ConfusionMatrix | null, other: ConfusionMatrix | null): number | null => {
    const [x, y] = [one && metrics[name](one).value, other && metrics[name](other).value]
    return x === null || y === null ? null : x - y
  }
  const differences = new Map(names.map((name) => [name, [] as (number | null)[]]))
  resample([a, b], options, ([one, other]) => {
    for (const name of names) differences.get(name)!.push(difference(name, one!, other!))
  })
  const [wholeA, wholeB] = [sumOf(a), sumOf(b)]
  const pairs = names.map((name): [Name, PairedDifference] => {
    const known = differences.get(name)!.filter((value) => value !== null)
    const wins = sum(known.map((value) => (value > 0 ? 1 : value === 0 ? 0.5 : 0)))
    return [
      name,
      {
        difference: difference(name, wholeA, wholeB),
        ...middle(known, level),
        probability: known.length > 0 ? wins / known.length : null,
      },
    ]
  })
  return Object.fromEntries(pairs) as Record<Name, PairedDifference>
}

/** The matrices of the images that two evaluations share (by id), in the order of `a`, and the ids that only one has. */
export function commonImages(
  a: Evaluation,
  b: Evaluation,
): {
  readonly ids: readonly string[]
  readonly a: readonly ConfusionMatrix[]
  readonly b: readonly ConfusionMatrix[]
  readonly onlyA: readonly string[]
  readonly onlyB: readonly string[]
} {
  if (a.classes.join() !== b.classes.join()) {
    throw new RangeError(`commonImages: the classes differ: ${a.classes.join(", ")}, and ${b.classes.join(", ")}.`)
  }
  const K = a.classes.length
  const [ofA, ofB] = [a, b].map(({ images }) => new Map(images.map((image) => [image.id, image])))
  const ids = [...ofA!.keys()].filter((id) => ofB!.has(id))
  return {
    ids,
    a: ids.map((id) => matrixOfImage(ofA!.get(id)!, K)),
    b: ids.map((id) => matrixOfImage(ofB!.get(id)!, K)),
    onlyA: [...ofA!.keys()].filter((id) => !ofB!.has(id)),
    onlyB: [...ofB!.keys()].filter((id) => !ofA!.has(id)),
  }
}

/** Calls `use` with the summed matrices of each resample, of all sets the same images. The matrices are used again. */
function resample(
  sets: readonly (readonly ConfusionMatrix[])[],
  { samples = 1000, seed = 0 }: BootstrapOptions,
  use: (sums: readonly ConfusionMatrix[]) => void,
): void {
  const images = sets[0]?.length ?? 0
  if (images === 0) return
  const cells = sets.map((matrices) => matrices.map((matrix) => matrix.cells())) // a few of the K x K
  const sums = sets.map((matrices) => new ConfusionMatrix(matrices[0]!.classes))
  const random = xoroshiro128plus(seed)
  for (let n = 0; n < samples; n++) {
    for (const total of sums) total.counts.fill(0)
    for (let i = 0; i < images; i++) {
      const drawn = uniformInt(random, 0, images - 1)
      for (const [s, total] of sums.entries()) total.addCells(cells[s]![drawn]!)
    }
    use(sums)
  }
}

function sumOf(matrices: readonly ConfusionMatrix[]): ConfusionMatrix | null {
  const [first] = matrices
  return first ? matrices.reduce((total, matrix) => total.merge(matrix), new ConfusionMatrix(first.classes)) : null
}

/** What lies in the middle of the values, linearly between two of them (NumPy's percentile). */
function middle(values: readonly (number | null)[], level: number): { low: number | null; high: number | null } {
  const sorted = Float64Array.from(values.filter((value) => value !== null)).sort()
  const at = (share: number): number | null => {
    if (sorted.length === 0) return null
    const place = share * (sorted.length - 1)
    const [lower, upper] = [sorted[Math.floor(place)] as number, sorted[Math.ceil(place)] as number]
    return lower + (place - Math.floor(place)) * (upper - lower)
  }
  return { low: at((1 - level) / 2), high: at((1 + level) / 2) }
}
