// How far the losses of ten training steps are from plain PyTorch's, from the same weights and batch, without dropout, and how far
// PyTorch's are from its own with narrower instructions (AVX2), which only add up in another order.
//   node scripts/with-node.mjs bench/numerics.ts [--steps 10] [--only lraspp-train] [--python /usr/bin/python3]

import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { Dropout } from "../src/nn/index.ts"
import { manualSeed, saveSafetensors } from "../src/torch/index.ts"
import "../tests/all-levers.ts"
import { prepareTraining, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "10" },
    only: { type: "string" },
    python: { type: "string", default: "/usr/bin/python3" },
  },
})
const steps = Number(options.steps)
const narrower = { ATEN_CPU_CAPABILITY: "avx2", ONEDNN_MAX_CPU_ISA: "AVX2", OPENBLAS_CORETYPE: "Haswell" }

const folder = mkdtempSync(join(tmpdir(), "numerics-"))
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))

function pythonsLosses(model: string, file: string, environment: Record<string, string>): number[] {
  const script = fileURLToPath(new URL("numerics.py", import.meta.url))
  const env = { ...process.env, ...environment }
  return JSON.parse(execFileSync(options.python, [script, model, String(steps), file], { encoding: "utf8", env }))
}

/** The largest difference of two steps' losses, as a share of the loss. */
const apart = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((loss, k) => Math.abs(loss - b[k]!) / Math.abs(b[k]!))).toExponential(1)

const rows: string[][] = []
for (const { name, training } of Object.values(workloads)) {
  if (!training || (options.only && !options.only.split(",").includes(name))) continue
  manualSeed(0)
  const { model, images, labels, step } = prepareTraining(training.network, training.size)
  for (const [, module] of model.namedModules()) if (module instanceof Dropout) module.eval()
  const file = join(folder, `${name}.safetensors`)
  saveSafetensors(file, new Map([...model.stateDict(), ["images", images], ["labels", labels]]))
  const ours = Array.from({ length: steps }, step)
  model.dispose()
  const plain = pythonsLosses(name.replace(/-train$/, ""), file, {})
  const other = pythonsLosses(name.replace(/-train$/, ""), file, narrower)
  rows.push([name, ours[0]!.toFixed(4), ours.at(-1)!.toFixed(4), apart(ours, plain), apart(other, plain)])
}
console.log(`The largest difference in ${steps} steps, as a share of the loss.`)
console.log(table("workload,first loss,last loss,ours and PyTorch,PyTorch and PyTorch with AVX2".split(","), rows))
