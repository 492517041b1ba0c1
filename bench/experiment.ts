// The same short training in several variants, on two data sets, with several seeds: LR-ASPP on MobileNetV2 of width 0.35. Runs that
// are there already are kept, so it can be stopped. What is compared stands in effects.ts and precision.ts.

import { execFileSync } from "node:child_process"
import { existsSync, rmSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { RunFolder } from "../src/train/run-folder.ts"

/** Of all variants: fast enough for few steps. */
export const recipe = [
  ...["--learning-rate", "5e-4", "--head-rate", "8", "--loss", "cross-entropy"],
  ...["--brightness", "0", "--contrast", "0", "--saturation", "0"],
]

/** Flags by name; the first is what the others are compared with. */
export type Variants = Readonly<Record<string, readonly string[]>>

export interface ExperimentRun {
  readonly set: string
  readonly variant: string
  readonly seed: number
  readonly path: string
}

export interface Experiment {
  readonly runs: readonly ExperimentRun[]
  readonly steps: number
  /** The repository. */
  readonly root: string
}

/**
 * Makes the runs that are missing, by the command line's --voc, --camvid, --weights, --out, --steps and --seeds: one after the other, so
 * that all variants of a seed are made under about the same conditions.
 * @param script whose command line it is, for messages
 */
export function makeRuns(script: string, variants: Variants): Experiment {
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
    console.error(`${script}: give --voc, --camvid, --weights and --out, see the first lines of the file.`)
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
  for (const [done, { path, flags }] of runs.entries()) {
    if (isComplete(path, Number(steps))) continue
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
  return { runs, steps: Number(steps), root }
}

/** Whether the run was evaluated after its last step: one that was cut off has scores too. */
const isComplete = (path: string, steps: number): boolean =>
  existsSync(join(path, "config.json")) &&
  RunFolder.open(path)
    .records()
    .some(({ kind, step }) => kind === "evaluation" && step === steps)
