// pixelwise report: the page about a run, made anew or for the first time.
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { isPlain } from "../infer/segment.ts"
import { writeReport } from "../report/run-report.ts"
import { RunFolder } from "../train/run-folder.ts"
import { checkOut } from "./evaluation-output.ts"
import { addInferenceOptions, type InferenceFlags, inferenceOptions } from "./inference-options.ts"
import { interruptSignal } from "./interrupt.ts"
import { createOutput } from "./output.ts"

interface Options extends InferenceFlags {
  out?: string
  data?: string
  json?: boolean
}

export function define(command: Command): void {
  command
    .argument("<run>", "the run that the page is about")
    .option("--out <file>", "where the page is written (default: report.html in the run)")
    .option("--data <root>", "where its data set is, if it is no longer where it was")
  addInferenceOptions(command)
  command
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
One HTML file that opens from disk: what was trained on what, curves, scores with intervals, all conventions of scoring side by side,
confusions, calibration, worst and best images with their errors by kind, predictions over time, labels that may be wrong. Training
ends with it; here it is made for older runs, elsewhere, or by other inference. The scores are those of evaluation.json in the run,
which is made where it is missing or older than the weights.

Examples:
  $ pixelwise report runs/first
  $ pixelwise report runs/first --flip --scales 0.75,1,1.25 --out flipped.html`,
    )
    .action(async (path: string, { out, data, json, ...flags }: Options) => {
      const output = createOutput({ json })
      const inference = inferenceOptions(flags)
      if (out === undefined && !isPlain(inference)) {
        throw new UserError(
          "The run's own report is of plain inference; for a page of another kind say where it goes: --out flipped.html.",
        )
      }
      checkOut(out, "report.html")
      const signal = interruptSignal(() => output.say("Stopping"))
      const run = RunFolder.open(path)
      const report = await writeReport(run, {
        out,
        ...(data !== undefined && { data }),
        inference,
        onProgress: (done, total) => output.progress(done / total, `scoring, ${done} of ${total} images`),
        signal,
      })
      output.endProgress()
      output.result({ run: path, report }, `Wrote ${report}: open it in a browser.`)
    })
}
