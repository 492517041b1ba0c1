// What class weights, hard pixels and a slow start change: the same short training with and without each, on two data sets, three
// seeds. Equal steps are equal time but for the mining itself.
//   node scripts/with-node.mjs bench/effects.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/effects
//     [--steps 400] [--seeds 3]
// Writes docs/effects.md and docs/effects-*.svg.

import { makeRuns } from "./experiment.ts"
import { about, writeExperiment } from "./experiment-page.ts"

const variants = {
  plain: [],
  "class weights": ["--class-weights", "median"],
  "hard pixels": ["--top-k", "0.25", "--mining-steps", "200"],
  "slow start": ["--slow-start", "0.1"],
}
const experiment = makeRuns("bench/effects.ts", variants)
writeExperiment("effects", experiment, variants, {
  title: "What class weights, hard pixels and a slow start change",
  intro: `${about(experiment)} The last column is the rarest class of the split.`,
})
