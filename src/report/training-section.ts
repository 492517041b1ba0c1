// What was trained on what: in a sentence, in a table, as a command, and in full.
import { statSync } from "node:fs"
import { readText } from "../data/files.ts"
import { trainCommand } from "../train/command.ts"
import type { Explanation } from "../train/explain.ts"
import { number, plural } from "../train/facts.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { evaluationsOf, stepsOf } from "./curves.ts"
import { dataTable, details, type Html, html, notice, section } from "./html.ts"
import { duration, list } from "./words.ts"

/** What a run is, beside its scores. */
export interface RunFacts {
  /** What its configuration really does. */
  readonly explanation: Explanation
  /** Images of its splits; null where the split is no longer there. */
  readonly images: { readonly train: number | null; readonly val: number }
}

const factOf = ({ sections }: Explanation, title: string, name: string): string | null =>
  sections.find((section) => section.title === title)?.facts.find((fact) => fact.name === name)?.text ?? null

/** Numbers that learn or are frozen, counted by the explanation's groups of parameters. */
const parametersOf = ({ sections }: Explanation): number =>
  sections
    .find(({ title }) => title === "Parameters")!
    .facts.reduce((sum, { value }) => sum + ((value as { numbers?: number } | null)?.numbers ?? 0), 0)

/** What was trained on what, in a sentence. */
export function trainingSentence(run: RunFolder, { explanation, images }: RunFacts): string {
  const { config, labelMap } = run
  const steps = stepsOf(run.records())
  const last = steps.at(-1)
  const names = labelMap.classes.map(({ name }) => name)
  const classes = names.length > 8 ? `${names.length} classes` : list(names)
  return (
    `${factOf(explanation, "Run", "model")}, with ${number(parametersOf(explanation))} parameters, ` +
    `learned ${classes} from ${images.train !== null ? plural(images.train, "image") : `the split ${config.trainSplit}`} of ${config.data}` +
    `${last ? `, in ${plural(last.step, "step")} and ${duration(last.seconds)}` : ""}. ` +
    `It began with ${factOf(explanation, "Run", "begins with")}.`
  )
}

export function trainingSection(run: RunFolder, facts: RunFacts): Html {
  const { explanation, images } = facts
  const { config, labelMap } = run
  const records = run.records()
  const evaluations = evaluationsOf(records)
  const last = stepsOf(records).at(-1)
  const best = bestOf(evaluations)
  const versions = readVersions(run)
  const split = (name: string, count: number | null) => `${name}${count === null ? "" : `, ${plural(count, "image")}`}`
  const text = (title: string, name: string) => factOf(explanation, title, name)
  const rows: [string, string | null][] = [
    ["model", text("Run", "model")],
    ["began with", text("Run", "begins with")],
    ["data", config.data],
    ["trained on", split(config.trainSplit, images.train)],
    ["validated on", split(config.valSplit, images.val)],
    ["classes", labelMap.classes.map(({ name }) => name).join(", ")],
    ["length", text("Run", "length")],
    ["a step", text("Run", "batch")],
    ["loss", config.loss],
    ["optimizer", `${config.optimizer}, weight decay ${number(config.weightDecay)}`],
    ["learning rate", text("Learning rate", "schedule")],
    ["evaluated weights", text("Run", "evaluated weights")],
    ["precision", text("Run", "precision")],
    ["seed", text("Run", "seed")],
    ["done", last ? `${plural(last.step, "step")} in ${duration(last.seconds)}, ${finished(run)}` : null],
    ["best weights", best === null ? null : `of step ${number(best)}, by mean IoU`],
    ["versions", versions],
  ]
  return section(
    "What was trained on what",
    html`<p>${trainingSentence(run, facts)}</p>`,
    dataTable({ head: ["what", ""], rows: rows.filter(([, value]) => value !== null), words: [0, 1] }),
    html`<p>This command makes such a run:</p>
<pre><code>${trainCommand(config, run.path)}</code></pre>`,
    explanation.notices.map((text) => notice(text)),
    details(
      "Everything that this configuration does",
      explanation.sections.map(({ title, facts }) =>
        dataTable({
          caption: title,
          head: ["what", ""],
          rows: facts.map(({ name, text }) => [name, text.replace(/ {2,}/g, " ")]),
          words: [0, 1],
        }),
      ),
    ),
  )
}

/** The step of the evaluation whose weights were kept: of equals the first. */
export function bestOf(evaluations: ReturnType<typeof evaluationsOf>): number | null {
  const [first, ...others] = evaluations
  if (first === undefined) return null
  const score = ({ scores }: typeof first) => scores.meanIoU ?? 0
  return others.reduce((best, record) => (score(record) > score(best) ? record : best), first).step
}

function finished(run: RunFolder): string {
  const time = statSync(run.file("metrics.jsonl")).mtime.toISOString()
  return `last on ${time.slice(0, 10)} at ${time.slice(11, 16)} UTC`
}

function readVersions(run: RunFolder): string {
  const file = run.file("versions.json")
  try {
    return Object.entries(JSON.parse(readText(file, "versions")) as object)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ")
  } catch {
    return `not known: ${file} is missing or damaged`
  }
}
