// pixelwise train: a run from the first look at the labels to pictures of the result.
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { parseConfig } from "../train/config.ts"
import { resumeRun, startRun } from "../train/run.ts"
import { interruptSignal } from "./interrupt.ts"
import { addConfigOptions, configOptions, nameOption, readConfigFile, withoutFileLengths } from "./options.ts"
import { createOutput } from "./output.ts"
import { finish, runEvents } from "./run-output.ts"

interface Options {
  out?: string
  resume?: string
  config?: string
  report?: boolean
  profile?: boolean
  json?: boolean
  [key: string]: unknown
}

export function define(command: Command): void {
  command
    .option("--out <folder>", "the run folder to write; new or empty")
    .option("--resume <run>", "go on with a stopped run")
    .option("--config <file>", "YAML or JSON file with the options below as keys; flags win over it")
  addConfigOptions(command)
  command
    .option("--no-report", "leave out report.html, which takes another pass over the validation images at the end")
    .option(
      "--profile",
      "note what runs when in ten steps, after the first seconds: profile.json, for https://ui.perfetto.dev, and a summary",
    )
    .option("--json", "print JSON lines: every step, every evaluation, the result")
    .addHelpText(
      "after",
      `
Length: --steps, --epochs or --budget (default 10m). The learning rate follows the progress through it.
"none" takes back what --config or --protocol says of an option that can be left out: --clip-norm none.

Examples:
  $ pixelwise train --data VOC2012 --out runs/first
  $ pixelwise train --data camvid --model unet --width 16 --crop 192,256 --budget 10m --out runs/camvid
  $ pixelwise train --data VOC2012 --classes background,cat,dog --others void --out runs/pets
  $ pixelwise train --resume runs/first`,
    )
    .action(train)
}

async function train(options: Options): Promise<void> {
  const output = createOutput(options)
  const given = configOptions(options)
  const signal = interruptSignal(() =>
    output.say("Stopping after this step; Ctrl-C again ends at once and loses what is not saved."),
  )
  if (options.resume !== undefined) {
    if (options.out !== undefined || options.config !== undefined) {
      throw new UserError(
        "--resume goes on in the run's own folder with its own options; leave out --out and --config.",
      )
    }
    const result = await resumeRun(options.resume, given, { signal, profile: options.profile, ...runEvents(output) })
    await finish(result, output, { report: options.report, signal })
    return
  }
  if (options.out === undefined)
    throw new UserError("--out is missing: the folder to write the run to, such as --out runs/first.")
  const file = options.config === undefined ? {} : readConfigFile(options.config)
  const config = parseConfig({ ...file, ...withoutFileLengths(given, file) }, nameOption(given, options.config))
  const result = await startRun(config, options.out, { signal, profile: options.profile, ...runEvents(output) })
  await finish(result, output, { report: options.report, signal })
}
