// pixelwise train: a run from the first look at the labels to pictures of the result.
import type { Command } from "commander"
import { parse as parseYaml } from "yaml"
import { readText } from "../data/files.ts"
import { UserError } from "../errors.ts"
import { parseConfig } from "../train/config.ts"
import { resumeRun, startRun } from "../train/run.ts"
import { interruptSignal } from "./interrupt.ts"
import { addConfigOptions, configOptions, nameOption } from "./options.ts"
import { createOutput } from "./output.ts"
import { report, runEvents } from "./run-output.ts"

interface Options {
  out?: string
  resume?: string
  config?: string
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
    .option("--json", "print JSON lines: every step, every evaluation, the result")
    .addHelpText(
      "after",
      `
Length: --steps, --epochs or --budget (default 10m). The learning rate follows the progress through it.

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
    report(await resumeRun(options.resume, given, { signal, ...runEvents(output) }), output)
    return
  }
  if (options.out === undefined)
    throw new UserError("--out is missing: the folder to write the run to, such as --out runs/first.")
  const file = options.config === undefined ? {} : readConfigFile(options.config)
  const config = parseConfig({ ...file, ...withoutFileLengths(given, file) }, nameOption(given, options.config))
  report(await startRun(config, options.out, { signal, ...runEvents(output) }), output)
}

function readConfigFile(path: string): Record<string, unknown> {
  const text = readText(path, "configuration")
  let value: unknown
  try {
    value = parseYaml(text) // JSON is YAML
  } catch (cause) {
    throw new UserError(`Cannot read configuration ${path}: ${(cause as Error).message.split("\n")[0]}.`, { cause })
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`The configuration ${path} must hold keys and values, such as "model: unet".`)
  }
  return value as Record<string, unknown>
}

// A length on the command line replaces the file's, whatever its kind.
function withoutFileLengths(given: Record<string, unknown>, file: Record<string, unknown>): Record<string, unknown> {
  const lengths = ["steps", "epochs", "budget"]
  if (!lengths.some((key) => given[key] !== undefined)) return given
  return { ...Object.fromEntries(lengths.filter((key) => key in file).map((key) => [key, null])), ...given }
}
