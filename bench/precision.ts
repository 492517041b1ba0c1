// What bfloat16 costs in accuracy and gives in time: the same short training in float32 and in bfloat16, on two data sets, three
// seeds, and each model evaluated in both.
//   node scripts/with-node.mjs bench/precision.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/precision
//     [--steps 400] [--seeds 3]
// Writes docs/precision.md and docs/precision-*.svg. Times are worth something on a quiet machine only.

import { cpus } from "node:os"
import { median } from "../src/arrays.ts"
import { matrixOf } from "../src/metrics/evaluation.ts"
import { summarize } from "../src/metrics/index.ts"
import { stepsOf } from "../src/report/curves.ts"
import { buildInfo, type Precision } from "../src/torch/index.ts"
import { evaluateRun } from "../src/train/evaluate-run.ts"
import { RunFolder } from "../src/train/run-folder.ts"
import { type ExperimentRun, makeRuns } from "./experiment.ts"
import { about, spreadOf, writeExperiment } from "./experiment-page.ts"

const variants = { float32: [], bfloat16: ["--precision", "bfloat16"] }
const experiment = makeRuns("bench/precision.ts", variants)

/** Mean IoU of a run's best weights. */
async function meanIoU({ path }: ExperimentRun, precision: Precision): Promise<number> {
  const run = RunFolder.open(path)
  const evaluation = await evaluateRun(run, { inference: { precision } })
  return summarize(matrixOf(evaluation), run.labelMap).meanIoU ?? Number.NaN
}

const found = new Map<string, number>()
for (const run of experiment.runs) {
  for (const precision of ["float32", "bfloat16"] as const) {
    found.set(`${run.path} ${precision}`, await meanIoU(run, precision))
  }
}
const evaluatedIn = (precision: Precision) => ({
  head: `best weights, evaluated in ${precision}`,
  cell: (runs: readonly ExperimentRun[]) => spreadOf(runs.map(({ path }) => found.get(`${path} ${precision}`)!)),
})
const speed = {
  head: "images a second in training",
  cell: (runs: readonly ExperimentRun[]) => {
    const rates = runs.flatMap(({ path }) =>
      stepsOf(RunFolder.open(path).records()).map((step) => step.imagesPerSecond),
    )
    return median(rates).toFixed(1)
  },
}
writeExperiment("precision", experiment, variants, {
  title: "What bfloat16 costs and gives",
  intro: `${about(experiment)} A run evaluates in the precision that it trains in; two columns have the
mean IoU of its best weights in either. Images a second are the median of all steps, of all seeds, on ${cpus()[0]?.model.trim()} (${cpus().length} cores, ${buildInfo().bfloat16 ?? "no instructions for bfloat16"}).`,
  columns: [evaluatedIn("float32"), evaluatedIn("bfloat16"), speed],
})
