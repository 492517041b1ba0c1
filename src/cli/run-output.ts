// What a training run shows: progress while it trains, pictures and a line after each evaluation, a table at its end.
// Shared by train and quickstart.
import type { Scores } from "../metrics/index.ts"
import { encoderNameOf } from "../models/index.ts"
import { writeCurves, writeSamples } from "../report/run-pictures.ts"
import { writeReport } from "../report/run-report.ts"
import { openTensorBoard, type TensorBoardWriter } from "../report/tensorboard.ts"
import { clock, percent } from "../report/words.ts"
import type { RunEvents, RunResult, RunStart } from "../train/run.ts"
import type { StepRecord } from "../train/run-folder.ts"
import type { Output } from "./output.ts"
import { profileText } from "./profile-text.ts"
import { scoresTable } from "./scores-table.ts"

/** Shows a run on `output` and writes its pictures as they become known. */
export function runEvents(output: Output): RunEvents {
  let about: RunStart
  let tensorBoard: TensorBoardWriter
  let mean = Number.NaN // of the loss, over the last steps
  let rate = Number.NaN // images a second
  let score: number | null = null
  let started = 0
  let startProgress = Number.NaN
  return {
    onNotice: (text) => output.say(text),
    onDownload: (done, total) =>
      output.progress(total ? done / total : 0, `downloading weights, ${megabytes(done)} of ${megabytes(total)}`),
    onCensus: (done, total) => output.progress(done / total, `checking labels, ${done} of ${total} masks`),
    onStart(start) {
      output.endProgress()
      about = start
      tensorBoard = openTensorBoard(start.run, { step: start.step })
      output.say(describeStart(start))
      started = performance.now()
    },
    onStep(record: StepRecord, progress) {
      if (Number.isNaN(startProgress)) startProgress = progress
      tensorBoard.record(record)
      mean = smooth(mean, record.loss)
      rate = smooth(rate, record.imagesPerSecond)
      const elapsed = (performance.now() - started) / 1000
      const left =
        "seconds" in about.length
          ? about.length.seconds - record.seconds // evaluations included
          : progress > startProgress
            ? (elapsed * (1 - progress)) / (progress - startProgress)
            : Number.NaN
      const parts = [
        `step ${record.step}`,
        `mean loss ${mean.toFixed(3)}`,
        ...(score === null ? [] : [`mIoU ${percent(score)}`]),
        `${rate.toFixed(1)} images/s`,
        `waiting for data ${Math.round(100 * record.dataWait)}%`,
        ...(Number.isNaN(left) ? [] : [`${clock(left)} left`]),
      ]
      output.progress(progress, parts.join(", "), { ...record, progress })
    },
    onProfile(summary, file) {
      output.endProgress()
      output.result({ kind: "profile", ...summary, file }, profileText(summary, file))
    },
    onEvaluating: (done, total) => output.progress(done / total, `evaluating, ${done} of ${total} images`),
    async onEvaluation(record, predictions) {
      const { scores, step, seconds } = record
      score = scores.meanIoU
      const { run, valSet } = about
      writeCurves(run)
      tensorBoard.record(record)
      for (const { id, png, ...size } of await writeSamples(run, valSet, predictions, step)) {
        tensorBoard.image(`samples/${id}`, png, size, step)
      }
      output.endProgress()
      output.result(
        record,
        `step ${step} (${clock(seconds)}): ${means(scores)} (only ${scores.trivial.name}: ${means(scores.trivial)})`,
      )
    },
  }
}

/** One number where no class is background, else two. */
function means({ meanIoU, meanIoUWithoutBackground }: Pick<Scores, "meanIoU" | "meanIoUWithoutBackground">): string {
  const all = `mIoU ${percent(meanIoU)}`
  return meanIoUWithoutBackground === null ? all : `${all}, without background ${percent(meanIoUWithoutBackground)}`
}

/** The end of a run, for people and machines: its report, where it was completed, and its scores. */
export async function finish(
  { run, completed, scores }: RunResult,
  output: Output,
  { report = true, signal }: { report?: boolean; signal?: AbortSignal } = {},
): Promise<void> {
  output.endProgress()
  let page: string | null = null
  let failure: unknown = null
  if (report && completed && scores) {
    page = await writeReport(run, {
      onProgress: (done, total) => output.progress(done / total, `scoring for the report, ${done} of ${total} images`),
      signal,
    }).catch((error: unknown) => {
      failure = error
      return null
    })
    output.endProgress()
  }
  const later = `Make the report with: npx pixelwise report ${run.path}`
  const lines = [
    ...(scores ? [`\n${scoresTable(scores)}\n`] : []),
    ...(completed
      ? []
      : [`Stopped before the end; everything so far is saved. Go on with: npx pixelwise train --resume ${run.path}`]),
    ...(page !== null
      ? [`Look at ${page}`]
      : scores
        ? [`Look at ${run.file("samples.png")} and ${run.file("curves.svg")}`]
        : []),
    ...(page === null && completed && scores ? [later] : []),
  ]
  if (!completed || signal?.aborted) process.exitCode = 130 // as any program that Ctrl-C ended
  output.result({ kind: "end", run: run.path, completed, scores, report: page }, lines.join("\n"))
  if (failure !== null && !signal?.aborted) throw failure // the run itself is complete, and was shown
}

function describeStart(start: RunStart): string {
  const { run, trainSet, valSet, census, parameters, trainable, length, step, isComplete, processes } = start
  const encoder = encoderNameOf(run.config.model, run.config.encoder)
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
    `${run.config.model}${encoder === null ? "" : ` on ${encoder}`} with ${(parameters / 1e6).toFixed(2)} M parameters${trainable < parameters ? ` (${(parameters - trainable).toLocaleString("en")} frozen)` : ""}, ${"steps" in length ? `${length.steps} steps` : `${clock(length.seconds)} of time`}${processes > 1 ? `, ${processes} processes` : ""}, into ${run.path}`,
    ...(isComplete
      ? [
          `Complete already, after step ${step}: nothing is left to train. A longer one: --resume with --steps, --epochs or --budget`,
        ]
      : step > 0
        ? [`Going on after step ${step}`]
        : []),
  ]
  return lines.join("\n")
}

const megabytes = (bytes: number | undefined): string => (bytes ? `${(bytes / 1e6).toFixed(0)} MB` : "unknown size")

const smooth = (mean: number, value: number): number => (Number.isNaN(mean) ? value : 0.95 * mean + 0.05 * value)
