// By how much loading slows training: steps of the training workloads on a batch that lies in memory, and the same steps each waiting
// for a batch of crops that the loader makes meanwhile, from files and from decoded images in memory; and the same of PyTorch with
// a DataLoader of as many workers, from files, with torchvision's functions on PIL's images (loader_torchvision.py). All take turns. What
// was waited for is dropped, so putting it into tensors is not measured. Python's OpenMP spins as it does by default, ours hardly
// (src/torch/native.ts), which makes a difference beside a loader.
//   node scripts/with-node.mjs bench/loading-while-training.ts --data VOC2012 [--rounds 5] [--steps 10] [--only unet32-train]
//     [--python /usr/bin/python3]

import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { defaultWorkers, Loader } from "../src/data/loader.ts"
import { openVocFolder } from "../src/data/voc-folder.ts"
import { threads } from "../src/torch/index.ts"
import { Contestant } from "./contestant.ts"
import { prepareTraining, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    rounds: { type: "string", default: "5" },
    steps: { type: "string", default: "10" },
    only: { type: "string" },
    python: { type: "string", default: "/usr/bin/python3" },
  },
})
if (!options.data) {
  console.error("bench/loading-while-training.ts: give --data, see the first lines of the file.")
  process.exit(2)
}
const dataset = openVocFolder(options.data, { split: "train" })
const sources = { files: 0, memory: 2 ** 33 } // bytes of cache

const rows: string[][] = []
for (const { name, training } of Object.values(workloads)) {
  if (!training || (options.only && name !== options.only)) continue
  const [n, ...cropSize] = training.size
  const { step } = prepareTraining(training.network, training.size)
  const loaders = Object.values(sources).map((cacheBytes) => {
    const transform = { name: "randomCrop", cropSize, scale: [0.5, 2], flip: 0.5 } as const
    return new Loader(dataset, { batchSize: n, transform, cacheBytes })
  })
  const batches = loaders.map((loader) => loader.batches({ startStep: 0, reuse: true })[Symbol.asyncIterator]())
  await fill(batches[1]!, dataset.ids.length / n)
  const script = fileURLToPath(new URL("loading_while_training.py", import.meta.url))
  const numbers = [threads(), defaultWorkers(), options.steps]
  const args = [options.data, ...numbers, name.replace("-train", ""), ...training.size].map(String)
  const python = new Contestant(options.python, [script, ...args])
  const times: number[][] = [[], [], []] // without loading, from files, from memory
  const pythonTimes: number[][] = [[], []] // without loading, from files
  for (let round = -1; round < Number(options.rounds); round++) {
    for (const [k, iterator] of [null, ...batches].entries()) {
      const start = performance.now()
      for (let i = 0; i < Number(options.steps); i++) {
        await iterator?.next()
        step()
      }
      if (round >= 0) times[k]!.push((performance.now() - start) / Number(options.steps))
      if (iterator) await sleep(500) // until what is made ahead is made: it would slow what is measured next
    }
    for (const [k, question] of ["alone", "files"].entries()) {
      const time = await python.measure(question)
      if (round >= 0) pythonTimes[k]!.push(time)
    }
  }
  await python.end()
  for (const loader of loaders) await loader[Symbol.asyncDispose]()
  rows.push([name, `${n}x${cropSize.join("x")}`, ...slowdowns(times), ...slowdowns(pythonTimes)])
  console.error(rows.at(-1)?.join(", "))
}
console.log(`Milliseconds a step, medians of ${options.rounds} rounds, and by how much loading slows it`)
const head = [
  "workload",
  "crops",
  "nothing to load",
  "from files",
  "from memory",
  "PyTorch, nothing",
  "PyTorch, from files",
]
console.log(table(head, rows))

function slowdowns(times: readonly number[][]): string[] {
  const [alone, ...loading] = times.map(median) as [number, ...number[]]
  return [alone.toFixed(0), ...loading.map((ms) => `${ms.toFixed(0)} (${(100 * (ms / alone - 1)).toFixed(1)} %)`)]
}

/** Several passes, after which the loader's threads remember nearly all images. */
async function fill(batches: AsyncIterator<unknown>, stepsOfPass: number): Promise<void> {
  for (let k = 0; k < 4 * stepsOfPass; k++) await batches.next()
}
