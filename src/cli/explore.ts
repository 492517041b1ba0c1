// pixelwise explore: what a data set holds and what may be wrong with it, as a page and as a summary.
import { styleText } from "node:util"
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { byProblem, type Exploration, explore, isSerious, toJson } from "../explore/explore.ts"
import { explorePage } from "../explore/page.ts"
import { problemKinds } from "../explore/problem-kinds.ts"
import { quantile, scoreOfOnly, sideOf } from "../explore/statistics.ts"
import { percent } from "../explore/words.ts"
import { writeFileAtomic } from "../files.ts"
import { ratio } from "../metrics/means.ts"
import { list } from "../report/words.ts"
import { plural } from "../train/facts.ts"
import { checkOut } from "./evaluation-output.ts"
import { interruptSignal } from "./interrupt.ts"
import { createOutput, table } from "./output.ts"

interface Options {
  data: string
  split?: string
  out: string
  strict?: boolean
  json?: boolean
}

export function define(command: Command): void {
  command
    .requiredOption("--data <root>", "data set in VOC layout; images may be missing")
    .option("--split <a,b,...>", "lists to look at; the first is the one for training (default: train,val)")
    .option("--out <file>", "where the page is written", "explore.html")
    .option("--strict", "end with exit code 1 when there is a serious problem: for scripts")
    .option("--json", "print one JSON object, with every case of every problem")
    .addHelpText(
      "after",
      `
The page is one file that opens in any browser, without a network. Problems do not end the work: all of them are listed. Serious
are those at which training would stop, or that make its scores worthless.

Examples:
  $ pixelwise explore --data VOC2012
  $ pixelwise explore --data VOC2012 --split train,val,test --out voc.html
  $ pixelwise explore --data VOC2012 --strict --json > voc.json`,
    )
    .action(async (options: Options) => {
      const output = createOutput(options)
      const splits = options.split?.split(",").map((name) => name.trim())
      if (splits?.includes(""))
        throw new UserError(`--split is "${options.split}"; expected names of lists: train,val.`)
      checkOut(options.out, "explore.html")
      const signal = interruptSignal(() => {})
      const exploration = await explore(options.data, {
        splits,
        signal,
        onProgress: (done, total) => output.progress(done / total, `${done} of ${total} images and masks`),
      })
      output.progress(1, "drawing the page")
      writeFileAtomic(options.out, await explorePage(exploration))
      output.endProgress()
      output.result({ ...toJson(exploration), page: options.out }, summary(exploration))
      output.say(`\nWrote ${options.out}: open it in a browser.`)
      if (options.strict && isSerious(exploration)) process.exitCode = 1
    })
}

function summary(exploration: Exploration): string {
  const { files, facts, statistics, perSplit } = exploration
  const several = files.splits.length > 1
  const lists = table(
    ["list", "ids", "images", "masks", "void %"],
    files.splits.map((split) => {
      const indices = [...files.entries.keys()].filter((i) => files.entries[i]!.splits.includes(split))
      const { masks, void: ignored, pixels } = perSplit.get(split)!
      const images = indices.filter((i) => facts[i]!.image).length
      return [split, ...[indices.length, images, masks].map(String), percent(ratio(ignored, pixels))]
    }),
  )
  const classes = table(
    [
      "class",
      ...files.splits.flatMap((split) => (several ? [`${split}: pixels %`, "masks"] : ["pixels %", "masks"])),
      "objects",
      "median side",
    ],
    statistics.classes.map(({ name, objects }, k) => [
      name,
      ...files.splits.flatMap((split) => {
        const { share, images } = perSplit.get(split)!.classes[k]!
        return [percent(share), String(images)]
      }),
      objects.length > 0 ? String(objects.length) : "-",
      objects.length > 0 ? `${sideOf(quantile(objects, 0.5)).toFixed(0)} px` : "-",
    ]),
  )
  return [lists, "", classes, ...trivialLine(exploration), "", ...problemLines(exploration)].join("\n")
}

function trivialLine({ files: { labelMap }, statistics }: Exploration): string[] {
  const { background } = labelMap
  const score = background === undefined ? null : scoreOfOnly(background, statistics)
  if (score === null) return []
  const name = labelMap.classes[background!]!.name
  return [
    `Saying ${name} everywhere is right on ${percent(score.pixelAccuracy)} % of the pixels; its mean IoU is ${percent(score.meanIoU)} %.`,
  ]
}

const SHOWN = 3

function problemLines({ findings }: Exploration): string[] {
  const problems = byProblem(findings)
  if (problems.length === 0) return ["No problems were found."]
  const heads = { error: "Serious problems", warning: "Worth a look" }
  return (["error", "warning"] as const).flatMap((severity) => {
    const its = problems.filter(([name]) => problemKinds[name].severity === severity)
    if (its.length === 0) return []
    const lines = its.flatMap(([name, cases]) => {
      const { title, unit } = problemKinds[name]
      const shown = cases.slice(0, SHOWN).map(({ where, detail }) => `    ${list(where)}${detail ? `: ${detail}` : ""}`)
      const more = cases.length - shown.length
      return [
        `  ${title}: ${plural(cases.length, unit, unit === "class" ? "classes" : `${unit}s`)}`,
        ...shown,
        ...(more > 0 ? [`    and ${more.toLocaleString("en")} more`] : []),
      ]
    })
    return [styleText("bold", heads[severity]), ...lines]
  })
}
