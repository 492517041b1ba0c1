// The events that tensorboard_events.py made with Google's protobuf library, to the byte, and what TensorBoard's own reader made of them.
import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { TensorBoardWriter } from "../../src/report/tensorboard.ts"
import {
  fileVersion,
  image,
  recordsOf,
  scalars,
  sessionStart,
  settings,
  stepOf,
  text,
  toRecord,
} from "../../src/report/tensorboard-events.ts"
import { temporaryFolder } from "../e2e/cli.ts"
import { goldenJson } from "./golden.ts"

const golden = readFileSync(new URL("golden/tensorboard.events", import.meta.url))

/** The picture stands in the golden file: PNG files may be compressed differently by every library. */
const png = golden.subarray(golden.indexOf("\x89PNG", 0, "latin1"), golden.indexOf("IEND", 0, "latin1") + 8)

const folder = temporaryFolder()

const ours = () => {
  const at = (wallTime: number, step = 0) => ({ wallTime, step })
  return [
    fileVersion(at(1.7e9)),
    sessionStart(at(1.7e9)),
    scalars(at(1700000000.25, 1), { "train/loss": 2.5, "train/learning_rate": 0.007 }),
    scalars(at(1700000001.5, 127), { zero: 0 }),
    scalars(at(1700000001.5, 128), { nan: Number.NaN, inf: Number.NEGATIVE_INFINITY }),
    scalars(at(1700000002, 2 ** 40 + 5), { "iou/Übergröße 犬": 1 / 3 }),
    image(at(1700000003, 300), "validation/samples", png, { width: 2, height: 1 }),
    text(at(1.7e9), "configuration", "| option | value |\n| --- | --- |"),
    settings(at(1.7e9), { model: "unet", learningRate: 0.007, seed: 0, poly: true, freeze: false }),
    sessionStart(at(1.7e9 + 60, 2 ** 41)),
  ]
}

test("events and their records are the bytes that Google's protobuf library writes", () => {
  const expected = [...recordsOf(golden)]
  expect(expected).toHaveLength(10)
  for (const [k, event] of ours().entries()) {
    expect(event.toString("hex"), `event ${k}`).toBe(Buffer.from(expected[k]!.event).toString("hex"))
  }
  expect(Buffer.concat(ours().map(toRecord)).equals(golden)).toBe(true)
})

test("steps are read out of every kind of event", () => {
  expect([...recordsOf(golden)].map(({ event }) => stepOf(event))).toEqual([
    0,
    0,
    1,
    127,
    128,
    2 ** 40 + 5,
    300,
    0,
    0,
    2 ** 41,
  ])
})

// --- TensorBoard ------------------------------------------------------------------------------------------------------

const reader = goldenJson("tensorboard-read") as {
  read: Record<string, Record<string, [step: number, wallTime: number, value: unknown][]>>
  resumed: { files: number[][]; before: number[]; openAllTheTime: number[]; openedLater: number[] }
}
const upTo = (last: number) => Array.from({ length: last }, (_, k) => k + 1)

test("TensorBoard reads from these bytes what was written", () => {
  expect(reader.read).toEqual({
    scalars: {
      "train/loss": [[1, 1700000000.25, 2.5]],
      "train/learning_rate": [[1, 1700000000.25, Math.fround(0.007)]],
      zero: [[127, 1700000001.5, 0]],
      nan: [[128, 1700000001.5, "nan"]],
      inf: [[128, 1700000001.5, "-inf"]],
      "iou/Übergröße 犬": [[2 ** 40 + 5, 1700000002, Math.fround(1 / 3)]],
    },
    images: { "validation/samples": [[300, 1700000003, [2, 1, png.length]]] },
    text: { configuration: [[0, 1.7e9, "| option | value |\n| --- | --- |"]] },
    hparams: {
      "_hparams_/session_start_info": [
        [0, 1.7e9, { model: "unet", learningRate: 0.007, seed: 0, poly: true, freeze: false }],
      ],
    },
  })
})

test("a run resumed after 5 of 8 steps: TensorBoard shows no step twice, and our files hold the events that it was shown", () => {
  expect(reader.resumed.before).toEqual(upTo(8))
  expect(reader.resumed.openAllTheTime).toEqual(upTo(10))
  expect(reader.resumed.openedLater).toEqual(upTo(10))

  const first = new TensorBoardWriter(folder)
  for (let step = 1; step <= 8; step++) first.scalar("train/loss", 1 / step, step)
  const second = new TensorBoardWriter(folder, { step: 5 })
  for (let step = 6; step <= 10; step++) second.scalar("train/loss", 1 / step, step)
  const events = [first.file, second.file].map((file) => [...recordsOf(readFileSync(file))].map(({ event }) => event))
  expect(events.map((file) => file.map(stepOf))).toEqual(reader.resumed.files)
  const [version, start] = events[1]!
  expect(Buffer.from(version!).subarray(9)).toEqual(fileVersion({ wallTime: 0, step: 0 }).subarray(9)) // 9: the time
  expect(Buffer.from(start!).subarray(9)).toEqual(sessionStart({ wallTime: 0, step: 6 }).subarray(9))
})
