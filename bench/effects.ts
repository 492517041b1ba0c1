// What class weights, hard pixels and a slow start change: the same short training with and without each, on two data sets, three
// seeds. Equal steps are equal time but for the mining itself. Runs that are there already are kept, so it can be stopped.
//   node scripts/with-node.mjs bench/effects.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/effects
//     [--steps 400] [--seeds 3]
// Writes docs/effects.md and docs/effects-*.svg.

import { execFileSync } from "node:child_process"
import { existsSync, rmSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { RunFolder } from "../src/train/run-folder.ts"
import { writeEffects } from "./effects-page.ts"

/** The first is what the others are compared with. */
const variants = {
  plain: [],
  "class weights": ["--class-weights", "median"],
  "hard pixels": ["--top-k", "0.25", "--mining-steps", "200"],
  "slow start": ["--slow-start", "0.1"],
} satisfies Record<string, string[]>

/** Fast enough for few steps. */
const recipe = [
  ...["--learning-rate", "5e-4", "--head-rate", "8", "--scale", "0.5,2"],
  ...["--brightness", "0", "--contrast", "0", "--saturation", "0"],
]

const { values } = parseArgs({
  options: {
    voc: { type: "string" },
    camvid: { type: "string" },
    weights: { type: "string" },
    out: { type: "string" },
    steps: { type: "string", default: "400" },
    seeds: { type: "string", default: "3" },
  },
})
const { voc, camvid, weights, out, steps } = values
if (!voc || !camvid || !weights || !out) {
  console.error("bench/effects.ts: give --voc, --camvid, --weights and --out, see the first lines of the file.")
  process.exit(2)
}
const data = {
  voc2012: ["--data", voc, "--classes", "background,cat,dog,horse,sheep,cow,person"],
  camvid: ["--data", camvid],
}
const root = resolve(import.meta.dirname, "..")
const runs = Object.entries(data).flatMap(([set, where]) =>
  Array.from({ length: Number(values.seeds) }, (_, seed) =>
    Object.entries(variants).map(([variant, flags]) => ({
      ...{ set, variant, seed, path: join(resolve(out), `${set}-${variant.replaceAll(" ", "-")}-${seed}`) },
      flags: [...where, ...flags, "--seed", String(seed)],
    })),
  ).flat(),
)
/** Whether the run was evaluated after its last step: one that was cut off has scores too. */
const isComplete = (path: string): boolean =>
  existsSync(join(path, "config.json")) &&
  RunFolder.open(path)
    .records()
    .some(({ kind, step }) => kind === "evaluation" && step === Number(steps))

for (const [done, { path, flags }] of runs.entries()) {
  if (isComplete(path)) continue
  rmSync(path, { recursive: true, force: true }) // of a run that was cut off
  console.error(`${done} of ${runs.length} runs; ${path}`)
  const common = [
    "--model",
    "lraspp",
    "--encoder",
    "mobilenet_v2_0.35",
    "--weights",
    weights,
    "--steps",
    steps,
    ...recipe,
  ]
  execFileSync(
    process.execPath,
    [join(root, "bin/pixelwise.js"), "train", ...common, ...flags, "--evaluations", "5", "--out", path],
    { stdio: ["ignore", "ignore", "inherit"] },
  )
}
writeEffects(runs, variants, { steps: Number(steps), recipe, folder: join(root, "docs") })
