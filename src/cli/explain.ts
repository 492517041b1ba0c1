// pixelwise explain: what a configuration really does, before anything is trained; of two, what differs.
import { existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { styleText } from "node:util"
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { writeFileAtomic } from "../files.ts"
import type { Axis } from "../report/charts/axes.ts"
import { lineChart } from "../report/charts/line.ts"
import { standaloneSvg } from "../report/charts/standalone.ts"
import { type NameKey, parseConfig } from "../train/config.ts"
import { type CurvePoint, type Difference, difference, type Explanation, type Section } from "../train/explain.ts"
import { explainConfig } from "../train/explain-config.ts"
import { protocolNames } from "../train/protocols.ts"
import { RunFolder } from "../train/run-folder.ts"
import { addConfigOptions, configOptions, nameOption, readConfigFile, withoutFileLengths } from "./options.ts"
import { createOutput, type Output } from "./output.ts"

interface Options {
  config?: string
  parameters?: boolean
  svg?: string
  json?: boolean
  [key: string]: unknown
}

export function define(command: Command): void {
  command
    .argument("[a]", "a run, a YAML or JSON file, or protocol:<name>; the options below win over it")
    .argument("[b]", "another one: what differs is shown, and nothing else")
    .option("--config <file>", "YAML or JSON file with the options below as keys: the same as naming it")
    .option("--parameters", "list each parameter, not only their groups")
    .option("--svg <file>", "draw the learning rate (and the share of mined pixels) over the run")
  addConfigOptions(command)
  command
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Nothing is trained or downloaded. Without --data the classes are 21, and the length of an epoch is not known.

Examples:
  $ pixelwise explain protocol:tf-deeplab
  $ pixelwise explain runs/first --svg rates.svg
  $ pixelwise explain --protocol tf-deeplab --model lraspp --steps 2000 --slow-start 100
  $ pixelwise explain protocol:tf-deeplab protocol:torchvision --data VOC2012
  $ pixelwise explain runs/first runs/second`,
    )
    .action(run)
}

async function run(a: string | undefined, b: string | undefined, options: Options): Promise<void> {
  const output = createOutput(options)
  if (options.config !== undefined && a !== undefined) {
    throw new UserError(`--config ${options.config} and ${a} both say what to explain: give one.`)
  }
  const first = a ?? options.config
  const given = configOptions(options)
  const explanations: Explanation[] = []
  for (const source of b === undefined ? [first] : [first, b]) {
    explanations.push(await explainSource(source, given, options, output))
  }
  const [one, other] = explanations as [Explanation, Explanation?]
  if (options.svg !== undefined) {
    writeFileAtomic(options.svg, drawing(explanations, [first ?? "a", b ?? "b"]))
    output.say(`Wrote ${options.svg}.`)
  }
  if (other) {
    const differences = difference(one, other)
    output.result(differences, differenceText(differences, [first!, b!]))
  } else output.result(one, explanationText(one))
}

/** Where a configuration comes from: what it says, how its keys are called in errors, and the run that it is of. */
interface Source {
  readonly values: Record<string, unknown>
  readonly file?: string
  readonly run?: RunFolder
}

function readSource(source: string | undefined): Source {
  if (source === undefined) return { values: {} }
  const protocol = source.replace(/^protocol:/, "")
  if (protocol !== source || (!existsSync(source) && protocolNames.some((name) => name === source))) {
    return { values: { protocol } }
  }
  if (existsSync(join(source, "config.json"))) {
    const run = RunFolder.open(source)
    return { values: { ...run.config }, file: run.file("config.json"), run }
  }
  if (existsSync(source) && statSync(source).isFile()) return { values: readConfigFile(source), file: source }
  throw new UserError(
    `There is nothing to explain at ${source}; expected a run, a YAML or JSON file, or a protocol: ${protocolNames.map((name) => `protocol:${name}`).join(", ")}.`,
  )
}

async function explainSource(
  source: string | undefined,
  given: Record<string, unknown>,
  { parameters = false }: Options,
  output: Output,
): Promise<Explanation> {
  const { values, file, run } = readSource(source)
  const merged = { ...values, ...withoutFileLengths(given, values) }
  const isProtocol = source !== undefined && file === undefined
  const name: NameKey = (key) => (isProtocol && key === "protocol" ? source : nameOption(given, file)(key))
  const hasData = merged.data !== undefined
  const explanation = await explainConfig(parseConfig({ ...merged, ...(!hasData && { data: NO_DATA }) }, name), {
    hasData,
    parameters,
    ...(run && given.data === undefined && { run }),
    onCensus: (done, total) => output.progress(done / total, `counting labels ${done}/${total}`),
  })
  output.endProgress()
  return explanation
}

/** Instead of a data set that is not given. */
const NO_DATA = "none"

// --- text -----------------------------------------------------------------------------------------------------------------

function explanationText(explanation: Explanation): string {
  const parts = explanation.sections.flatMap((section) => {
    const isRate = section.title === "Learning rate"
    return ["", ...sectionLines(section), ...(isRate ? ["", ...plot(explanation)] : [])]
  })
  const notes = explanation.notices.map((text) => `\nNote: ${text}`)
  return [...parts.slice(1), ...notes].join("\n")
}

function sectionLines({ title, facts }: Section): string[] {
  const isOrdered = title.includes("order")
  const names = facts.map(({ name }, k) => (isOrdered ? `${k + 1} ${name}` : name))
  const width = Math.max(...names.map((name) => name.length))
  return [styleText("bold", title), ...facts.map(({ text }, k) => `  ${names[k]!.padEnd(width)}  ${text}`)]
}

const COLUMNS = 60
const ROWS = 6
const BLOCKS = " ▁▂▃▄▅▆▇█"

/** The learning rate over the run in characters, from 0 to its largest value. */
function plot({ curve, steps }: Explanation): string[] {
  const last = curve.at(-1)!.step || 1
  const top = Math.max(...curve.map(({ rate }) => rate))
  const heights = Array.from({ length: COLUMNS }, (_, column) => {
    const step = (column / (COLUMNS - 1)) * last
    const point = curve.findLast((point) => point.step <= step)!
    return Math.round((point.rate / top) * ROWS * 8)
  })
  const lines = Array.from({ length: ROWS }, (_, row) => {
    const floor = (ROWS - 1 - row) * 8
    return heights.map((height) => BLOCKS[Math.max(0, Math.min(8, height - floor))]).join("")
  })
  const label = String(Number(top.toPrecision(3)))
  const edge = (row: number) => (row === 0 ? label : row === ROWS - 1 ? "0" : "").padStart(label.length)
  const end = steps === null ? "end of the run" : `step ${last.toLocaleString("en")}`
  return [
    ...lines.map((line, row) => `  ${edge(row)} |${line.trimEnd()}`),
    `  ${" ".repeat(label.length)}  0${end.padStart(COLUMNS - 1)}`,
  ]
}

function differenceText({ options, facts }: Difference, labels: readonly [string, string]): string {
  if (options.length === 0 && facts.length === 0) return `${labels.join(" and ")} do the same.`
  const show = (value: unknown) => (value === null ? "-" : Array.isArray(value) ? value.join(",") : String(value))
  const rows: Row[] = [
    ...(options.length > 0 ? [{ title: "Options" }] : []),
    ...options.map(({ key, a, b }) => ({ name: key, a: show(a), b: show(b) })),
  ]
  for (const [k, { section, name, a, b }] of facts.entries()) {
    if (section !== facts[k - 1]?.section) rows.push({ title: section })
    rows.push({ name, a: tight(a?.text), b: tight(b?.text) })
  }
  return sideBySide(rows, labels)
}

const tight = (text = "-") => text.replace(/ {2,}/g, " ").trim()

type Row = { readonly title: string } | { readonly name: string; readonly a: string; readonly b: string }

/** Two columns as wide as the terminal allows, broken between words. */
function sideBySide(rows: readonly Row[], [a, b]: readonly [string, string]): string {
  const cells = rows.filter((row) => "name" in row)
  const nameWidth = Math.max(...cells.map(({ name }) => name.length))
  const widest = (column: "a" | "b", label: string) => Math.max(label.length, ...cells.map((row) => row[column].length))
  const available = Math.max(24, Math.floor(((process.stdout.columns ?? 120) - nameWidth - 6) / 2))
  const [widthA, widthB] = [Math.min(available, widest("a", a)), Math.min(available, widest("b", b))]
  const line = (name: string, left: string, right: string) =>
    `  ${name.padEnd(nameWidth)}  ${left.padEnd(widthA)}  ${right}`.trimEnd()
  return [
    styleText("bold", line("", a, b)),
    ...rows.flatMap((row) => {
      if ("title" in row) return ["", styleText("bold", row.title)]
      const [left, right] = [wrap(row.a, widthA), wrap(row.b, widthB)]
      const height = Math.max(left.length, right.length)
      return Array.from({ length: height }, (_, k) => line(k === 0 ? row.name : "", left[k] ?? "", right[k] ?? ""))
    }),
  ].join("\n")
}

function wrap(text: string, width: number): string[] {
  const lines = [""]
  for (const word of text.split(" ")) {
    const last = lines.at(-1)!
    if (last !== "" && last.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`
  }
  return lines
}

