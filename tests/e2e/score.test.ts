// Scoring predictions as a user does: files that another program wrote, in one sentence what is wrong with them.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import sharp from "sharp"
import { beforeAll, beforeEach, describe, expect, test } from "vitest"
import { decodePng, writeIndexedPng } from "../../src/data/png.ts"
import { generateShapes } from "../../src/data/shapes.ts"
import { type Finished, pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "data")
const predictions = join(folder, "predictions")
const out = join(folder, "evaluation.json")
const file = (id = "val_00000") => join(predictions, `${id}.png`)
const score = (...more: string[]) => pixelwise("score", "--pred", predictions, "--truth", data, ...more)
const result = ({ code, stdout, stderr }: Finished) => {
  expect(stderr).toBe("")
  expect(code).toBe(0)
  return JSON.parse(stdout)
}

beforeAll(async () => {
  await generateShapes(data, { train: 2, val: 3, size: [32, 32], seed: 1 })
  rmSync(join(data, "JPEGImages"), { recursive: true }) // scoring needs no pictures
})
beforeEach(() => {
  // the truth, but for void: a prediction that is right everywhere
  rmSync(predictions, { recursive: true, force: true })
  rmSync(out, { force: true })
  mkdirSync(predictions)
  for (const name of readdirSync(join(data, "SegmentationClass")).filter((name) => name.startsWith("val"))) {
    const path = join(data, "SegmentationClass", name)
    const { data: labels, width, height, palette } = decodePng(readFileSync(path), path)
    const prediction = labels.map((label) => (label === 255 ? 0 : label))
    writeFileSync(join(predictions, name), writeIndexedPng(prediction, width, height, palette))
  }
})

test("predictions that are right everywhere score 1, from a folder and from VOC's results tree", async () => {
  const scored = result(await score("--json", "--out", out))
  expect(scored).toMatchObject({ predictions, extra: [], truth: data, split: "val", images: 3 })
  expect(scored.scores).toMatchObject({ meanIoU: 1, pixelAccuracy: 1 })
  expect(JSON.parse(readFileSync(out, "utf8")).images).toHaveLength(3)

  const masks = join(data, "SegmentationClass") // with void in them, of both splits
  const itself = result(await pixelwise("score", "--pred", masks, "--truth", data, "--split", "val", "--json"))
  expect(itself).toEqual({ ...scored, predictions: masks, extra: ["train_00000.png", "train_00001.png"] })

  const tree = join(folder, "submission")
  cpSync(predictions, join(tree, "results", "VOC2012", "Segmentation", "comp6_val_cls"), { recursive: true })
  const again = result(await pixelwise("score", "--pred", tree, "--truth", data, "--split", "val", "--json"))
  expect(again.scores).toEqual(scored.scores)
}, 20_000)

test("one class everywhere is scored without files, and is what the table shows beside any prediction", async () => {
  const background = result(
    await pixelwise("score", "--constant", "background", "--truth", data, "--boundary", "--json"),
  )
  expect(background).toMatchObject({ constant: "background", images: 3 })
  expect(background.boundary).toHaveLength(6)
  const { scores, boundary } = result(await score("--json"))
  expect(boundary, "not measured unless asked for").toBeNull()
  expect(scores.trivial).toMatchObject({
    name: "background",
    meanIoU: background.scores.meanIoU,
    pixelAccuracy: background.scores.pixelAccuracy,
  })
}, 20_000)

test("files of other ids are named, and change nothing", async () => {
  const before = result(await score("--json"))
  cpSync(file(), file("train_00000"))
  const { code, stdout, stderr } = await score()
  expect(code).toBe(0)
  expect(stderr).toContain(
    `Not scored, because "val" does not list them: 1 of the PNG files in ${predictions} (train_00000.png).`,
  )
  expect(stdout).toContain("mean IoU")
  const after = result(await score("--json"))
  expect(after).toEqual({ ...before, extra: ["train_00000.png"] })
}, 20_000)

