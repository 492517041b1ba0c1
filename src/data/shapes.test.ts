import { createHash } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { censusLabels } from "./census.ts"
import { randomFor } from "./random.ts"
import { generateShapes } from "./shapes.ts"
import { renderScene, shapeClasses } from "./shapes-scene.ts"
import { openVocFolder } from "./voc-folder.ts"

const scratch = mkdtempSync(join(tmpdir(), "shapes-"))
afterAll(() => rmSync(scratch, { recursive: true }))
const small = { train: 3, val: 2, size: [40, 48] } as const
const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex")

/** Every file of a folder with its content's hash. */
const contents = (root: string) =>
  Object.fromEntries(
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => [file.slice(root.length + 1), md5(readFileSync(file))])
      .sort(),
  )

describe("the default data set", () => {
  const root = join(scratch, "default")
  beforeAll(async () => {
    expect(await generateShapes(root)).toEqual({ reused: false })
  })

  test("is a VOC folder with 240 + 60 pictures of 96x96", async () => {
    const train = openVocFolder(root, { split: "train" })
    const val = openVocFolder(root, { split: "val" })
    expect([train.ids.length, val.ids.length]).toEqual([240, 60])
    expect(train.labelMap.classes.map(({ name }) => name)).toEqual([...shapeClasses])
    expect(await val.readSample(59)).toMatchObject({ width: 96, height: 96 })
  })

  test.each(["train", "val"])(
    "is as unequal as VOC: mostly background, wire rare but not absent (%s)",
    async (split) => {
      const data = openVocFolder(root, { split })
      const { pixels, images, ignored } = await censusLabels(data)
      const counted = pixels.reduce((a, b) => a + b)
      const share = [...pixels].map((n) => n / counted)
      expect(share[0]).toBeGreaterThan(0.7)
      expect(share[0]).toBeLessThan(0.82)
      expect(share[5]).toBeGreaterThan(0.003)
      expect(share[5]).toBeLessThan(0.01)
      for (const k of [1, 2, 3, 4]) expect(share[k]).toBeGreaterThan(0.025)
      for (const k of [1, 2, 3, 4, 5]) expect(images[k]! / data.ids.length).toBeGreaterThan(0.4)
      expect(ignored / (ignored + counted)).toBeGreaterThan(0.05)
      expect(ignored / (ignored + counted)).toBeLessThan(0.1)
    },
  )

  test("cannot be told apart by colour: a nearest-mean rule on RGB stays near always answering background", async () => {
    const data = openVocFolder(root, { split: "train" })
    const sums = Array.from({ length: 6 }, () => [0, 0, 0, 0])
    const samples = await Promise.all(data.ids.slice(0, 80).map((_, i) => data.readSample(i)))
    const pixels = function* (from: number, to: number) {
      for (const { image, mask } of samples.slice(from, to)) {
        for (let i = 0; i < mask.length; i += 7) {
          if (mask[i]! > 0 && mask[i] !== 255)
            yield { label: mask[i]!, rgb: [image[3 * i]!, image[3 * i + 1]!, image[3 * i + 2]!] }
        }
      }
    }
    for (const { label, rgb } of pixels(0, 40)) sums[label] = sums[label]!.map((sum, c) => sum + (rgb[c] ?? 1))
    const means = sums.map(([r, g, b, n]) => [r! / n!, g! / n!, b! / n!])
    const [right, all] = [new Array(6).fill(0), new Array(6).fill(0)]
    for (const { label, rgb } of pixels(40, 80)) {
      const distance = (k: number) => rgb.reduce((sum, v, c) => sum + (v - means[k]![c]!) ** 2, 0)
      const guess = [1, 2, 3, 4, 5].reduce((a, b) => (distance(b) < distance(a) ? b : a))
      all[label]++
      if (guess === label) right[label]++
    }
    const recall = [1, 2, 3, 4, 5].reduce((sum, k) => sum + right[k] / all[k], 0) / 5
    expect(recall).toBeLessThan(0.35) // guessing gives 0.2
  })
})

