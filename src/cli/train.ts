// pixelwise train: a run from the first look at the labels to pictures of the result.
import { existsSync } from "node:fs"
import { join } from "node:path"
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { GroupError } from "../torch/index.ts"
import { parseConfig, parseDuration } from "../train/config.ts"
import { GROUP_TIMEOUT, joinGroup, membershipFrom } from "../train/distributed.ts"
import { type RunResult, resumeRun, startRun } from "../train/run.ts"
import { interruptSignal } from "./interrupt.ts"
import { launch } from "./launch.ts"
import { addConfigOptions, configOptions, nameOption, readConfigFile, withoutFileLengths } from "./options.ts"
import { createOutput, silent } from "./output.ts"
import { finish, runEvents } from "./run-output.ts"

interface Options {
  nproc?: number
  groupTimeout?: number
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
    .option(
      "--nproc <number>",
      "processes on this machine that train together; torchrun and Slurm set their own",
      parseCount,
    )
    .option(
      "--group-timeout <duration>",
      `how long processes wait for one that does not come or hangs (default: ${GROUP_TIMEOUT}s)`,
      parseDuration,
    )
    .option("--no-report", "leave out report.html, which takes another pass over the validation images at the end")
    .option(
      "--profile",
      "note what runs when in ten steps, after the first seconds or at the end of a short run: profile.json, for https://ui.perfetto.dev, and a summary",
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
  if (options.nproc !== undefined && options.nproc > 1) {
    if (membershipFrom(process.env)) {
      throw new UserError("--nproc starts processes, but the environment says that this is one of several already.")
    }
    const args = withoutOption(process.argv.slice(2), "--nproc")
    process.exitCode = await launch(options.nproc, args, options)
    return
  }
  let say = (_: string) => {}
  const signal = interruptSignal(() =>
    say("Stopping after this step; Ctrl-C again ends at once and loses what is not saved."),
  )
  const group = await joinGroup({ timeout: options.groupTimeout, signal })
  const output = group.isMain ? createOutput(options) : silent
  say = output.say
  const trainOnce = async (): Promise<RunResult> => {
    const events = group.isMain ? runEvents(output) : {}
    const given = configOptions(options)
    const { profile } = options
    if (options.resume !== undefined) {
      if (options.out !== undefined || options.config !== undefined) {
        throw new UserError(
          "--resume goes on in the run's own folder with its own options; leave out --out and --config.",
        )
      }
      return await resumeRun(options.resume, given, { signal, group, profile, ...events })
    }
    if (options.out === undefined)
      throw new UserError("--out is missing: the folder to write the run to, such as --out runs/first.")
    const file = options.config === undefined ? {} : readConfigFile(options.config)
    const config = parseConfig({ ...file, ...withoutFileLengths(given, file) }, nameOption(given, options.config))
    return await startRun(config, options.out, { signal, group, profile, ...events })
  }
  let result: RunResult
  try {
    result = await trainOnce()
    await group.leave()
  } catch (error) {
    output.endProgress()
    const saved = group.isMain ? "What was reached is saved" : "What was saved last is there"
    throw withWayOn(await group.fail(error), options.resume ?? options.out, saved)
  }
  if (group.isMain) await finish(result, output, { report: options.report, signal })
  else if (!result.completed) process.exitCode = 130
}

/** Where the group failed, and something was saved before. */
function withWayOn(error: unknown, folder: string | undefined, saved: string): unknown {
  if (!(error instanceof GroupError) || folder === undefined || !existsSync(join(folder, "last.safetensors")))
    return error
  const text = `${error.message} ${saved}. Go on with the same command, but with --resume ${folder}.`
  return new GroupError(text, { cause: error })
}

function parseCount(text: string): number {
  const count = Number(text)
  if (Number.isSafeInteger(count) && count >= 1) return count
  throw new UserError(`--nproc is "${text}"; expected a whole number of at least 1.`)
}

/** Arguments without an option and its value. */
function withoutOption(args: readonly string[], name: string): string[] {
  return args.filter((word, k) => word !== name && args[k - 1] !== name && !word.startsWith(`${name}=`))
}
