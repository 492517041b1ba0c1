// TensorBoard events of a run, in its folder beside its log: the curves while it trains, pictures, and its configuration.
// `tensorboard --logdir runs` shows every run in runs/, under the name of its folder.
import { appendFileSync, readdirSync, truncateSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { readBytes } from "../data/files.ts"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import type { RunFolder, RunRecord } from "../train/run-folder.ts"
import {
  fileVersion,
  image,
  type Moment,
  recordsOf,
  scalars,
  sessionStart,
  settings,
  stepOf,
  text,
  toRecord,
} from "./tensorboard-events.ts"

const PREFIX = "events.out.tfevents." // what TensorBoard looks for

/**
 * Writes one event file: each call appends whole records and returns when they are in the file, so that there is nothing to close and
 * TensorBoard shows them while the run goes on.
 */
export class TensorBoardWriter {
  /** Its path: `events.out.tfevents.<seconds since 1970>.<host>.<process>`. */
  readonly file: string

  /**
   * Begins a file in a folder.
   * @param options.step steps that are done: in a resumed run where it goes on. What earlier files in the folder hold of later steps is
   *   cut off, so that no step is shown twice, and what a TensorBoard that is open has read of them it forgets
   * @throws UserError when the file system refuses
   */
  constructor(folder: string, { step = 0 }: { step?: number } = {}) {
    const earlier = eventFiles(folder)
    for (const name of earlier) rewind(join(folder, name), step)
    // TensorBoard reads a folder's files in the order of their names, so this one must stand behind those there are.
    const seconds = Math.max(Math.floor(Date.now() / 1000), ...earlier.map((name) => secondsOf(name) + 1))
    const host = hostname().replace(/[^\w-]/g, "_")
    this.file = join(folder, `${PREFIX}${String(seconds).padStart(10, "0")}.${host}.${process.pid}`)
    const wallTime = now()
    this.#append(fileVersion({ wallTime, step: 0 }))
    this.#append(sessionStart({ wallTime, step: step > 0 ? step + 1 : 0 }))
  }

  /** @param wallTime seconds since 1970 */
  scalar(tag: string, value: number, step: number, wallTime = now()): void {
    this.scalars({ [tag]: value }, { step, wallTime })
  }

  /** Numbers of one moment by their tags; what stands before the first "/" of a tag is the group that it is shown in. */
  scalars(values: Readonly<Record<string, number>>, moment: Moment): void {
    this.#append(scalars(moment, values))
  }

  /** @param png a picture of this size, as a PNG file */
  image(
    tag: string,
    png: Uint8Array,
    size: { readonly width: number; readonly height: number },
    step: number,
    wallTime = now(),
  ): void {
    this.#append(image({ wallTime, step }, tag, png, size))
  }

  /** A line of a run's log. */
  record(record: RunRecord, wallTime = now()): void {
    this.scalars(valuesOf(record), { step: record.step, wallTime })
  }

  /** The options of a run that are set: a page of text, and a row in the table of runs ("HParams"). */
  config(config: Readonly<Record<string, unknown>>, wallTime = now()): void {
    const options = Object.entries(config).filter(([, value]) => value !== null)
    const set = Object.fromEntries(options.map(([name, value]) => [name, plain(value)]))
    const rows = Object.entries(set).map(([name, value]) => `| ${name} | ${String(value).replaceAll("|", "\\|")} |`)
    const moment = { wallTime, step: 0 }
    this.#append(text(moment, "configuration", ["| option | value |", "| --- | --- |", ...rows].join("\n")))
    this.#append(settings(moment, set))
  }

  #append(event: Uint8Array): void {
    attempt("write", this.file, () => appendFileSync(this.file, toRecord(event)))
  }
}

/**
 * The writer of a run, from where the run begins or goes on: write each record of its log as it comes, and pictures.
 * In a folder without events, the configuration and what the log holds so far are written first: so a run that older versions
 * trained gets its events by this call alone. TensorBoard keeps the first configuration that it reads, so that is the one written.
 * @param options.step steps that are done; the log has none behind it
 */
export function openTensorBoard(run: RunFolder, { step }: { step: number }): TensorBoardWriter {
  const isFirst = eventFiles(run.path).length === 0
  const writer = new TensorBoardWriter(run.path, { step })
  if (isFirst) {
    const records = run.records()
    const begin = now() - (records.at(-1)?.seconds ?? 0) // as if it had ended just now: the log does not say when it was
    writer.config(run.config, begin)
    for (const record of records) writer.record(record, begin + record.seconds)
  }
  return writer
}

function valuesOf(record: RunRecord): Record<string, number> {
  if (record.kind === "step") {
    const { loss, learningRate, imagesPerSecond, dataWait } = record
    return {
      "train/loss": loss,
      "train/learning_rate": learningRate,
      "speed/images_per_second": imagesPerSecond,
      "speed/share_of_time_waiting_for_data": dataWait,
    }
  }
  const { meanIoU, meanIoUWithoutBackground, meanAccuracy, pixelAccuracy, classes } = record.scores
  const values = {
    "validation/mean_iou": meanIoU,
    "validation/mean_iou_without_background": meanIoUWithoutBackground,
    "validation/mean_accuracy": meanAccuracy,
    "validation/pixel_accuracy": pixelAccuracy,
    ...Object.fromEntries(classes.map(({ name, iou }) => [`iou/${name}`, iou])),
  }
  return Object.fromEntries(Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== null))
}

const plain = (value: unknown): string | number | boolean =>
  typeof value === "number" || typeof value === "boolean" || typeof value === "string"
    ? value
    : Array.isArray(value)
      ? value.join(",")
      : JSON.stringify(value)

/** Cuts a file off before the first event of a later step, or the first that is not whole. */
function rewind(file: string, step: number): void {
  const bytes = readBytes(file, "event file")
  let kept = 0
  for (const { event, end } of recordsOf(bytes)) {
    if (stepOf(event) > step) break
    kept = end
  }
  if (kept < bytes.length) attempt("write", file, () => truncateSync(file, kept))
}

const eventFiles = (folder: string): string[] =>
  attempt("read", folder, () => readdirSync(folder))
    .filter((name) => name.startsWith(PREFIX))
    .sort()

const secondsOf = (name: string): number => Number.parseInt(name.slice(PREFIX.length), 10) || 0

const now = (): number => Date.now() / 1000

function attempt<T>(what: "read" | "write", path: string, step: () => T): T {
  try {
    return step()
  } catch (cause) {
    throw new UserError(`Cannot ${what} ${path}: ${fileProblem(cause)}.`, { cause })
  }
}
