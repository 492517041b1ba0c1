// Event files are read back here by a decoder of their own, written from the format's description and sharing nothing with the writer.
// The bytes themselves are compared with those of Google's library in tests/parity/tensorboard.test.ts.
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { parseLabelMap } from "../data/label-map.ts"
import { UserError } from "../errors.ts"
import { parseConfig } from "../train/config.ts"
import { type EvaluationRecord, RunFolder, type StepRecord } from "../train/run-folder.ts"
import { openTensorBoard, TensorBoardWriter } from "./tensorboard.ts"
import { crc32c, recordsOf, stepOf, toRecord } from "./tensorboard-events.ts"

const root = mkdtempSync(join(tmpdir(), "pixelwise-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
function newFolder(): string {
  const folder = join(root, String(++folders))
  mkdirSync(folder)
  return folder
}

// --- the decoder -------------------------------------------------------------------------------------------------------

/** CRC-32C bit by bit, the most significant first, of the reflected bytes: another way than the writer's table. */
function slowCrc(bytes: Uint8Array): number {
  const reflect = (value: number, bits: number) =>
    Number.parseInt(value.toString(2).padStart(bits, "0").split("").reverse().join(""), 2)
  let crc = 0xffffffffn
  for (const byte of bytes) {
    crc ^= BigInt(reflect(byte, 8)) << 24n
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1n) & 0xffffffffn) ^ ((crc >> 31n) * 0x1edc6f41n)
  }
  return reflect(Number(crc ^ 0xffffffffn), 32)
}

function masked(bytes: Uint8Array): number {
  const crc = BigInt(slowCrc(bytes))
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn)
}

type Value = bigint | Buffer

/** A message's fields by number, each with all its values: varints as numbers, all else as bytes. */
function fieldsOf(message: Buffer): Map<number, Value[]> {
  const fields = new Map<number, Value[]>()
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++)
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const key = Number(varint())
    const kind = key % 8
    const length = kind === 0 ? 0 : kind === 1 ? 8 : kind === 5 ? 4 : Number(varint())
    const value = kind === 0 ? varint() : message.subarray(at, at + length)
    at += length
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value])
  }
  return fields
}

interface Decoded {
  readonly step: number
  readonly wallTime: number
  readonly version?: string
  readonly start?: true
  readonly values: Record<string, number | { png: Buffer; size: bigint[] } | string>
}

function readEvents(file: string): Decoded[] {
  const bytes = readFileSync(file)
  const events: Decoded[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at))
    expect(bytes.readUInt32LE(at + 8)).toBe(masked(bytes.subarray(at, at + 8)))
    const data = bytes.subarray(at + 12, at + 12 + length)
    expect(data).toHaveLength(length)
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(masked(data))
    at += length + 16
    const event = fieldsOf(data)
    const values: Decoded["values"] = {}
    const summary = event.get(5)?.[0] as Buffer | undefined
    for (const value of summary ? (fieldsOf(summary).get(1) as Buffer[]) : []) {
      const parts = fieldsOf(value)
      const bytesOf = (number: number) => parts.get(number)?.[0] as Buffer
      const tag = bytesOf(1).toString()
      if (parts.has(2)) values[tag] = bytesOf(2).readFloatLE()
      else if (parts.has(4)) {
        const image = fieldsOf(bytesOf(4))
        values[tag] = { png: image.get(4)![0] as Buffer, size: [image.get(2)![0], image.get(1)![0]] as bigint[] }
      } else {
        const plugin = fieldsOf(fieldsOf(bytesOf(9)).get(1)![0] as Buffer)
        const content = plugin.get(2)?.[0] as Buffer | undefined
        values[tag] = content ? content.toString("latin1") : (fieldsOf(bytesOf(8)).get(8)![0] as Buffer).toString() // the text
      }
    }
    events.push({
      step: Number(event.get(2)?.[0] ?? 0n),
      wallTime: (event.get(1)![0] as Buffer).readDoubleLE(),
      ...(event.has(3) && { version: String(event.get(3)![0]) }),
      ...(event.has(7) && { start: true as const }),
      values,
    })
  }
  return events
}

const filesIn = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.includes("tfevents")) // as TensorBoard looks for them
    .sort()
    .map((name) => join(folder, name))
const eventsIn = (folder: string) => filesIn(folder).flatMap(readEvents)

/** Values of a tag by step, in the order in which TensorBoard reads them. */
const seriesIn = (folder: string, tag: string) =>
  eventsIn(folder).flatMap(({ step, values }) => (tag in values ? [[step, values[tag]]] : []))

// --- the format --------------------------------------------------------------------------------------------------------