// --- drawing --------------------------------------------------------------------------------------------------------------

function drawing(explanations: readonly Explanation[], names: readonly string[]): string {
  // A time budget has no steps: beside a run that has, both are drawn over their shares.
  const inSteps = explanations.every(({ steps }) => steps !== null)
  const x: Axis = inSteps ? { name: "step" } : { name: "progress", unit: "per cent of the run" }
  const chart = (title: string, y: Axis, value: (point: CurvePoint) => number | null) => ({
    title,
    drawn: lineChart({
      title,
      x,
      y,
      series: explanations.map(({ curve }, k) => ({
        name: names[k]!,
        points: curve.flatMap((point) => {
          const y = value(point)
          const x = inSteps ? point.step : (100 * point.step) / (curve.at(-1)!.step || 1)
          return y === null ? [] : [[x, y] as const]
        }),
      })),
    }),
  })
  const charts = [
    chart("Learning rate", { name: "learning rate" }, ({ rate }) => rate),
    chart("Mined pixels", { name: "share", unit: "per cent" }, ({ minedShare }) => minedShare && 100 * minedShare),
  ].filter(({ drawn }) => drawn.text !== "")
  return standaloneSvg(
    charts.map(({ drawn }) => drawn),
    { title: charts.map(({ title }) => title).join("; ") },
  )
}
