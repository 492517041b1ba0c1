// Exploring a data set: one pass over its files, and then everything that the facts tell: statistics, suspected problems, and
// class weights for training. What people see of it is made in page.ts and in cli/explore.ts.
import { type ClassWeightingName, classWeightingNames, classWeightsOf } from "../losses/class-weights.ts"
import { type DataFiles, findDataFiles } from "./files.ts"
import type { EntryFacts } from "./inspect.ts"
import { type Finding, type ProblemName, problemKinds, problemNames } from "./problem-kinds.ts"
import { findProblems } from "./problems.ts"
import { countsOf, quantile, type Statistics, statisticsOf } from "./statistics.ts"
import { type SurveyOptions, survey } from "./survey.ts"

export interface Exploration {
  readonly files: DataFiles
  /** In the order of the entries. */
  readonly facts: readonly EntryFacts[]
  /** Of all masks that could be read, each counted once. */
  readonly statistics: Statistics
  readonly perSplit: ReadonlyMap<string, Statistics>
  readonly findings: readonly Finding[]
  /** [K] by each weighting, from the masks of the first list; null where it has none. */
  readonly weights: Readonly<Record<ClassWeightingName, readonly number[]>> | null
}

/**
 * Looks at every file of a data set in VOC layout, and goes on after each problem.
 * @param options.splits names of lists; default: train and val
 * @throws UserError when the data set or its masks cannot be opened, or a list of that name does not exist
 */
export async function explore(
  root: string,
  { splits, ...options }: SurveyOptions & { splits?: readonly string[] } = {},
): Promise<Exploration> {
  const all = findDataFiles(root, { splits })
  const facts = await survey(all, options)
  const files = all.isStandIn ? withoutUnusedNumbers(all, facts) : all
  const masksOf = (split?: string) =>
    files.entries.flatMap(({ splits }, index) => {
      const { mask } = facts[index]!
      return mask && (split === undefined || splits.includes(split)) ? [mask] : []
    })
  const perSplit = new Map(files.splits.map((split) => [split, statisticsOf(masksOf(split), files.labelMap)]))
  return {
    files,
    facts,
    statistics: statisticsOf(masksOf(), files.labelMap),
    perSplit,
    findings: findProblems(files, facts),
    weights: weightsOf(perSplit.get(files.splits[0]!)!),
  }
}

/** A label map that stands in names all 254 numbers; those behind the last one that occurs say nothing. */
function withoutUnusedNumbers(files: DataFiles, facts: readonly EntryFacts[]): DataFiles {
  const { labelMap } = files
  const last = labelMap.classes.findLastIndex((_, k) => facts.some(({ mask }) => mask !== null && mask.pixels[k]! > 0))
  return { ...files, labelMap: { ...labelMap, classes: labelMap.classes.slice(0, Math.max(1, last + 1)) } }
}

function weightsOf(statistics: Statistics): Exploration["weights"] {
  if (!statistics.classes.some(({ pixels }) => pixels > 0)) return null
  const names = statistics.classes.map(({ name }) => name)
  const entries = classWeightingNames.map((name) => [name, classWeightsOf(name, countsOf(statistics), names)])
  return Object.fromEntries(entries) as Exploration["weights"]
}

/** The findings of each problem that there is, in the order of `problemKinds`. */
export function byProblem(findings: readonly Finding[]): [ProblemName, Finding[]][] {
  return problemNames
    .map((name): [ProblemName, Finding[]] => [name, findings.filter(({ problem }) => problem === name)])
    .filter(([, its]) => its.length > 0)
}

/** Whether anything stops training, or makes scores that cannot be believed. */
export const isSerious = ({ findings }: Exploration): boolean =>
  findings.some(({ problem }) => problemKinds[problem].severity === "error")

/** What was found, as plain data. Sizes of objects are told by quantiles: there may be millions. */
export function toJson({ files, facts, statistics, perSplit, findings, weights }: Exploration) {
  const sizes = facts
    .flatMap(({ image, mask }) => image ?? mask ?? [])
    .map(({ width, height }) => [width, height] as const)
  return {
    data: files.root,
    lists: files.splits.map((split) => ({
      name: split,
      ids: files.entries.filter(({ splits }) => splits.includes(split)).length,
      ...numbersOf(perSplit.get(split)!),
    })),
    ...{ ids: files.entries.length, images: facts.filter(({ image }) => image).length, ...numbersOf(statistics) },
    sizes: Object.fromEntries(countEach(sizes.map(([width, height]) => `${width}x${height}`))),
    together: statistics.together,
    classWeights: weights,
    problems: byProblem(findings).map(([name, its]) => {
      const { severity, title, whatToDo } = problemKinds[name]
      return {
        problem: name,
        severity,
        title,
        whatToDo,
        count: its.length,
        findings: its.map(({ problem: _, ...its }) => its),
      }
    }),
  }
}

const numbersOf = ({ classes, ...rest }: Statistics) => ({
  ...{ masks: rest.masks, pixels: rest.pixels, void: rest.void, unknown: rest.unknown },
  classes: classes.map(({ objects, specks, ...its }) => ({
    ...its,
    objects: {
      count: objects.length,
      specks,
      ...(objects.length > 0 && {
        pixels: { smallest: objects[0]!, median: quantile(objects, 0.5), largest: objects.at(-1)! },
      }),
    },
  })),
})

/** How often each value occurs, the most frequent first. */
export function countEach(values: readonly string[]): [value: string, count: number][] {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].sort((a, b) => b[1] - a[1])
}