test("CRC-32C equals the examples of RFC 3720, appendix B.4", () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43)
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, k) => k))).toBe(0x46dd794e)
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, k) => 31 - k))).toBe(0x113fdb5c)
  const read10 = // an iSCSI SCSI Read (10) command
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
  expect(crc32c(Buffer.from(read10.replaceAll(" ", ""), "hex"))).toBe(0xd9963a56)
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283)
})

test("a file: its version, the start of a session, then what was written, with its time", () => {
  const folder = newFolder()
  const writer = new TensorBoardWriter(folder)
  expect(filesIn(folder)).toEqual([writer.file])
  expect(writer.file).toMatch(/[/\\]events\.out\.tfevents\.\d{10}\.[\w-]+\.\d+$/)
  writer.scalar("train/loss", 2.5, 0, 1.7e9)
  writer.scalars({ a: 0, b: Number.NaN }, { step: 300, wallTime: 1.7e9 + 0.5 })
  writer.image("samples", Buffer.from("a picture"), { width: 500, height: 375 }, 300, 1.7e9 + 1)
  const [version, start, ...events] = readEvents(writer.file)
  expect(version).toMatchObject({ step: 0, version: "brain.Event:2" })
  expect(start).toMatchObject({ step: 0, start: true })
  expect(Math.abs(version!.wallTime - Date.now() / 1000)).toBeLessThan(60)
  expect(events).toEqual([
    { step: 0, wallTime: 1.7e9, values: { "train/loss": 2.5 } },
    { step: 300, wallTime: 1.7e9 + 0.5, values: { a: 0, b: Number.NaN } },
    { step: 300, wallTime: 1.7e9 + 1, values: { samples: { png: Buffer.from("a picture"), size: [500n, 375n] } } },
  ])
})

test("records that are cut off or damaged end what is read", () => {
  const whole = Buffer.concat([Buffer.from("one"), Buffer.from("two")].map(toRecord))
  const read = (bytes: Buffer) => [...recordsOf(bytes)].map(({ event, end }) => [Buffer.from(event).toString(), end])
  expect(read(whole)).toEqual([
    ["one", 19],
    ["two", 38],
  ])
  for (let length = 19; length < 38; length++) expect(read(whole.subarray(0, length))).toEqual([["one", 19]])
  for (let at = 19; at < 38; at++) {
    const damaged = Buffer.from(whole)
    damaged[at]! ^= 64
    expect(read(damaged), `byte ${at}`).toEqual([["one", 19]])
  }
})

test("the step is found among fields of any kind, in any order", () => {
  // field 9: bytes "\x10\x05", which look like a step; field 11: 4 bytes; field 2: 300; field 1: 8 bytes; field 12: varint 7
  const event = Buffer.from([0x4a, 2, 0x10, 5, 0x5d, 1, 2, 3, 4, 0x10, 0xac, 2, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x60, 7])
  expect(stepOf(event)).toBe(300)
  expect(stepOf(event.subarray(0, 9))).toBe(0)
})

// --- a run that is resumed ---------------------------------------------------------------------------------------------

test("a resumed run shows no step twice: what lay behind the save is cut off, and a TensorBoard that is open is told", () => {
  const folder = newFolder()
  const first = new TensorBoardWriter(folder)
  for (let step = 1; step <= 120; step++) first.scalar("loss", step, step)
  appendFileSync(first.file, toRecord(Buffer.from("the last one, cut off")).subarray(0, 20))

  const second = new TensorBoardWriter(folder, { step: 100 })
  expect(filesIn(folder)).toEqual([first.file, second.file]) // in this order, though begun within one second
  expect(readEvents(second.file)).toMatchObject([{ version: "brain.Event:2" }, { start: true, step: 101 }])
  for (let step = 101; step <= 150; step++) second.scalar("loss", 1000 + step, step)
  expect(seriesIn(folder, "loss")).toEqual([
    ...Array.from({ length: 100 }, (_, k) => [k + 1, k + 1]),
    ...Array.from({ length: 50 }, (_, k) => [k + 101, k + 1101]),
  ])

  // Back into the first part, twice: the second file has nothing left but its version.
  new TensorBoardWriter(folder, { step: 40 })
  const fourth = new TensorBoardWriter(folder, { step: 40 })
  fourth.scalar("loss", 41, 41)
  expect(seriesIn(folder, "loss").map(([step]) => step)).toEqual(Array.from({ length: 41 }, (_, k) => k + 1))
  expect(filesIn(folder)).toHaveLength(4)
  expect(filesIn(folder).at(-1)).toBe(fourth.file)
})

test("the new file stands behind those that are there, also where the clock goes back", () => {
  const folder = newFolder()
  writeFileSync(join(folder, "events.out.tfevents.4102444800.elsewhere.1"), "")
  expect(new TensorBoardWriter(folder).file).toMatch(/tfevents\.4102444801\./)
})

// --- a run -------------------------------------------------------------------------------------------------------------

