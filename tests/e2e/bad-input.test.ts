// Bad input gets one clear sentence and exit code 2, and leaves nothing behind.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import sharp from "sharp"
import { beforeAll, describe, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { pixelwise, start, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const good = join(folder, "good")
const data = join(folder, "bad")
const out = join(folder, "run")
const file = (...path: string[]) => join(data, ...path)
const firstId = () => readFileSync(file("ImageSets", "Segmentation", "train.txt"), "utf8").split("\n")[0] as string
const image = () => file("JPEGImages", `${firstId()}.jpg`)
const mask = () => file("SegmentationClass", `${firstId()}.png`)

beforeAll(() => generateShapes(good, { train: 3, val: 2, size: [32, 32], seed: 1 }))

async function refused(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await pixelwise(...args)
  expect(stdout).toBe("")
  expect(code).toBe(2)
  const lines = stderr
    .trim()
    .split("\n")
    .filter((line) => !/^\d+% checking/.test(line)) // progress without a terminal
  expect(lines, "one line").toHaveLength(1)
  return lines[0] as string
}

// a run that would take a second
const small = ["--steps", "1", "--width", "2", "--depth", "1", "--crop", "16"]
const train = (...more: string[]) => ["train", "--data", data, "--out", out, ...small, ...more]

describe("damaged data sets", () => {
  const cases: Record<string, { damage: () => unknown; says: () => (string | RegExp)[] }> = {
    "missing folder": { damage: () => rmSync(data, { recursive: true }), says: () => [data] },
    "empty split list": {
      damage: () => writeFileSync(file("ImageSets", "Segmentation", "train.txt"), "\n"),
      says: () => ["train.txt", "empty"],
    },
    "id without image": { damage: () => rmSync(image()), says: () => [firstId(), "JPEGImages"] },
    "id without mask": { damage: () => rmSync(mask()), says: () => [firstId(), "SegmentationClass"] },
    "truncated JPEG": {
      damage: () => writeFileSync(image(), readFileSync(image()).subarray(0, 400)),
      says: () => [image()],
    },
    "truncated PNG": {
      damage: () => writeFileSync(mask(), readFileSync(mask()).subarray(0, 900)),
      says: () => [mask()],
    },
    "mask of another size": {
      damage: async () => writeFileSync(image(), await sharp(image()).resize(20, 20).jpeg().toBuffer()),
      says: () => [image(), mask(), "20x20", "32x32"],
    },
    "label outside the map": {
      damage: () => writeFileSync(file("label_map.json"), JSON.stringify(["background", "disc"])),
      says: () => [/SegmentationClass/, /label \d+/, /0\.\.1|0 to 1|0, 1/, /x ?=? ?\d+|\(\d+, ?\d+\)/],
    },
    "16-bit mask": {
      damage: async () =>
        writeFileSync(
          mask(),
          await sharp(new Uint16Array(1024), { raw: { width: 32, height: 32, channels: 1 } })
            .toColourspace("grey16")
            .png()
            .toBuffer(),
        ),
      says: () => [mask(), /16/],
    },
    "RGB mask with a colour outside the map": {
      damage: async () =>
        writeFileSync(
          mask(),
          await sharp({ create: { width: 32, height: 32, channels: 3, background: "#123456" } })
            .png({ palette: false })
            .toBuffer(),
        ),
      says: () => [mask(), /18, ?52, ?86/],
    },
    "unreadable file": {
      damage: () => {
        rmSync(mask())
        mkdirSync(mask())
      },
      says: () => [mask()],
    },
  }
  test.each(Object.entries(cases))(
    "%s",
    async (_, { damage, says }) => {
      rmSync(data, { recursive: true, force: true })
      cpSync(good, data, { recursive: true })
      const expected = await (async () => {
        const before = existsSync(data) ? says() : []
        await damage()
        return before
      })()
      const message = await refused(train())
      for (const part of expected)
        expect(message).toMatch(
          typeof part === "string" ? new RegExp(part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")) : part,
        )
      expect(existsSync(out), "nothing half-written").toBe(false)
    },
    20_000,
  )
})

describe("wrong options", () => {
  beforeAll(() => {
    rmSync(data, { recursive: true, force: true })
    cpSync(good, data, { recursive: true })
  })
  const configFile = join(folder, "config.yaml")
  const cases: Record<string, { args: () => string[]; says: (string | RegExp)[] }> = {
    "an option by another tool's name": { args: () => train("--lr", "1"), says: ["--lr", "called --learning-rate"] },
    "unknown model": { args: () => train("--model", "unett"), says: ["unett", 'Did you mean "unet"'] },
    "unknown option": { args: () => train("--lerning-rate", "1"), says: ["--lerning-rate", "--learning-rate"] },
    "unknown command": { args: () => ["trian"], says: ["trian", "train"] },
    "not a number": { args: () => train("--batch-size", "many"), says: ["--batch-size", "many", "number"] },
    "out of range": { args: () => train("--flip", "2"), says: ["--flip", "2", "1"] },
    "two lengths": { args: () => train("--epochs", "2"), says: ["--steps", "--epochs"] },
    "bad duration": { args: () => ["train", "--data", data, "--out", out, "--budget", "soon"], says: ["soon", "10m"] },
    "no output folder": { args: () => ["train", "--data", data], says: ["--out"] },
    "no data": { args: () => ["train", "--out", out], says: ["--data", "missing"] },
    "unknown split": { args: () => train("--train-split", "trian"), says: ["trian", 'Did you mean "train"'] },
    "unknown class": { args: () => train("--classes", "background,dics"), says: ["dics", 'Did you mean "disc"'] },
    "unknown key in the configuration file": {
      args: () => {
        writeFileSync(configFile, "modle: unet\n")
        return train("--config", configFile)
      },
      says: ["modle", configFile, 'Did you mean "model"'],
    },
    "not a run": { args: () => ["eval", "--run", data], says: [data, "config.json"] },
    "missing picture": {
      args: () => ["predict", "--run", data, "--out", out, join(folder, "none.jpg")],
      says: ["none.jpg", "does not exist"],
    },
  }
  test.each(Object.entries(cases))(
    "%s",
    async (_, { args, says }) => {
      const message = await refused(args())
      for (const part of says)
        expect(message).toMatch(
          typeof part === "string" ? new RegExp(part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")) : part,
        )
      expect(existsSync(out), "nothing half-written").toBe(false)
    },
    20_000,
  )
})

test("a run is never overwritten", async () => {
  const taken = join(folder, "taken")
  mkdirSync(taken)
  writeFileSync(join(taken, "thesis.txt"), "years of work")
  const message = await refused(["train", "--data", good, "--out", taken, ...small])
  expect(message).toContain(taken)
  expect(readFileSync(join(taken, "thesis.txt"), "utf8")).toBe("years of work")
}, 20_000)

test("with --json the sentence is an object", async () => {
  const { code, stdout } = await pixelwise("eval", "--run", folder, "--json")
  expect(code).toBe(2)
  expect(JSON.parse(stdout).error).toContain(folder)
})

test("who reads the output may go: what was begun goes on to its end", async () => {
  const unread = join(folder, "unread")
  const { child, finished } = start("train", "--data", good, "--out", unread, ...small, "--json", "--no-report")
  child.stdout!.destroy()
  const { code, stderr } = await finished
  expect([code, stderr.includes("EPIPE")]).toEqual([0, false])
  expect(existsSync(join(unread, "best.safetensors"))).toBe(true)
}, 20_000)