describe("what cannot be scored is one sentence and exit code 2, and nothing is written", () => {
  const pixels = (channels: 1 | 3 | 4, value = 0) =>
    sharp(new Uint8Array(1024 * channels).fill(value), { raw: { width: 32, height: 32, channels } })
  const palette = Array.from({ length: 256 }, () => [0, 0, 0] as const)
  const indexed = (value: number, size = 32) =>
    writeIndexedPng(new Uint8Array(size * size).fill(value), size, size, palette)
  const damages: Record<string, { damage: () => unknown; says: string[] }> = {
    "missing prediction": {
      damage: () => rmSync(file()),
      says: ['no prediction for 1 of the 3 ids of "val": val_00000', `Expected ${file()}`],
    },
    "wrong case of the name": {
      damage: () => renameSync(file(), join(predictions, "VAL_00000.png")),
      says: [`Expected ${file()}, got VAL_00000.png`],
    },
    "no folder": { damage: () => rmSync(predictions, { recursive: true }), says: [predictions, "does not exist"] },
    "empty folder": {
      damage: () => {
        rmSync(predictions, { recursive: true })
        mkdirSync(predictions)
      },
      says: [predictions, "no PNG files", "it is empty", "<id>.png"],
    },
    "another size": { damage: () => writeFileSync(file(), indexed(0, 16)), says: [file(), "is 16x16; expected 32x32"] },
    RGB: {
      damage: async () => writeFileSync(file(), await pixels(3).png().toBuffer()),
      says: [file(), "is RGB; expected"],
    },
    "RGB with alpha": {
      damage: async () => writeFileSync(file(), await pixels(4).png().toBuffer()),
      says: [file(), "is RGB with transparency; expected"],
    },
    "grey with alpha": {
      damage: async () => writeFileSync(file(), await pixels(3).ensureAlpha(0.5).toColourspace("b-w").png().toBuffer()),
      says: [file(), "is grey with transparency; expected"],
    },
    "16 bits": {
      damage: async () => writeFileSync(file(), await pixels(1).toColourspace("grey16").png().toBuffer()),
      says: [file(), "has 16 bits per pixel; expected"],
    },
    JPEG: {
      damage: async () => writeFileSync(file(), await pixels(3).jpeg().toBuffer()),
      says: [file(), "it is a JPEG, expected a PNG"],
    },
    "not a PNG": { damage: () => writeFileSync(file(), "plain text"), says: [file(), "not a PNG"] },
    "cut off": {
      damage: () => writeFileSync(file(), readFileSync(file()).subarray(0, -15)),
      says: [file(), "the PNG is cut off"],
    },
    "label out of range": {
      damage: () => writeFileSync(file(), indexed(6)),
      says: [file(), "has the label 6 at pixel (x 0, y 0); expected 0..5"],
    },
    void: {
      damage: () => writeFileSync(file(), indexed(255)),
      says: [file(), "label 255 at pixel (x 0, y 0), which is void", "expected 0..5"],
    },
  }
  test.each(Object.entries(damages))(
    "%s",
    async (_, { damage, says }) => {
      await damage()
      await refused(await score("--out", out), says)
    },
    20_000,
  )

  const options: Record<string, { args: string[]; says: string[] }> = {
    "nothing to score": { args: ["--truth", data], says: ["either --pred", "--constant"] },
    "two things to score": {
      args: ["--pred", predictions, "--constant", "background", "--truth", data],
      says: ["either --pred", "--constant"],
    },
    "unknown constant": {
      args: ["--constant", "dics", "--truth", data],
      says: ['no class "dics"', "background, disc", 'Did you mean "disc"'],
    },
    "unknown class": {
      args: ["--pred", predictions, "--truth", data, "--classes", "background,dics"],
      says: ["dics", 'Did you mean "disc"'],
    },
    "unknown split": {
      args: ["--pred", predictions, "--truth", data, "--split", "vla"],
      says: ["vla", 'Did you mean "val"'],
    },
    "no folder for --out": {
      args: ["--pred", predictions, "--truth", data, "--out", join(folder, "none", "x.json")],
      says: ["--out", join(folder, "none"), "does not exist"],
    },
  }
  test.each(Object.entries(options))(
    "%s",
    async (_, { args, says }) => refused(await pixelwise("score", ...args), says),
    20_000,
  )

  function refused({ code, stdout, stderr }: Finished, says: readonly string[]): void {
    expect(stdout).toBe("")
    expect(code).toBe(2)
    expect(stderr.trim().split("\n"), "one line").toHaveLength(1)
    for (const part of says) expect(stderr).toContain(part)
    expect(existsSync(out), "nothing written").toBe(false)
  }
})
