// What pretrained weights are worth in ten minutes: LR-ASPP on MobileNetV2 0.35 from the defaults, with the ImageNet weights
// (on two data sets) and without (on one). Run it on a machine that does nothing else: the budget is time. Runs that are there already
// are kept, so it can be stopped.
//   node scripts/with-node.mjs bench/fine-tuning.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/fine-tuning
//     [--budget 10m] [--seeds 3]
// Writes docs/fine-tuning.md and docs/fine-tuning-*.svg. The plain PyTorch script beside it is bench/plain_lraspp.py.

import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { lineChart } from "../src/report/charts/line.ts"
import { standaloneSvg } from "../src/report/charts/standalone.ts"
import { evaluationsOf } from "../src/report/curves.ts"
import { RunFolder } from "../src/train/run-folder.ts"

const { values } = parseArgs({
  options: {
    voc: { type: "string" },
    camvid: { type: "string" },
    weights: { type: "string" },
    out: { type: "string" },
    budget: { type: "string", default: "10m" },
    seeds: { type: "string", default: "3" },
  },
})
const { voc, camvid, weights, out, budget } = values
if (!voc || !camvid || !weights || !out) {
  console.error("bench/fine-tuning.ts: give --voc, --camvid, --weights and --out, see the first lines of the file.")
  process.exit(2)
}
const root = resolve(import.meta.dirname, "..")
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed)
const data = {
  voc2012: ["--data", voc, "--classes", "background,cat,dog,horse,sheep,cow,person"],
  camvid: ["--data", camvid],
}
const starts = [
  { name: "pretrained", flags: ["--weights", weights], sets: ["voc2012", "camvid"], seeds },
  { name: "from scratch", flags: [], sets: ["voc2012"], seeds: [0] },
]
const startsOn = (set: string) => starts.filter(({ sets }) => sets.includes(set))
const runs = Object.entries(data).flatMap(([set, where]) =>
  startsOn(set).flatMap(({ name, flags, seeds }) =>
    seeds.map((seed) => ({
      ...{ set, name, seed, path: join(resolve(out), `${set}-${name.replaceAll(" ", "-")}-${seed}`) },
      flags: [...where, ...flags, "--seed", String(seed)],
    })),
  ),
)

for (const [done, { path, flags }] of runs.entries()) {
  if (existsSync(join(path, "report.html"))) continue // the last thing that training writes
  rmSync(path, { recursive: true, force: true }) // of a run that was cut off
  console.error(`${done} of ${runs.length} runs; ${path}`)
  const common = ["--model", "lraspp", "--encoder", "mobilenet_v2_0.35", "--budget", budget, "--out", path]
  execFileSync(process.execPath, [join(root, "bin/pixelwise.js"), "train", ...common, ...flags], {
    stdio: ["ignore", "ignore", "inherit"],
  })
}

const results = runs.map((run) => ({ ...run, evaluations: evaluationsOf(RunFolder.open(run.path).records()) }))
const percent = (value: number | null) => (value === null ? "-" : (100 * value).toFixed(1))
const rows = Object.keys(data).flatMap((set) =>
  startsOn(set).map(({ name }) => {
    const same = results.filter((run) => run.set === set && run.name === name)
    const ends = same.map(({ evaluations }) => evaluations.at(-1)!)
    const best = (evaluations: (typeof same)[number]["evaluations"]) =>
      percent(Math.max(...evaluations.map(({ scores }) => scores.meanIoU ?? 0)))
    return [
      set,
      name,
      same.map(({ evaluations }) => `${percent(evaluations.at(-1)!.scores.meanIoU)} (${best(evaluations)})`).join(", "),
      ends.map(({ scores }) => percent(scores.meanIoUWithoutBackground)).join(", "),
      ends.map(({ step }) => step.toLocaleString("en")).join(", "),
    ]
  }),
)
for (const set of Object.keys(data)) {
  const series = results
    .filter((run) => run.set === set)
    .map(({ name, seed, evaluations }) => ({
      name: `${name}, seed ${seed}`,
      marks: true,
      points: evaluations.map(({ seconds, scores }) => [seconds / 60, 100 * (scores.meanIoU ?? 0)] as const),
    }))
  const title = `Mean IoU on ${set}, pretrained and from scratch`
  const chart = lineChart({
    title,
    x: { name: "time", unit: "min" },
    y: { name: "mean IoU", unit: "per cent" },
    series,
  })
  writeFileSync(join(root, "docs", `fine-tuning-${set}.svg`), standaloneSvg([chart], { title }))
}
const head = ["data", "encoder", "mean IoU, seed by seed", "without background", "steps"]
const table = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")
const versions = readFileSync(RunFolder.open(runs[0]!.path).file("versions.json"), "utf8")
const { processor, cores } = JSON.parse(versions) as Record<string, string>
writeFileSync(
  join(root, "docs/fine-tuning.md"),
  `<!-- Written by bench/fine-tuning.ts -->
# What pretrained weights are worth in ten minutes

LR-ASPP on MobileNetV2 of width 0.35, trained for ${budget} from the defaults (${processor}, ${cores} cores), evaluations included:
with an encoder that knows ImageNet, and with random weights. Per cent on the validation split, after
the last step and, in brackets, of the best evaluation, whose weights are kept. Of voc2012, 440 training and 180 validation images, seven classes are learned, the others are void; CamVid has
367 and 101, and eleven classes.

\`\`\`sh
node scripts/with-node.mjs bench/fine-tuning.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/fine-tuning
\`\`\`

${table}

![Mean IoU on voc2012 over the time](fine-tuning-voc2012.svg)

![Mean IoU on camvid over the time](fine-tuning-camvid.svg)
`,
)
