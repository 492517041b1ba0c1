// LR-ASPP on MobileNetV2 of width 0.35, which plain_lraspp.py trains the way a user of PyTorch would, and what our command line needs
// to train it in the same way.
import { type ChildProcess, spawn } from "node:child_process"
import { join, resolve } from "node:path"
import { givenEnvironment } from "../src/torch/native.ts"

const root = resolve(import.meta.dirname, "..")

/** plain_lraspp.py's recipe: all that our defaults for pretrained weights do otherwise. */
export const sameRecipe = [
  ...["--loss", "cross-entropy", "--learning-rate", "1e-3", "--head-rate", "1", "--freeze", "0", "--warmup", "0"],
  ...["--brightness", "0", "--contrast", "0", "--saturation", "0", "--fill", "false", "--batch-norm-batches", "0"],
  ...["--average", "0", "--padding", "symmetric"],
]

export interface Training {
  readonly data: string
  readonly weights: string
  readonly seed: string
}

const run = (program: string, args: readonly string[]): ChildProcess =>
  spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: givenEnvironment() })

const flagsOf = ({ data, weights, seed }: Training) => ["--data", data, "--weights", weights, "--seed", seed]

export function startOurs(training: Training, out: string, flags: readonly string[]): ChildProcess {
  const model = ["--model", "lraspp", "--encoder", "mobilenet_v2_0.35", "--no-report", "--out", out]
  return run(process.execPath, [join(root, "bin/pixelwise.js"), "train", ...flagsOf(training), ...model, ...flags])
}

export const startPlain = (python: string, training: Training, flags: readonly string[]): ChildProcess =>
  run(python, [join(root, "bench/plain_lraspp.py"), ...flagsOf(training), ...flags])

/** The mean IoU in per cent that a line of either tells. */
export function meanIoUIn(line: string): number | undefined {
  const found = /(?:mean IoU|mIoU) (\d+\.\d+)/.exec(line)?.[1]
  return found === undefined ? undefined : Number(found)
}
