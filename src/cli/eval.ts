// pixelwise eval: all scores of a trained model on a split, at full image size.
import type { Command } from "commander"
import { isPlain } from "../infer/segment.ts"
import { inferenceText } from "../report/words.ts"
import { evaluateRun } from "../train/evaluate-run.ts"
import { RunFolder } from "../train/run-folder.ts"
import { checkOut, showEvaluation } from "./evaluation-output.ts"
import { addDeviceOption, addInferenceOptions, type InferenceFlags, inferenceOptions } from "./inference-options.ts"
import { createOutput } from "./output.ts"

interface Options extends InferenceFlags {
  run: string
  data?: string
  split?: string
  device?: string
  out?: string
  json?: boolean
}

export function define(command: Command): void {
  command
    .requiredOption("--run <folder>", "the run whose best model is scored")
    .option("--data <root>", "data set (default: the run's own)")
    .option("--split <name>", "split list (default: the run's validation split)")
  addInferenceOptions(command)
  addDeviceOption(command)
  command
    .option("--out <file>", "write everything that was measured, image by image, as JSON")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
On the run's own validation split, without inference options, everything is written to evaluation.json in the run, too.

Examples:
  $ pixelwise eval --run runs/first
  $ pixelwise eval --run runs/first --scales 0.75,1,1.25 --flip
  $ pixelwise eval --run runs/first --data VOC2012 --split val --json`,
    )
    .action(async ({ run: path, data, split, device, ...options }: Options) => {
      const output = createOutput(options)
      checkOut(options.out, "evaluation.json")
      const inference = inferenceOptions(options)
      const { run, weights, ...evaluation } = await evaluateRun(RunFolder.open(path), {
        data,
        split,
        inference,
        device,
        onProgress: (done, total) => output.progress(done / total, `${done} of ${total} images`),
      })
      output.endProgress()
      const { data: root, split: list } = evaluation
      const how = isPlain(inference) ? "" : `, ${inferenceText(inference)}`
      output.say(`${weights} on ${evaluation.images.length} images of ${root}, split ${list}${how}`)
      const about = { run, weights, data: root, split: list, ...(!isPlain(inference) && { inference }) }
      showEvaluation(evaluation, about, output, options)
    })
}
