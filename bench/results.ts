// What is kept of a benchmark: bench/results/latest.json, and the chart that is drawn from it.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus, totalmem } from "node:os"
import { fileURLToPath } from "node:url"
import { median } from "../src/arrays.ts"
import { barChart } from "../src/report/charts/bar.ts"
import { standaloneSvg } from "../src/report/charts/standalone.ts"
import { buildInfo } from "../src/torch/index.ts"
import { fileWorkloads } from "./from-files.ts"
import { workloads } from "./workloads.ts"

export interface Machine {
  readonly processor: string
  readonly threads: number
  readonly memoryGiB: number
  readonly node: string
  readonly libtorch: { readonly ours: string; readonly python: string }
}

export interface Times {
  readonly median: number
  readonly minimum: number
}

export interface Result {
  readonly name: string
  readonly unit: string
  readonly digits: number
  /** Rounds that count, and rounds in which other processes kept more than the given share of a core busy. */
  readonly rounds: number
  readonly dropped: number
  readonly ours: Times
  readonly python: Times
  /** Python / ours: above 1 ours is faster. */
  readonly ratio: Times
  /** What the ratio of the minima should be at least. */
  readonly target?: number
  /** The processor whose instructions our OpenBLAS used; null: it was another BLAS; missing: it was not noted yet. */
  readonly openBlas?: string | null
  readonly date: string
}

export const timesOf = (values: readonly number[]): Times => ({
  median: median(values),
  minimum: Math.min(...values),
})

export const describeMachine = (threads: number, libtorch: Machine["libtorch"]): Machine => ({
  processor: cpus()[0]?.model.trim() ?? "unknown",
  threads: Math.min(threads, availableParallelism()),
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.versions.node,
  libtorch,
})

/** A workload with the levers that are on by default here, and with one of them switched off. */
export interface LeverResult {
  readonly name: string
  readonly lever: string
  readonly rounds: number
  readonly dropped: number
  readonly digits: number
  readonly on: Times
  readonly off: Times
  /** off / on: above 1 the lever gains. */
  readonly ratio: Times
}

interface Kept {
  readonly machine: Machine
  readonly results: readonly Result[]
}

const file = fileURLToPath(new URL("results/latest.json", import.meta.url))
const chartFile = fileURLToPath(new URL("../docs/speed.svg", import.meta.url))

/** Takes a result in beside those of the same machine that are there; those of another machine go. */
export function keep(machine: Machine, measured: Omit<Result, "openBlas" | "date">): void {
  const openBlas = buildInfo().openBlasKernels
  const result: Result = { ...measured, openBlas, date: new Date().toISOString().slice(0, 10) }
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Kept) : null
  const isSame = JSON.stringify(before?.machine) === JSON.stringify(machine)
  const others = isSame ? before!.results.filter(({ name }) => name !== result.name) : []
  const results = [...others, result].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
  mkdirSync(new URL("results", import.meta.url), { recursive: true })
  writeFileSync(file, `${JSON.stringify({ machine, results }, null, 2)}\n`)
  writeFileSync(chartFile, chart(machine, results))
}

/** Of table and chart. */
const order = [...Object.keys(workloads), ...Object.keys(fileWorkloads), "camvid-score", "camvid-score-defaults"]

function chart({ processor, threads, libtorch }: Machine, results: readonly Result[]): string {
  const title = `Times as fast as PyTorch: ${processor}, ${threads} threads, libtorch ${libtorch.ours}`
  const bars = results.map(({ name, ratio, rounds, target }) => ({
    label: name,
    value: Number(ratio.minimum.toFixed(2)),
    note: `n = ${rounds}${target ? `, aim ${target}` : ""}`,
  }))
  return standaloneSvg([barChart({ title, unit: "PyTorch's best round / ours", bars })], { title })
}

/** Of all workloads, or not kept: a page of some would hide the others. */
export function keepLevers(machine: Machine, results: readonly LeverResult[]): void {
  mkdirSync(new URL("results", import.meta.url), { recursive: true })
  writeFileSync(new URL("results/levers.json", import.meta.url), `${JSON.stringify({ machine, results }, null, 2)}\n`)
  writeFileSync(new URL("../docs/levers.md", import.meta.url), leversPage(machine, results))
}

function leversPage({ processor, threads, libtorch }: Machine, results: readonly LeverResult[]): string {
  const names = [...new Set(results.map(({ name }) => name))]
  const cell = (lever: string, name: string) => {
    const result = results.find((other) => other.lever === lever && other.name === name)
    return result ? result.ratio.minimum.toFixed(2) : ""
  }
  const rows = [...new Set(results.map(({ lever }) => lever))]
    .sort()
    .map((lever) => [`\`${lever}\``, ...names.map((name) => cell(lever, name))])
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`
  const rounds = Math.min(...results.map(({ rounds }) => rounds))
  return `<!-- Made by: npm run bench -- --levers -->
# What each lever gives

The time of a workload with one lever switched off, divided by its time with all that are on by default here: best of ${rounds} interleaved rounds each. ${processor}, ${threads} threads, libtorch
${libtorch.ours}, OpenBLAS for ${buildInfo().openBlasKernels ?? "none"}. Differences below 0.05 are noise. Levers and what they do: \`src/torch/levers.ts\`; sizes: \`bench/workloads.ts\`.

${[line(["lever", ...names]), line(Array(names.length + 1).fill("---")), ...rows.map(line)].join("\n")}
`
}
