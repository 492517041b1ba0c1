// One side of the comparison: reads workload names from standard input, answers each with the milliseconds of one repetition.
import { createInterface } from "node:readline"
import { buildInfo, setThreads } from "../src/torch/index.ts"
import { workloads } from "./workloads.ts"

setThreads(Number(process.argv[2]))
const prepared = new Map<string, () => void>()
for await (const name of createInterface({ input: process.stdin })) {
  if (name === "version") {
    console.log(buildInfo().libtorch)
    continue
  }
  const repeat = prepared.get(name) ?? workloads[name]?.prepare()
  if (!repeat) throw new Error(`no workload ${name}`)
  prepared.set(name, repeat)
  const start = performance.now()
  repeat()
  console.log(performance.now() - start)
}
