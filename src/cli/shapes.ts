// pixelwise shapes: writes the generated data set to a folder, in VOC layout.
import type { Command } from "commander"
import { generateShapes } from "../data/shapes.ts"
import { interruptSignal } from "./interrupt.ts"
import { createOutput } from "./output.ts"

interface Options {
  train: number
  val: number
  size: number
  seed: number
  json?: boolean
}

export function define(command: Command): void {
  command
    .argument("<folder>", "where to write it; new, or a generated data set to replace")
    .option("--train <count>", "training images", Number, 160)
    .option("--val <count>", "validation images", Number, 40)
    .option("--size <pixels>", "height and width", Number, 128)
    .option("--seed <number>", "seed: the same one gives the same masks everywhere", Number, 0)
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nExamples:\n  $ pixelwise shapes datasets/shapes\n  $ pixelwise shapes datasets/large --train 1000 --val 200 --size 256 --seed 1",
    )
    .action(async (folder: string, { train, val, size, seed, json }: Options) => {
      const output = createOutput({ json })
      await generateShapes(folder, {
        train,
        val,
        size: [size, size],
        seed,
        signal: interruptSignal(() => {}),
        onProgress: (done: number, total: number) => output.progress(done / total, `${done} of ${total} images`),
      })
      output.endProgress()
      output.result({ folder, train, val, size, seed }, `${train} training and ${val} validation images in ${folder}`)
    })
}