describe("a scene", () => {
  test("is the same for the same key; its masks are the same on every machine", () => {
    const scenes = [0, 1, 2].map((i) => renderScene(randomFor(1, 0, i), 64, 96))
    expect(renderScene(randomFor(1, 0, 2), 64, 96)).toEqual(scenes[2])
    expect(md5(Buffer.concat(scenes.map(({ mask }) => mask)))).toMatchInlineSnapshot(
      `"af3752c4cacf767512573fd455e906d3"`,
    ) // raise `version` in shapes.ts with it
  })
  test("has void around objects, and nowhere else", () => {
    const { mask } = renderScene(randomFor(1, 0, 0), 128, 128)
    for (let y = 4; y < 124; y++) {
      for (let x = 4; x < 124; x++) {
        if (mask[y * 128 + x] !== 255) continue
        const around = new Set<number | undefined>()
        for (let dy = -4; dy <= 4; dy++) for (let dx = -4; dx <= 4; dx++) around.add(mask[(y + dy) * 128 + x + dx])
        expect(around.size).toBeGreaterThan(1) // something that is not void is near: the border is thin
      }
    }
  })
  test("outside objects and their border nothing touches: classes are always apart by a border", () => {
    for (let i = 0; i < 20; i++) {
      const { mask } = renderScene(randomFor(2, 0, i), 128, 128)
      for (let at = 1; at < mask.length; at++) {
        const [a, b] = [mask[at - 1]!, mask[at]!]
        if (at % 128 !== 0 && a !== b) expect(a === 255 || b === 255 || a === 5 || b === 5).toBe(true)
      }
    }
  })
})

describe("generateShapes", () => {
  test("gives the same bytes for the same seed, others for another, and keeps earlier pictures when asked for more", async () => {
    const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => join(scratch, name)) as [string, string, string, string]
    await generateShapes(a, { ...small, seed: 4 })
    await generateShapes(b, { ...small, seed: 4 })
    await generateShapes(c, { ...small, seed: 5 })
    await generateShapes(d, { ...small, seed: 4, train: 5 })
    expect(contents(b)).toEqual(contents(a))
    const pictures = (root: string) => Object.entries(contents(root)).filter(([name]) => /jpg|png/.test(name))
    for (const [name, hash] of pictures(a)) {
      expect(contents(c)[name]).not.toBe(hash)
      expect(contents(d)[name]).toBe(hash)
    }
  })

  test("does nothing when the set is there already, and makes it anew for other options", async () => {
    const root = join(scratch, "again")
    const progress: number[][] = []
    await generateShapes(root, { ...small, onProgress: (...at) => progress.push(at) })
    expect(progress).toEqual([1, 2, 3, 4, 5].map((n) => [n, 5]))
    const before = contents(root)
    expect(await generateShapes(root, small)).toEqual({ reused: true })
    expect(await generateShapes(root, { ...small, seed: 1 })).toEqual({ reused: false })
    expect(contents(root)).not.toEqual(before)
    expect(readdirSync(scratch).filter((name) => name.includes("partial"))).toEqual([])
  })

  test("fills an empty folder, and overwrites nothing that it did not make", async () => {
    const root = join(scratch, "mine")
    mkdirSync(root)
    await generateShapes(root, small)
    const other = join(scratch, "theirs")
    mkdirSync(other)
    writeFileSync(join(other, "thesis.txt"), "years of work")
    await expect(generateShapes(other, small)).rejects.toThrow(UserError)
    await expect(generateShapes(other, small)).rejects.toThrow(
      "is a folder with other things in it; a generated data set",
    )
    await expect(generateShapes(join(other, "thesis.txt"), small)).rejects.toThrow("is a file; a generated data set")
    expect(readdirSync(other)).toEqual(["thesis.txt"])
  })

  test("leaves nothing half-written when it is stopped, or cannot write", async () => {
    const root = join(scratch, "stopped")
    const stop = new AbortController()
    const run = generateShapes(root, {
      ...small,
      signal: stop.signal,
      onProgress: (done) => done === 2 && stop.abort(),
    })
    await expect(run).rejects.toThrow("aborted")
    expect(readdirSync(scratch).filter((name) => name.includes("stopped"))).toEqual([])
    const below = join(scratch, "a file", "set")
    writeFileSync(join(scratch, "a file"), "")
    await expect(generateShapes(below, small)).rejects.toThrow(
      /^Cannot write the generated data set to .*: a part of its path is a file/,
    )
    expect(existsSync(below)).toBe(false)
  })

  test.each<[object, string]>([
    [{ seed: 0.5 }, "seed: got 0.5; expected a whole number."],
    [{ train: 0 }, "train: got 0; expected a whole number, at least 1."],
    [{ val: -1 }, "val: got -1"],
    [{ size: [16, 128] }, "size: got 16; expected a whole number, at least 32."],
  ])("refuses %o", async (options, message) => {
    await expect(generateShapes(join(scratch, "never"), options)).rejects.toThrow(message)
  })
})
