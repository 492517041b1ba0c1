import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import sharp from "sharp"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { type Batch, joinBatches } from "./batch.ts"
import { vocColor } from "./label-map.ts"
import { Loader, type LoaderOptions } from "./loader.ts"
import { writeIndexedPng } from "./png.ts"
import { openVocFolder, type VocFolder } from "./voc-folder.ts"

// Eleven pictures that differ in content; the last is of another size.
const root = mkdtempSync(join(tmpdir(), "loader-"))
const names = Array.from({ length: 11 }, (_, i) => `p${String(i).padStart(2, "0")}`)
let data: VocFolder
beforeAll(async () => {
  for (const folder of ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"]) {
    mkdirSync(join(root, folder), { recursive: true })
  }
  writeFileSync(join(root, "label_map.txt"), "background\nthing\n")
  const lists = {
    train: names.slice(0, 10),
    odd: names.slice(8),
    two: names.slice(0, 2),
    bad: [...names.slice(0, 10), "bad"],
  }
  for (const [split, ids] of Object.entries(lists)) {
    writeFileSync(join(root, `ImageSets/Segmentation/${split}.txt`), ids.join("\n"))
  }
  for (const [i, name] of [...names, "bad"].entries()) {
    const [width, height] = name === "p10" ? [30, 40] : [40, 30]
    const pixels = Uint8Array.from({ length: width * height * 3 }, (_, j) => (j * (i + 3) + i * 20) & 255)
    const image = await sharp(pixels, { raw: { width, height, channels: 3 } })
      .jpeg()
      .toBuffer()
    writeFileSync(join(root, `JPEGImages/${name}.jpg`), name === "bad" ? image.subarray(0, 400) : image)
    const mask = Uint8Array.from({ length: width * height }, (_, j) => (j >> i) & 1)
    writeFileSync(
      join(root, `SegmentationClass/${name}.png`),
      writeIndexedPng(mask, width, height, [vocColor(0), vocColor(1)]),
    )
  }
  data = openVocFolder(root, { split: "train" })
})
afterAll(() => rmSync(root, { recursive: true }))

const crop = { name: "randomCrop", cropSize: [24, 20], verticalFlip: 0.5 } as const
const whole = { name: "whole" } as const
const options = { batchSize: 3, transform: crop, seed: 5, workers: 0 } satisfies LoaderOptions

async function take(batches: AsyncIterable<Batch>, count: number): Promise<Batch[]> {
  const taken: Batch[] = []
  for await (const batch of batches) {
    taken.push(batch)
    if (taken.length === count) break
  }
  return taken
}
const threads = () => process.getActiveResourcesInfo().filter((name) => name === "MessagePort").length

