// Whether a training that uses all our operators ends where plain PyTorch's ends: LR-ASPP on CamVid for a fixed number of steps, with
// plain_lraspp.py's recipe, by us and by that script, for several seeds. The two draw other crops, so only the means can be compared:
// is their difference larger than what the seed does by itself?
//   node scripts/with-node.mjs bench/same-training.ts --camvid CAMVID --weights mobilenet_v2_0.35.safetensors
//     [--steps 400] [--seeds 3] [--python /usr/bin/python3]
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { parseArgs } from "node:util"
import { sum } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { meanIoUIn, sameRecipe, startOurs, startPlain } from "./lraspp.ts"

const { values: options } = parseArgs({
  options: {
    camvid: { type: "string" },
    weights: { type: "string" },
    steps: { type: "string", default: "400" },
    seeds: { type: "string", default: "3" },
    python: { type: "string", default: "/usr/bin/python3" },
  },
})
const { camvid: data, weights, steps } = options
if (!data || !weights || !(Number(options.seeds) >= 2)) {
  console.error(
    "bench/same-training.ts: give --camvid, --weights and at least 2 seeds, see the first lines of the file.",
  )
  process.exit(2)
}
const folder = mkdtempSync(join(tmpdir(), "same-training-"))
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))

/** The last mean IoU that it tells, in per cent. */
async function scoreOf(training: ReturnType<typeof startPlain>): Promise<number> {
  let last = Number.NaN
  const ended = once(training, "exit")
  for await (const line of createInterface({ input: training.stdout! })) last = meanIoUIn(line) ?? last
  const [code] = await ended
  if (code !== 0) throw new Error(`a training ended with exit code ${code}; see its message above`)
  return last
}

const scores: [ours: number[], plain: number[]] = [[], []]
for (let k = 0; k < Number(options.seeds); k++) {
  const training = { data, weights, seed: String(k) }
  const length = ["--steps", steps, "--evaluations", "1"]
  scores[0].push(await scoreOf(startOurs(training, join(folder, String(k)), [...sameRecipe, ...length])))
  scores[1].push(await scoreOf(startPlain(options.python, training, length)))
  console.error(`seed ${k}: ours ${scores[0].at(-1)}, plain ${scores[1].at(-1)}`)
}

const mean = (values: readonly number[]) => sum(values) / values.length
const variance = (values: readonly number[]) =>
  sum(values.map((value) => (value - mean(values)) ** 2)) / (values.length - 1)
const [ours, plain] = scores
console.log(`Mean IoU on CamVid's validation images after ${steps} steps, in per cent`)
console.log(
  table(
    ["seed", "ours", "plain_lraspp.py"],
    ours.map((value, k) => [String(k), value.toFixed(1), plain[k]!.toFixed(1)]),
  ),
)
const noise = Math.sqrt((variance(ours) + variance(plain)) / ours.length)
console.log(
  `Means ${mean(ours).toFixed(2)} and ${mean(plain).toFixed(2)}: apart by ${(mean(ours) - mean(plain)).toFixed(2)}, the standard error of which is ${noise.toFixed(2)}.`,
)
