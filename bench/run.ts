// npm run bench: our time beside that of the same work in Python's torch, on the same machine, libtorch and threads.
// The two run as separate processes that take turns (ours, Python, ours, Python ...), so that a change of the machine's
// speed meets both. Reported are the median over the rounds, the best round, and the ratio Python / ours of each.
//   npm run bench [-- --rounds 15] [-- --python /usr/bin/python3] [-- --only unet32-train]

import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    python: { type: "string", default: "/usr/bin/python3" },
    only: { type: "string" },
  },
})
const rounds = Number(options.rounds)
const threads = availableParallelism()

/** A process that measures on request: a workload's name goes in, the milliseconds of one repetition come out. */
class Contestant {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, [...args, String(threads)], { stdio: ["pipe", "pipe", "inherit"] })
    this.#process.on("error", ({ message }) => {
      console.error(`cannot start ${program}: ${message}. Install python3-torch, or name another Python: --python`)
      process.exit(2)
    })
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]()
  }

  async measure(workload: string): Promise<number> {
    return Number(await this.ask(workload))
  }

  async ask(question: string): Promise<string> {
    this.#process.stdin?.write(`${question}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the process that was asked for ${question} ended; see its message above`)
    return value
  }

  end(): void {
    this.#process.stdin?.end()
  }
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const ours = new Contestant(process.execPath, [here("ours.ts")])
const python = new Contestant(options.python, [here("plain_torch.py")])

const versions = { ours: await ours.ask("version"), python: await python.ask("version") }
const release = (version: string) => version.split(".").slice(0, 2).join(".")
if (release(versions.ours) !== release(versions.python)) {
  throw new Error(
    `ours runs on libtorch ${versions.ours}, Python on ${versions.python}: a comparison wants the same. See --python.`,
  )
}
if (options.only && !workloads[options.only])
  throw new Error(`no workload ${options.only}; there are ${Object.keys(workloads).join(", ")}`)

const results = []
for (const { name, unit, perMillisecond, digits } of Object.values(workloads)) {
  if (options.only && options.only !== name) continue
  const times = { ours: [] as number[], python: [] as number[] }
  for (const contestant of [ours, python]) for (let k = 0; k < 3; k++) await contestant.measure(name) // warm up
  for (let round = 0; round < rounds; round++) {
    times.ours.push((await ours.measure(name)) * perMillisecond)
    times.python.push((await python.measure(name)) * perMillisecond)
    process.stderr.write(`\r${name}: round ${round + 1} of ${rounds} `)
  }
  process.stderr.write("\r\x1b[2K")
  results.push({
    name,
    unit,
    digits,
    rounds,
    ours: { median: median(times.ours), minimum: Math.min(...times.ours) },
    python: { median: median(times.python), minimum: Math.min(...times.python) },
    ratio: {
      median: median(times.python) / median(times.ours),
      minimum: Math.min(...times.python) / Math.min(...times.ours),
    },
  })
}
ours.end()
python.end()

const shown = (value: number, digits: number) => value.toFixed(digits)
console.log(
  table(
    ["workload", "unit", "n", "ours", "Python", "ratio", "ours (best)", "Python (best)", "ratio (best)"],
    results.map(({ name, unit, digits, rounds, ours, python, ratio }) => [
      name,
      unit,
      String(rounds),
      shown(ours.median, digits),
      shown(python.median, digits),
      `${ratio.median.toFixed(2)}x`,
      shown(ours.minimum, digits),
      shown(python.minimum, digits),
      `${ratio.minimum.toFixed(2)}x`,
    ]),
  ),
)
console.log(
  `\nMedians of ${rounds} interleaved rounds; a ratio above 1 means ours is faster. ${cpus()[0]?.model.trim()}, ${threads} threads, libtorch ${versions.ours}. Python's OpenMP waits as it does by default, ours sleeps (see src/torch/native.ts).`,
)

if (!options.only) {
  const folder = here("results")
  mkdirSync(folder, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  const machine = { processor: cpus()[0]?.model.trim(), threads, node: process.versions.node, libtorch: versions, date }
  writeFileSync(`${folder}/latest.json`, `${JSON.stringify({ machine, results }, null, 2)}\n`)
}
