// pixelwise compare: several runs against the first, as tables and as a page.
import { existsSync } from "node:fs"
import { styleText } from "node:util"
import type { Command } from "commander"
import { writeFileAtomic } from "../files.ts"
import {
  type ComparedRun,
  type Comparison,
  compareRuns,
  differentMeans,
  mostDifferent,
  type Pair,
  verdict,
} from "../report/comparison.ts"
import { comparisonPage } from "../report/comparison-page.ts"
import { optionText, percent, range, signed } from "../report/words.ts"
import { flagOf } from "../train/config.ts"
import { checkOut } from "./evaluation-output.ts"
import { interruptSignal } from "./interrupt.ts"
import { createOutput, table } from "./output.ts"

interface Options {
  out: string
  data?: string
  json?: boolean
}

export function define(command: Command): void {
  command
    .argument("<runs...>", "two run folders or more; all are compared with the first")
    .option("--out <file>", "where the page is written", "compare.html")
    .option("--data <root>", "where their data set is, if it is no longer where it was")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
They must have the same classes, and must have been validated on the same images. Runs without evaluation.json are scored first.
The intervals of differences are those of a paired bootstrap over the images; what another seed would change they do not say.

Examples:
  $ pixelwise compare runs/first runs/second
  $ pixelwise compare runs/seed-* --out seeds.html`,
    )
    .action(async (paths: string[], { out, data, json }: Options) => {
      const output = createOutput({ json })
      checkOut(out, "compare.html")
      const signal = interruptSignal(() => output.say("Stopping"))
      const comparison = await compareRuns(paths, {
        ...(data !== undefined && { data }),
        onProgress: (run, done, total) => output.progress(done / total, `scoring ${run}, ${done} of ${total} images`),
        signal,
      })
      output.progress(1, "drawing the page")
      const root = data ?? comparison.runs[0]!.run.config.data
      writeFileAtomic(out, await comparisonPage(comparison, { data: existsSync(root) ? root : null }))
      output.endProgress()
      output.result({ ...toJson(comparison), page: out }, comparisonText(comparison))
      output.say(`\nWrote ${out}: open it in a browser.`)
    })
}

/** For machines: all numbers, and of images those of each pair. */
function toJson({ runs, pairs, options }: Comparison) {
  return {
    runs: runs.map(({ name, run, scores, intervals }) => ({ name, run: run.path, scores, intervals })),
    options,
    pairs: pairs.map(({ other, configuration, ...pair }) => ({ run: other.name, against: runs[0]!.name, ...pair })),
  }
}

const IMAGES = 3 // gained and lost

function comparisonText({ runs, pairs, options }: Comparison): string {
  const [first] = runs as [ComparedRun]
  const names = runs.map(({ name }) => name)
  const different = differentMeans(runs)
  const parts = [
    options.length === 0
      ? "Their configurations are the same."
      : table(
          ["what is different", ...names],
          options.map(({ key, values }) => [flagOf(key), ...values.map(optionText)]),
        ),
    table(
      [
        "per cent",
        "mean IoU",
        "95 % interval",
        "without background",
        "pixel accuracy",
        `against ${first.name}`,
        "95 % interval",
        "better in",
      ],
      runs.map((run, k) => [run.name, ...scoreCells(run), ...differenceCells(pairs[k - 1])]),
    ),
    table(
      ["IoU, per cent", ...names],
      first.scores.classes.map(({ name }, k) => [name, ...runs.map(({ scores }) => percent(scores.classes[k]!.iou))]),
    ),
    ...pairs.map((pair) => imagesText(first, pair)),
    [
      ...pairs.map((pair) => verdict(first, pair)),
      ...(different === null ? [] : [different]),
      "The intervals are over images; what another seed would change they do not say.",
    ].join("\n"),
  ]
  return parts.join("\n\n")
}

const scoreCells = ({ scores, intervals }: ComparedRun): string[] => [
  percent(scores.meanIoU),
  range(intervals.means.meanIoU),
  percent(scores.meanIoUWithoutBackground),
  percent(scores.pixelAccuracy),
]

function differenceCells(pair: Pair | undefined): string[] {
  const { difference = null, low = null, high = null, probability = null } = pair?.means.meanIoU ?? {}
  if (difference === null || low === null || high === null) return ["", "", ""]
  return [signed(difference), `${signed(low)} to ${signed(high)}`, `${percent(probability)} %`]
}

function imagesText(first: ComparedRun, pair: Pair): string {
  const { other, wins, losses, even } = pair
  const { gained, lost } = mostDifferent(pair, IMAGES)
  const title = styleText("bold", `${other.name} against ${first.name}, image by image`)
  return [
    `${title}: better on ${wins}, worse on ${losses}, the same to a point on ${even}`,
    table(
      ["image", first.name, other.name, "difference"],
      [...gained, ...lost].map((image) => [
        image.id,
        percent(image.first),
        percent(image.other),
        signed(image.other - image.first),
      ]),
    ),
  ].join("\n")
}