const stepRecord = (step: number): StepRecord => ({
  kind: "step",
  step,
  seconds: step / 2,
  loss: 1 / step,
  learningRate: 0.25,
  imagesPerSecond: 8,
  dataWait: 0.125,
})
const evaluationRecord = (step: number): EvaluationRecord => {
  const ofClass = { iou: 0.5, precision: null, recall: null, truthPixels: 1, predictedPixels: 1 }
  return {
    kind: "evaluation",
    step,
    seconds: step / 2,
    scores: {
      meanIoU: 0.5,
      meanIoUWithoutBackground: null,
      meanAccuracy: 0.75,
      pixelAccuracy: 0.875,
      classes: [
        { ...ofClass, name: "cat" },
        { ...ofClass, name: "dog", iou: null },
      ],
      leftOut: ["dog"],
      trivial: { name: "cat", meanIoU: 0, meanIoUWithoutBackground: null, pixelAccuracy: 0 },
    },
  }
}

function newRun(): RunFolder {
  const config = parseConfig({ data: "a|b", crop: [64, 96], seed: 0, steps: 12 })
  return RunFolder.create(join(root, `run-${++folders}`), config, parseLabelMap(["cat", "dog"], "test"))
}

test("a new run: its configuration, then each record of its log; undefined scores are left out", () => {
  const run = newRun()
  const writer = openTensorBoard(run, { step: 0 })
  writer.record(stepRecord(1))
  writer.record(evaluationRecord(1))
  const [version, start, options, hparams, step, evaluation, ...rest] = readEvents(writer.file)
  expect([version?.version, start?.start, rest]).toEqual(["brain.Event:2", true, []])
  const page = options!.values.configuration as string
  expect(page).toMatch(/^\| option \| value \|\n\| --- \| --- \|\n/)
  expect(page).toContain("\n| data | a\\|b |\n")
  expect(page).toContain("\n| crop | 64,96 |")
  expect(page).not.toContain("null")
  const settings = hparams!.values["_hparams_/session_start_info"] as string
  expect(settings).toContain("a|b")
  expect(settings).toContain("64,96")
  expect(step).toMatchObject({
    step: 1,
    values: {
      "train/loss": 1,
      "train/learning_rate": 0.25,
      "speed/images_per_second": 8,
      "speed/share_of_time_waiting_for_data": 0.125,
    },
  })
  expect(evaluation).toMatchObject({ step: 1 })
  expect(evaluation!.values).toEqual({
    "validation/mean_iou": 0.5,
    "validation/mean_accuracy": 0.75,
    "validation/pixel_accuracy": 0.875,
    "iou/cat": 0.5,
  })
})

test("a resumed run goes on where its log does; the configuration stands there once", () => {
  const run = newRun()
  const log = (writer: TensorBoardWriter, from: number, to: number) => {
    for (let step = from; step <= to; step++) {
      run.log(stepRecord(step))
      writer.record(stepRecord(step))
    }
  }
  log(openTensorBoard(run, { step: 0 }), 1, 8)
  run.rewindLog(5)
  log(openTensorBoard(run, { step: 5 }), 6, 9)
  const expected = run.records().map(({ step }) => [step, Math.fround(1 / step)])
  expect(expected).toHaveLength(9)
  expect(seriesIn(run.path, "train/loss")).toEqual(expected)
  expect(seriesIn(run.path, "configuration")).toHaveLength(1)
})

test("a run without events, as older versions left it, gets those of its whole log, at the times they were apart", () => {
  const run = newRun()
  for (const record of [stepRecord(1), stepRecord(2), evaluationRecord(2)]) run.log(record)
  openTensorBoard(run, { step: 2 }).record(stepRecord(3))
  expect(seriesIn(run.path, "train/loss").map(([step]) => step)).toEqual([1, 2, 3])
  expect(seriesIn(run.path, "validation/mean_iou")).toEqual([[2, 0.5]])
  expect(seriesIn(run.path, "configuration")).toHaveLength(1)
  const times = eventsIn(run.path).flatMap(({ values, wallTime }) => ("train/loss" in values ? [wallTime] : []))
  expect(times[1]! - times[0]!).toBeCloseTo(0.5, 3)
})

// --- bad input ---------------------------------------------------------------------------------------------------------

test("a folder that is not there, or a disk that is full, is one sentence", () => {
  const missing = join(root, "missing")
  expect(() => new TensorBoardWriter(missing)).toThrow(new UserError(`Cannot read ${missing}: it does not exist.`))
  const folder = newFolder()
  const writer = new TensorBoardWriter(folder)
  rmSync(folder, { recursive: true })
  expect(() => writer.scalar("loss", 1, 1)).toThrow(new UserError(`Cannot write ${writer.file}: it does not exist.`))
})
