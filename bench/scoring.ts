// How long scoring takes: the confusion matrix and the contours of one image, and all masks of a split against themselves and
// against one class everywhere, from the files to the scores.
//   node scripts/with-node.mjs bench/scoring.ts --data VOC2012 [--split trainval] [--rounds 5]
// In time of the processor, in all threads, which other processes do not change, and of the clock.

import { join } from "node:path"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { openPredictionFolder } from "../src/data/prediction-folder.ts"
import { masksReader, openVocMasks } from "../src/data/voc-folder.ts"
import { scorePredictions } from "../src/infer/score-predictions.ts"
import { measureBoundaries } from "../src/metrics/boundary.ts"
import { ConfusionMatrix, scoresOf } from "../src/metrics/index.ts"

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    split: { type: "string", default: "trainval" },
    rounds: { type: "string", default: "5" },
  },
})
if (values.data === undefined) {
  console.error("bench/scoring.ts: where is a data set in VOC layout? Give its folder: --data VOC2012")
  process.exit(2)
}
const rounds = Number(values.rounds)
const masks = openVocMasks(values.data, { split: values.split })
const K = masks.labelMap.classes.length

/** Seconds of the processor and of the clock, medians of the rounds. */
async function seconds(act: () => unknown): Promise<readonly [processor: number, clock: number]> {
  const all: (readonly [number, number])[] = []
  for (let round = 0; round < rounds; round++) {
    const [start, used] = [performance.now(), process.cpuUsage()]
    await act()
    const { user, system } = process.cpuUsage(used)
    all.push([(user + system) / 1e6, (performance.now() - start) / 1e3])
  }
  return [median(all.map(([processor]) => processor)), median(all.map(([, clock]) => clock))]
}

const read = masksReader(masks)
const truths = masks.masks.slice(0, 200).map(read)
const predictions = {
  itself: truths.map(({ labels }) => labels.map((label) => (label === 255 ? 0 : label))),
  background: truths.map(({ labels }) => labels.map(() => 0)),
  noise: truths.map(({ labels }) => labels.map((_, i) => (Math.imul(i, 0x9e3779b1) >>> 8) % K)),
}
const rows: string[][] = []
for (const [name, ofName] of Object.entries(predictions)) {
  const perImage = async (act: (k: number) => unknown) => {
    const [processor] = await seconds(() => {
      for (const k of truths.keys()) act(k)
    })
    return ((1e3 * processor) / truths.length).toFixed(2)
  }
  rows.push([
    name,
    await perImage((k) => new ConfusionMatrix(K).add(ofName[k]!, truths[k]!.labels)),
    await perImage((k) => measureBoundaries(ofName[k]!, truths[k]!.labels, truths[k]!, K)),
  ])
}
console.log(
  `${truths.length} masks of ${values.data}, ${K} classes, n = ${rounds} rounds; milliseconds of the processor an image`,
)
console.log(`${table(["prediction", "confusion matrix", "contours"], rows)}\n`)

const { files } = openPredictionFolder(join(values.data, "SegmentationClass"), masks)
const whole = { itself: { files, numbering: "dataset" }, "class 0": { constant: 0 } } as const
const lines: string[][] = []
for (const [name, given] of Object.entries(whole)) {
  let meanIoU: number | null = null
  const [processor, clock] = await seconds(async () => {
    meanIoU = scoresOf(await scorePredictions(masks, given)).meanIoU
  })
  lines.push([name, (100 * (meanIoU ?? Number.NaN)).toFixed(1), processor.toFixed(1), clock.toFixed(1)])
}
console.log(`All ${masks.ids.length} masks of "${values.split}", from the files on, n = ${rounds} rounds; seconds`)
console.log(table(["prediction", "mean IoU, per cent", "processor", "clock"], lines))
