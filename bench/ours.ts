// One side of the comparison: reads questions from standard input, answers each with one line.
//   "version"               libtorch's
//   "parameters NAME"       of a workload's model
//   "NAME", "NAME LEVER"    the milliseconds of one repetition; the second with that lever switched off
import { createInterface } from "node:readline"
import { buildInfo, levers, setThreads } from "../src/torch/index.ts"
import { workloads } from "./workloads.ts"

setThreads(Number(process.argv[2]))
const prepared = new Map<string, ReturnType<(typeof workloads)[string]["prepare"]>>()

/** Prepared once for each state of the levers: some act when a model is built. */
function prepare(name: string, off: string): { repeat: () => void; parameters: number } {
  const key = `${name} ${off}`
  const workload = prepared.get(key) ?? workloads[name]?.prepare()
  if (!workload) throw new Error(`no workload ${name}`)
  prepared.set(key, workload)
  return workload
}

for await (const question of createInterface({ input: process.stdin })) {
  const [name = "", off = ""] = question.split(" ")
  if (name === "version") console.log(buildInfo().libtorch)
  else if (name === "parameters") console.log(prepare(off, "").parameters)
  else {
    const all = { ...levers }
    if (off) levers[off as keyof typeof levers] = false
    const { repeat } = prepare(name, off)
    const start = performance.now()
    repeat()
    console.log(performance.now() - start)
    Object.assign(levers, all)
  }
}