describe("training batches", () => {
  test("are the same with 0, 1 and 3 workers, whatever is made ahead or remembered", async () => {
    const made: Batch[][] = []
    const cacheBytes = 7 * 40 * 30 * 4 // room for seven of the ten samples
    for (const more of [
      { workers: 0 },
      { workers: 0, cacheBytes },
      { workers: 1, cacheBytes },
      { workers: 3, prefetch: 5 },
    ]) {
      await using loader = new Loader(data, { ...options, ...more })
      made.push(await take(loader.batches(), 7))
    }
    expect(made[0]![0]).toMatchObject({ shape: [3, 24, 20], step: 0, epoch: 0 })
    expect(made[0]![6]).toMatchObject({ step: 6, epoch: 2 })
    expect(made[0]![0]!.images).toHaveLength(3 * 3 * 24 * 20)
    for (const others of made.slice(1)) expect(others).toEqual(made[0])
  })

  test("start at any step with what an uninterrupted run would have seen there, without loading what came before", async () => {
    await using loader = new Loader(data, options)
    const all = await take(loader.batches(), 8)
    for (const startStep of [1, 3, 5]) {
      expect(await take(loader.batches({ startStep }), 3)).toEqual(all.slice(startStep, startStep + 3))
    }
    const far = await take(loader.batches({ startStep: 3_000_000 }), 1)
    expect(far[0]).toMatchObject({ step: 3_000_000, epoch: 1_000_000 })
  })

  test("hold each sample at most once an epoch, in an order of its own; the incomplete batch is dropped", async () => {
    await using loader = new Loader(data, options)
    expect(loader.stepsPerEpoch).toBe(3)
    const epochs = [0, 1, 2, 3].map(() => [] as string[])
    for (const batch of await take(loader.batches(), 12)) epochs[batch.epoch]!.push(...batch.ids)
    for (const ids of epochs) expect(new Set(ids).size).toBe(9)
    expect(new Set(epochs.map((ids) => ids.join())).size).toBe(4)
    expect(new Set(epochs.flat()).size).toBe(10) // who was left out changes
  })

  test("change a sample by seed and epoch alone: the batch size and its place in the batch do not matter", async () => {
    const crops = async (batchSize: number) => {
      await using loader = new Loader(data, { ...options, batchSize })
      const batches = await take(loader.batches({ startStep: 10 / batchSize }), 10 / batchSize) // the whole of epoch 1
      return batches.flatMap(({ ids, images, shape }) =>
        ids.map((id, n) => [id, images.subarray((n * images.length) / shape[0], ((n + 1) * images.length) / shape[0])]),
      )
    }
    expect(await crops(5)).toEqual(await crops(2))
  })

  test("of fewer samples than a batch: one smaller batch an epoch", async () => {
    await using loader = new Loader(openVocFolder(root, { split: "two" }), options)
    expect(loader.stepsPerEpoch).toBe(1)
    const [first, second] = await take(loader.batches(), 2)
    expect([first?.shape[0], second?.shape[0], second?.epoch]).toEqual([2, 2, 1])
  })

  test.each([0, 2])(
    "are the same in arrays that are written again, and there are few of these (%i workers)",
    async (workers) => {
      const fresh = async () => {
        await using loader = new Loader(data, { ...options, workers })
        return await take(loader.batches(), 12)
      }
      await using loader = new Loader(data, { ...options, workers, prefetch: 2 })
      const kept = await fresh()
      const memory = new Set<unknown>()
      for await (const batch of loader.batches({ reuse: true })) {
        expect(batch).toEqual(kept[batch.step])
        if (workers === 0) memory.add(batch.images.buffer) // through a thread the same memory becomes another object
        if (batch.step === 11) break
      }
      if (workers === 0) expect(memory.size).toBe(1)
    },
  )
  test("an incomplete batch in a pass does not take arrays that are too large", async () => {
    await using loader = new Loader(data, { batchSize: 4, transform: whole, workers: 0 })
    const shapes: number[][] = []
    for await (const { images, shape } of loader.pass({ reuse: true })) shapes.push([images.length, shape[0]])
    expect(shapes).toEqual([
      [4 * 3600, 4],
      [4 * 3600, 4],
      [2 * 3600, 2],
    ])
  })

  test("of a pass have the sizes that are asked for, which must be those of all samples together", async () => {
    await using loader = new Loader(data, { ...options, passSizes: [4, 1, 5] })
    const batches = await take(loader.pass(), 99)
    expect(batches.map(({ ids }) => ids)).toEqual([names.slice(0, 4), names.slice(4, 5), names.slice(5, 10)])
    expect(() => new Loader(data, { ...options, passSizes: [4, 5] })).toThrow("got 9 samples in all; expected the 10")
  })

  test("differ with the seed, in order and in crops", async () => {
    await using one = new Loader(data, options)
    await using two = new Loader(data, { ...options, seed: 6 })
    const [a, b] = [await take(one.batches(), 1), await take(two.batches(), 1)]
    expect(a[0]!.ids).not.toEqual(b[0]!.ids)
    expect(a[0]!.images).not.toEqual(b[0]!.images)
  })
})

describe("batches of mattes", () => {
  test("carry alpha, through worker threads too; with labels there is none", async () => {
    const matte = join(root, "matte")
    cpSync(join(root, "JPEGImages"), join(matte, "JPEGImages"), { recursive: true })
    mkdirSync(join(matte, "SegmentationClass"))
    mkdirSync(join(matte, "ImageSets/Segmentation"), { recursive: true })
    writeFileSync(join(matte, "label_map.txt"), "background\nperson\n")
    writeFileSync(join(matte, "ImageSets/Segmentation/train.txt"), names.slice(0, 4).join("\n"))
    for (const name of names.slice(0, 4)) {
      const values = Uint8Array.from({ length: 40 * 30 }, (_, i) => (i % 40) * 6)
      const image = sharp(values, { raw: { width: 40, height: 30, channels: 1 } }).toColourspace("b-w")
      writeFileSync(join(matte, `SegmentationClass/${name}.png`), await image.png().toBuffer())
    }
    const mattes = openVocFolder(matte, { split: "train", groundTruth: "alpha" })
    const made: Batch[][] = []
    for (const more of [{ workers: 0 }, { workers: 0, cacheBytes: 1e6 }, { workers: 2 }]) {
      await using loader = new Loader(mattes, { ...options, ...more })
      made.push(await take(loader.batches(), 3))
    }
    for (const others of made.slice(1)) expect(others).toEqual(made[0])
    const { alpha, masks, shape } = made[0]![0]!
    expect(alpha).toHaveLength(3 * 24 * 20)
    expect(shape).toEqual([3, 24, 20])
    let between = 0
    for (const [i, label] of masks.entries()) {
      if (label === 255) expect(alpha![i]).toBe(255)
      else if (Math.abs(alpha![i]! - 0.5) > 6 / 255) expect(label).toBe(Number(alpha![i]! > 0.5))
      if (alpha![i]! > 0 && alpha![i]! < 1) between++
    }
    expect(between).toBeGreaterThan(100)
    await using plain = new Loader(data, options)
    expect((await take(plain.batches(), 1))[0]).not.toHaveProperty("alpha")
  })
})

