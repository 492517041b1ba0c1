// A run is a folder that can be copied, compared and resumed:
//   config.json       every option, defaults included     label-map.json    the classes that were learned
//   versions.json     pixelwise, Node, libtorch, machine  metrics.jsonl     one JSON object a line: steps and evaluations
//   best.safetensors  weights of the best evaluation      last.safetensors  all that is needed to resume
//   curves.svg, samples.png, scores.json                  what came out, so far
//   samples/<step>/<id>.png  predictions of a few images   events.out.tfevents.*  the log for TensorBoard
//   report.html, evaluation.json, diagnosis.json          all about it, and the numbers behind that
//   profile.json      what ran when in a few steps, of a run with --profile
//   bad-batch.safetensors, earlier.safetensors            after a loss that is no number: its images, the save before
//   training.lock     while a process trains into it
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { arch, availableParallelism, cpus, hostname, platform } from "node:os"
import { join } from "node:path"
import { formatLabelMap, type LabelMap, readLabelMap } from "../data/label-map.ts"
import { UserError } from "../errors.ts"
import { fileProblem, makeFolder, writeFileAtomic } from "../files.ts"
import type { Scores } from "../metrics/index.ts"
import { buildInfo, threads } from "../torch/index.ts"
import { version } from "../version.ts"
import { parseConfig, type TrainConfig } from "./config.ts"

export interface StepRecord {
  readonly kind: "step"
  readonly step: number
  /** Seconds of training so far, evaluations included, over all resumed parts. */
  readonly seconds: number
  readonly loss: number
  readonly learningRate: number
  readonly imagesPerSecond: number
  /** Share of the time since the last record that was spent waiting for images. */
  readonly dataWait: number
}

export interface EvaluationRecord {
  readonly kind: "evaluation"
  readonly step: number
  readonly seconds: number
  readonly scores: Scores
}

export type RunRecord = StepRecord | EvaluationRecord

export class RunFolder {
  readonly path: string
  /** Whether this process writes into it. */
  readonly #isWriter: boolean

  private constructor(path: string, isWriter = true) {
    this.path = path
    this.#isWriter = isWriter
  }

  /** The folder for a process that trains along with the one that writes into it: it reads what is there, and writes nothing. */
  static follow(path: string): RunFolder {
    return new RunFolder(path, false)
  }

  /** @throws UserError when the folder exists and is not empty: a run is never overwritten */
  static checkFree(path: string): void {
    if (existsSync(path) && (!statSync(path).isDirectory() || readdirSync(path).length > 0)) {
      throw new UserError(
        `The run folder ${path} is taken; expected a new or empty folder. Choose another --out, or go on with the run in it: --resume ${path}.`,
      )
    }
  }

  static create(path: string, config: TrainConfig, labelMap: LabelMap): RunFolder {
    RunFolder.checkFree(path)
    makeFolder(path, "run folder")
    const run = new RunFolder(path)
    try {
      run.writeJson("config.json", config)
      writeFileAtomic(run.file("label-map.json"), formatLabelMap(labelMap))
      run.writeJson("versions.json", versions(config))
    } catch (error) {
      run.remove()
      throw error
    }
    return run
  }

  /** @throws UserError when the folder is not a run */
  static open(path: string, { isWriter = true } = {}): RunFolder {
    if (!existsSync(join(path, "config.json"))) {
      throw new UserError(
        `${path} is not a run folder: it has no config.json. Give the folder that "pixelwise train --out" wrote.`,
      )
    }
    return new RunFolder(path, isWriter)
  }

  /** Takes back a folder in which nothing worth keeping has come to be. */
  remove(): void {
    if (this.#isWriter) rmSync(this.path, { recursive: true, force: true })
  }

  file(name: string): string {
    return join(this.path, name)
  }

  get config(): TrainConfig {
    const file = this.file("config.json")
    return parseConfig(this.#readJson("config.json") as Record<string, unknown>, (key) => `"${key}" in ${file}`)
  }

  get labelMap(): LabelMap {
    return readLabelMap(this.file("label-map.json"))
  }

  writeJson(name: string, value: unknown): void {
    this.write(name, (path) => writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`))
  }

  /** Has a file written. @param save is given its path */
  write(name: string, save: (path: string) => void): void {
    if (this.#isWriter) save(this.file(name))
  }

  /**
   * Takes the run for this process, so that no other trains into it meanwhile: `using _ = run.lock()`. The lock of a process that
   * was killed is taken over.
   * @throws UserError when another process has it
   */
  lock(): Disposable {
    if (!this.#isWriter) return { [Symbol.dispose]() {} }
    const file = this.file("training.lock")
    const mine = JSON.stringify({ process: process.pid, host: hostname() })
    for (;;) {
      try {
        writeFileSync(file, mine, { flag: "wx" })
        return { [Symbol.dispose]: () => rmSync(file, { force: true }) }
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "EEXIST")
          throw new UserError(`Cannot write ${file}: ${fileProblem(cause)}.`, { cause })
      }
      const owner = readOwner(file)
      if (owner && isRunning(owner)) {
        throw new UserError(
          `${this.path} is being trained by process ${owner.process} on ${owner.host}. Wait for it, or stop it; if there is no such process, remove ${file}.`,
        )
      }
      rmSync(file, { force: true })
    }
  }

  // --- the log --------------------------------------------------------------------------------------------

  log(record: RunRecord): void {
    if (!this.#isWriter) return
    const file = this.file("metrics.jsonl")
    try {
      appendFileSync(file, `${JSON.stringify(record)}\n`)
    } catch (cause) {
      throw new UserError(`Cannot write ${file}: ${fileProblem(cause)}.`, { cause })
    }
  }

  /** The log so far. A last line cut off by a crash is left out. */
  records(): RunRecord[] {
    const file = this.file("metrics.jsonl")
    if (!existsSync(file)) return []
    return readFileSync(file, "utf8")
      .split("\n")
      .flatMap((line) => {
        try {
          return line ? [JSON.parse(line) as RunRecord] : []
        } catch {
          return []
        }
      })
  }

  /** Drops what was logged after `step`, before the run goes on from there. */
  rewindLog(step: number): void {
    const kept = this.records().filter((record) => record.step <= step)
    const lines = kept.map((record) => `${JSON.stringify(record)}\n`)
    this.write("metrics.jsonl", (path) => writeFileAtomic(path, lines.join("")))
  }

  #readJson(name: string): unknown {
    const file = this.file(name)
    try {
      return JSON.parse(readFileSync(file, "utf8"))
    } catch (cause) {
      throw new UserError(
        `Cannot read ${file}: ${cause instanceof SyntaxError ? "it is not JSON" : fileProblem(cause)}.`,
        { cause },
      )
    }
  }
}

interface Owner {
  readonly process: number
  readonly host: string
}

/** null where the file is gone, or was cut off while it was written. */
function readOwner(file: string): Owner | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Owner
  } catch {
    return null
  }
}

/** Of another machine's processes nothing is known, so they count as running. */
function isRunning(owner: Owner): boolean {
  if (owner.host !== hostname()) return true
  try {
    process.kill(owner.process, 0) // asks, and sends nothing
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" // somebody else's
  }
}

function versions({ precision }: TrainConfig) {
  return {
    pixelwise: version,
    node: process.versions.node,
    libtorch: buildInfo().libtorch,
    platform: `${platform()} ${arch()}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    threads: threads(),
    precision,
  }
}
