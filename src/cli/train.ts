// pixelwise train: a run from the first look at the labels to pictures of the result.
import { readFileSync } from "node:fs"
import type { Command } from "commander"
import { parse as parseYaml } from "yaml"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import { writeCurves, writeSamples } from "../report/run-pictures.ts"
import { parseConfig } from "../train/config.ts"
import { type RunEvents, type RunResult, type RunStart, resumeRun, startRun } from "../train/run.ts"
import type { StepRecord } from "../train/run-folder.ts"
import { interruptSignal } from "./interrupt.ts"
import { addConfigOptions, configOptions } from "./options.ts"
import { clock, createOutput, type Output, percent } from "./output.ts"
import { scoresTable } from "./scores-table.ts"

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
  const config = parseConfig({ ...file, ...withoutFileLengths(given, file) }, options.config ?? "the command line")
  report(await startRun(config, options.out, { signal, ...runEvents(output) }), output)
}

/** Shows a run on `output` and writes its pictures as they become known. */
export function runEvents(output: Output): RunEvents {
  let about: RunStart
  let mean = Number.NaN // of the loss, over the last steps
  let rate = Number.NaN // images a second
  let score: number | null = null
  let started = 0
  let startProgress = Number.NaN
  return {
    onCensus: (done, total) => output.progress(done / total, `checking labels, ${done} of ${total} masks`),
    onStart(start) {
      output.endProgress()
      about = start
      output.say(describeStart(start))
      started = performance.now()
    },
    onStep(record: StepRecord, progress) {
      if (Number.isNaN(startProgress)) startProgress = progress
      mean = smooth(mean, record.loss)
      rate = smooth(rate, record.imagesPerSecond)
      const elapsed = (performance.now() - started) / 1000
      const left = progress > startProgress ? (elapsed * (1 - progress)) / (progress - startProgress) : Number.NaN
      const parts = [
        `step ${record.step}`,
        `loss ${mean.toFixed(3)}`,
        ...(score === null ? [] : [`mIoU ${percent(score)}`]),
        `${rate.toFixed(1)} images/s`,
        `waiting for data ${Math.round(100 * record.dataWait)}%`,
        ...(Number.isNaN(left) ? [] : [`${clock(left)} left`]),
      ]
      output.progress(progress, parts.join(", "), { ...record, progress })
    },
    onEvaluating: (done, total) => output.progress(done / total, `evaluating, ${done} of ${total} images`),
    async onEvaluation(record, predictions) {
      const { scores, step, seconds } = record
      score = scores.meanIoU
      const { run, valSet } = about
      run.writeJson("scores.json", scores)
      writeCurves(run)
      await writeSamples(run, valSet, predictions)
      output.endProgress()
      output.result(
        record,
        `step ${step} (${clock(seconds)}): mIoU ${percent(scores.meanIoU)}, without background ${percent(scores.meanIoUWithoutBackground)} ` +
          `(only ${scores.trivial.name}: ${percent(scores.trivial.meanIoU)}, ${percent(scores.trivial.meanIoUWithoutBackground)})`,
      )
    },
  }
}

/** The end of a run, for people and machines. */
export function report({ run, completed, scores }: RunResult, output: Output): void {
  output.endProgress()
  const result = { kind: "end", run: run.path, completed, scores }
  const stopped = completed
    ? ""
    : `Stopped before the end; everything so far is saved. Go on with: pixelwise train --resume ${run.path}\n`
  const pictures = scores ? `Look at ${run.file("samples.png")} and ${run.file("curves.svg")}` : ""
  output.result(result, [scores ? `\n${scoresTable(scores)}\n` : "", stopped + pictures].join("\n").trimEnd())
}

function describeStart({ run, trainSet, valSet, census, parameters, length, step }: RunStart): string {
  const total = census.pixels.reduce((sum, count) => sum + count, 0)
  const { classes } = trainSet.labelMap
  const frequent = classes
    .map(({ name }, k) => ({ name, share: (census.pixels[k] ?? 0) / total }))
    .sort((a, b) => b.share - a.share)
  const absent = frequent.filter(({ share }) => share === 0).map(({ name }) => name)
  const [most, least] = [frequent[0], frequent.filter(({ share }) => share > 0).at(-1)]
  const lines = [
    `${trainSet.ids.length} training and ${valSet.ids.length} validation images, ${classes.length} classes; ` +
      `most frequent ${most?.name} (${percent(most?.share ?? null)} % of pixels), rarest ${least?.name} (${percent(least?.share ?? null)} %)`,
    ...(absent.length > 0 ? [`Never in the training masks, so never learned: ${absent.join(", ")}`] : []),
    `${run.config.model} with ${(parameters / 1e6).toFixed(2)} M parameters, ${"steps" in length ? `${length.steps} steps` : `${clock(length.seconds)} of time`}, into ${run.path}`,
    ...(step > 0 ? [`Going on after step ${step}`] : []),
  ]
  return lines.join("\n")
}

const smooth = (mean: number, value: number): number => (Number.isNaN(mean) ? value : 0.95 * mean + 0.05 * value)

function readConfigFile(path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = parseYaml(readFileSync(path, "utf8")) // JSON is YAML
  } catch (cause) {
    const reason =
      "code" in (cause as object) && String((cause as NodeJS.ErrnoException).code).startsWith("E")
        ? fileProblem(cause)
        : (cause as Error).message.split("\n")[0]
    throw new UserError(`Cannot read the configuration ${path}: ${reason}.`, { cause })
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