describe("an evaluation pass", () => {
  test.each([0, 2])("gives every sample once, in order, the last batch smaller (%i workers)", async (workers) => {
    await using loader = new Loader(data, { batchSize: 4, transform: whole, workers })
    for (const _ of [1, 2]) {
      const batches = await take(loader.pass(), Number.POSITIVE_INFINITY)
      expect(batches.flatMap(({ ids }) => ids)).toEqual(data.ids)
      expect(batches.map(({ shape }) => shape)).toEqual([
        [4, 30, 40],
        [4, 30, 40],
        [2, 30, 40],
      ])
      expect(batches.map(({ step }) => step)).toEqual([0, 1, 2])
    }
  })

  test("of unequal sizes works one by one, and says so otherwise", async () => {
    const odd = openVocFolder(root, { split: "odd" })
    await using single = new Loader(odd, { batchSize: 1, transform: whole, workers: 0 })
    expect((await take(single.pass(), 3)).map(({ shape }) => shape[2])).toEqual([40, 40, 30])
    await using loader = new Loader(odd, { batchSize: 3, transform: whole, workers: 0 })
    await expect(take(loader.pass(), 1)).rejects.toThrow(
      'Samples of one batch have different sizes: "p08" is 40x30 and "p10" is 30x40. Use batch size 1, or a transform',
    )
  })
})

describe("the share of one of several processes", () => {
  const shares = (size: number) => Array.from({ length: size }, (_, rank) => ({ rank, size }))

  test("slices of a training batch together are the batch, image by image and in the same augmentation", async () => {
    const batchSize = 6 // of 10 images: the last 4 are left out of an epoch
    await using alone = new Loader(data, { ...options, batchSize })
    const expected = await take(alone.batches({ startStep: 1 }), 4)
    for (const size of [2, 3]) {
      const parts: Batch[][] = []
      for (const share of shares(size)) {
        await using loader = new Loader(data, { ...options, batchSize, share, workers: share.rank })
        expect(loader.stepsPerEpoch).toBe(alone.stepsPerEpoch)
        parts.push(await take(loader.batches({ startStep: 1 }), 4))
      }
      expect(expected.map((_, k) => joinBatches(parts.map((batches) => batches[k]!)))).toEqual(expected)
    }
  })

  test("a pass covers each image once over all of them", async () => {
    const passSizes = [4, 1, 3, 2]
    await using alone = new Loader(data, { ...options, transform: whole, passSizes })
    const expected = await Array.fromAsync(alone.pass())
    const parts: Batch[][] = []
    for (const share of shares(3)) {
      await using loader = new Loader(data, { ...options, transform: whole, passSizes, share })
      expect(loader.batchesInPass).toBe(4)
      parts.push(await Array.fromAsync(loader.pass()))
    }
    expect(parts.map(({ length }) => length)).toEqual([2, 1, 1])
    expect(parts.flat().sort((a, b) => a.step - b.step)).toEqual(expected)
  })

  test("an epoch covers each image at most once, and all where batches fill it", async () => {
    const seen: string[] = []
    for (const share of shares(5)) {
      await using loader = new Loader(data, { ...options, batchSize: 5, share })
      seen.push(...(await take(loader.batches(), loader.stepsPerEpoch)).flatMap(({ ids }) => ids))
    }
    expect(seen.sort()).toEqual([...data.ids].sort())
  })

  test("a batch that cannot be shared out evenly is refused, also where all images are fewer than a batch", () => {
    const share = { rank: 0, size: 4 }
    expect(() => new Loader(data, { ...options, batchSize: 6, share })).toThrow(
      "A batch of 6 images cannot be shared out evenly among 4 processes. Use a batch size that is a multiple of 4.",
    )
    expect(() => new Loader(data, { ...options, batchSize: 12, share })).toThrow(
      /^A batch of 10 images .* multiple of 4, of at most the 10 images there are\.$/,
    )
  })
})

