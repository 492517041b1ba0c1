// By how much loading slows training: steps of the training workloads on a batch that lies in memory, and the same steps each waiting
// for a batch of crops that the loader makes meanwhile, from files and from decoded images in memory, taking turns.
//   node scripts/with-node.mjs bench/loading-while-training.ts --data VOC2012 [--rounds 5] [--steps 10] [--only unet32-train]

import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { Loader } from "../src/data/loader.ts"
import { openVocFolder } from "../src/data/voc-folder.ts"
import { prepareTraining, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    rounds: { type: "string", default: "5" },
    steps: { type: "string", default: "10" },
    only: { type: "string" },
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
  const times: number[][] = [[], [], []] // without loading, from files, from memory
  for (let round = -1; round < Number(options.rounds); round++) {
    for (const [k, iterator] of [null, ...batches].entries()) {
      const start = performance.now()
      for (let i = 0; i < Number(options.steps); i++) {
        await iterator?.next()
        step()
      }
      if (round >= 0) times[k]!.push((performance.now() - start) / Number(options.steps))
    }
  }
  for (const loader of loaders) await loader[Symbol.asyncDispose]()
  const [alone, ...loading] = times.map(median) as [number, number, number]
  const slower = loading.map((ms) => `${ms.toFixed(0)} (${(100 * (ms / alone - 1)).toFixed(1)} %)`)
  rows.push([name, `${n}x${cropSize.join("x")}`, alone.toFixed(0), ...slower])
  console.error(rows.at(-1)?.join(", "))
}
console.log(`Milliseconds a step, medians of ${options.rounds} rounds, and by how much loading slows it`)
console.log(table(["workload", "crops", "nothing to load", "from files", "from memory"], rows))

/** Several passes, after which the loader's threads remember nearly all images. */
async function fill(batches: AsyncIterator<unknown>, stepsOfPass: number): Promise<void> {
  for (let k = 0; k < 4 * stepsOfPass; k++) await batches.next()
}
