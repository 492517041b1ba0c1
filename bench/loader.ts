// Images per second of the loader beside those of a torchvision script, with the same transforms (random scale 0.5 to 2, padding,
// crop, flip, normalisation) and as many workers: from files, with the decoding of JPEG and PNG, and from memory.
// The two take turns (ours, torchvision, ours ...), so that a change of the machine's speed meets both.
//   node scripts/with-node.mjs bench/loader.ts --data VOC2012 [--rounds 7] [--workers 2] [--images 200] [--batch 8] [--crop 513]
//     [--split train] [--python /usr/bin/python3]
// AMD EPYC (Zen 4), 2 cores, quiet, 2 workers, n = 7, medians: from files 253 and 158 images/s (1.6 times torchvision; decoding is
// what takes the time: libjpeg through sharp, PNG through zlib), from memory 496 and 179 (2.7 times).

import { execFileSync } from "node:child_process"
import { availableParallelism, cpus } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { Loader } from "../src/data/loader.ts"
import { openVocFolder, VocFolder } from "../src/data/voc-folder.ts"

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    split: { type: "string", default: "train" },
    rounds: { type: "string", default: "7" },
    workers: { type: "string", default: String(availableParallelism()) },
    images: { type: "string", default: "200" },
    batch: { type: "string", default: "8" },
    crop: { type: "string", default: "513" },
    python: { type: "string", default: "/usr/bin/python3" },
  },
})
if (options.data === undefined) {
  console.error("bench/loader.ts: where is a data set in VOC layout? Give its folder: --data VOC2012")
  process.exit(2)
}
const { data, split, python } = options
const [rounds, workers, images, batchSize, crop] = [
  options.rounds,
  options.workers,
  options.images,
  options.batch,
  options.crop,
].map(Number) as [number, number, number, number, number]

const { files } = openVocFolder(data, { split })
const dataset = new VocFolder({ ...files, ids: files.ids.slice(0, images) })

/** Images per second over the data set once. */
async function measure(loader: Loader): Promise<number> {
  const start = performance.now()
  let count = 0
  for await (const { ids } of loader.pass({ reuse: true })) count += ids.length
  return (1000 * count) / (performance.now() - start)
}

function measureTorchvision(from: string): number {
  const script = fileURLToPath(new URL("loader_torchvision.py", import.meta.url))
  const numbers = [dataset.ids.length, batchSize, workers, crop].map(String)
  return Number(execFileSync(python, [script, data!, split, ...numbers, from], { encoding: "utf8" }))
}

const rows: string[][] = []
for (const from of ["files", "cache"]) {
  await using loader = new Loader(dataset, {
    batchSize,
    workers,
    transform: { name: "randomCrop", cropSize: [crop, crop], scale: [0.5, 2], flip: 0.5 },
    cacheBytes: from === "cache" ? 2 ** 32 : 0,
  })
  // Each worker keeps what it has read itself, and which batch it gets is chance: after six passes 98 % are there.
  for (let pass = 0; pass < (from === "cache" ? 6 : 1); pass++) await measure(loader)
  const [ours, theirs]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++) {
    ours.push(await measure(loader))
    theirs.push(measureTorchvision(from))
  }
  const ratios = ours.map((value, round) => value / theirs[round]!)
  const numbers = [median(ours), Math.max(...ours), median(theirs), Math.max(...theirs)].map((value) =>
    value.toFixed(0),
  )
  rows.push([from, ...numbers, median(ratios).toFixed(2)])
}
console.log(
  `${crop}x${crop} crops of ${dataset.ids.length} images, batches of ${batchSize}, ${workers} workers; ` +
    `n = ${rounds} rounds; ${cpus()[0]?.model.trim()}, ${availableParallelism()} cores; images per second`,
)
console.log(table(["from", "ours, median", "best", "torchvision, median", "best", "ratio, median"], rows))