describe("problems", () => {
  test.each([0, 1])(
    "a sample that cannot be read ends the iteration at its own step, as a UserError (%i workers)",
    async (workers) => {
      await using loader = new Loader(openVocFolder(root, { split: "bad" }), {
        batchSize: 2,
        transform: whole,
        workers,
      })
      const seen: number[] = []
      const read = async () => {
        for await (const batch of loader.pass()) seen.push(batch.step)
      }
      const error = await read().catch((e: unknown) => e)
      expect(error).toBeInstanceOf(UserError)
      expect((error as Error).message).toMatch(
        /^Cannot read image .*bad\.jpg: it is cut off \(premature end of JPEG image\)/,
      )
      expect(seen).toEqual([0, 1, 2, 3, 4])
      expect((await take(loader.pass(), 2)).map(({ step }) => step)).toEqual([0, 1]) // and the loader still works
    },
  )

  test.each<[string, object, string]>([
    ["batch size", { batchSize: 0 }, "batchSize: got 0; expected a whole number, at least 1."],
    ["workers", { workers: -1 }, "workers: got -1; expected a whole number, at least 0."],
    ["prefetch", { prefetch: 0.5 }, "prefetch: got 0.5"],
    ["seed", { seed: 0.5 }, "seed: got 0.5; expected a whole number."],
    ["transform", { transform: { name: "resize", size: [0, 0] } }, "size: got 0 x 0"],
  ])("wrong options: %s", (_, wrong, message) => {
    expect(() => new Loader(data, { ...options, ...wrong })).toThrow(UserError)
    expect(() => new Loader(data, { ...options, ...wrong })).toThrow(message)
  })
  test("a wrong first step", () => {
    const loader = new Loader(data, options)
    expect(() => loader.batches({ startStep: -1 })).toThrow("startStep: got -1; expected a whole number, at least 0.")
  })
})

describe("prefetching", () => {
  test("goes on while the main thread is busy, and stops at its bound", async () => {
    const copy = join(root, "copy")
    for (const name of ["JPEGImages", "SegmentationClass", "ImageSets", "label_map.txt"]) {
      cpSync(join(root, name), join(copy, name), { recursive: true })
    }
    const files = openVocFolder(copy, { split: "train" })
    await using loader = new Loader(files, { batchSize: 1, transform: whole, workers: 1, prefetch: 2 })
    const batches = loader.pass()
    await batches.next()
    const busy = performance.now() + 500 // a training step: synchronous, no turn of the event loop
    while (performance.now() < busy);
    rmSync(join(copy, "JPEGImages"), { recursive: true }) // what can still be had now was made ahead
    expect((await batches.next()).value).toMatchObject({ step: 1 })
    expect((await batches.next()).value).toMatchObject({ step: 2 })
    await expect(batches.next()).rejects.toThrow("p03.jpg: it does not exist")
  })

  test("counts the seconds that were spent waiting", async () => {
    await using loader = new Loader(data, options)
    const start = performance.now()
    await take(loader.batches(), 5)
    expect(loader.waitSeconds).toBeGreaterThan(0)
    expect(loader.waitSeconds).toBeLessThanOrEqual((performance.now() - start) / 1000)
  })
})

describe("closing", () => {
  test("in the middle of decoding leaves no worker, twenty times over", async () => {
    const before = threads()
    for (let i = 0; i < 20; i++) {
      await using loader = new Loader(data, { ...options, workers: 2, prefetch: 4 })
      if (i % 2 === 0) await take(loader.batches(), 1)
      else
        void loader
          .batches()
          .next()
          .catch(() => {})
    }
    expect(threads()).toBe(before)
  })

  test("ends an iteration that waits, and refuses a new one", async () => {
    const loader = new Loader(data, { ...options, workers: 1 })
    const waiting = loader.batches().next()
    const closing = loader[Symbol.asyncDispose]()
    await expect(waiting).rejects.toThrow("closed while a batch was awaited")
    await closing
    await expect(loader.pass().next()).rejects.toThrow("Loader: it is closed")
    await loader[Symbol.asyncDispose]() // again, without harm
  })
})

test("a loop that never waits for data still lets timers, and so signals, have their turn", async () => {
  await using loader = new Loader(data, { ...options, workers: 1, prefetch: 4 })
  let turn = false
  let steps = 0
  for await (const _ of loader.batches()) {
    if (++steps === 5) setTimeout(() => (turn = true), 0) // by now batches wait, not the loop
    if (turn || steps === 100) break
    for (const end = performance.now() + 15; performance.now() < end; ); // a training step
  }
  expect(steps).toBeLessThan(10)
})
