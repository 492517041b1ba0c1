// A small good data set, copied for every test, which then breaks one thing. Each test expects that problem and no other, so that a
// false alarm fails too.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import sharp, { type Sharp } from "sharp"
import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { vocColor } from "../data/label-map.ts"
import { writeIndexedPng } from "../data/png.ts"
import { randomFor } from "../data/random.ts"
import { UserError } from "../errors.ts"
import { explore, isSerious, toJson } from "./explore.ts"
import { explorePage } from "./page.ts"
import { problemNames } from "./problem-kinds.ts"

const scratch = mkdtempSync(join(tmpdir(), "explore-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const [width, height] = [96, 64]
const size = { width, height }
const palette = Array.from({ length: 256 }, (_, i) => vocColor(i))

/** A mask that differs with `k`: a disc of cat, a box of dog, and void around the disc. */
const labelsOf = (k: number) =>
  Uint8Array.from({ length: width * height }, (_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)]
    const distance = Math.hypot(x - 24 - 3 * k, y - 32)
    if (distance < 14 + k) return 1
    if (distance < 16 + k) return 255
    return x > 70 && y > 20 + k && y < 50 ? 2 : 0
  })

/** A picture that is like no other: a sum of waves of random directions, the shorter the weaker, as in photographs. */
function pixelsOf(k: number): Uint8Array {
  const random = randomFor(5, k)
  const waves = Array.from({ length: 40 }, (_, n) => {
    const length = 60 / (1 + n / 4) // pixels
    const angle = random.uniform(0, Math.PI)
    return { x: Math.cos(angle) / length, y: Math.sin(angle) / length, phase: random.uniform(0, 6), weight: length }
  })
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const [x, y, c] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3]
    const heights = waves.map(
      (wave) => wave.weight * Math.sin(2 * Math.PI * (x * wave.x + y * wave.y) + wave.phase + c / 3),
    )
    return Math.max(0, Math.min(255, 128 + heights.reduce((sum, height) => sum + height) / 3))
  })
}
const pictureOf = (k: number) => sharp(pixelsOf(k), { raw: { ...size, channels: 3 } })
const flatPicture = (level: number) =>
  sharp({ create: { ...size, channels: 3, background: { r: level, g: level, b: level } } })

let root: string
let number = 0
const image = (id: string, extension = "jpg") => join(root, "JPEGImages", `${id}.${extension}`)
const mask = (id: string) => join(root, "SegmentationClass", `${id}.png`)
const list = (split: string, ...ids: string[]) =>
  writeFileSync(join(root, "ImageSets", "Segmentation", `${split}.txt`), ids.map((id) => `${id}\n`).join(""))
const writeMask = (id: string, labels: Uint8Array) =>
  writeFileSync(mask(id), writeIndexedPng(labels, width, height, palette))
const writeImage = async (id: string, picture: Sharp) => writeFileSync(image(id), await picture.jpeg().toBuffer())

const good = join(scratch, "good")
beforeEach(async () => {
  if (!existsSync(good)) {
    root = good
    for (const folder of ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"]) {
      mkdirSync(join(root, folder), { recursive: true })
    }
    writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "cat", "dog"]))
    list("train", "a", "b", "c")
    list("val", "d", "e")
    for (const [k, id] of ["a", "b", "c", "d", "e"].entries()) {
      await writeImage(id, pictureOf(k))
      writeMask(id, labelsOf(k))
    }
  }
  root = join(scratch, `set${number++}`)
  cpSync(good, root, { recursive: true })
})

/** All findings as [problem, where joined, detail], the scratch folder in them as ROOT. */
async function findings(options: Parameters<typeof explore>[1] = {}): Promise<string[][]> {
  const exploration = await explore(root, { workers: 0, ...options })
  await explorePage(exploration) // draws whatever was found
  return exploration.findings.map(({ problem, where, detail }) =>
    [problem, where.join(" + "), ...(detail === undefined ? [] : [detail])].map((text) =>
      text.replaceAll(root, "ROOT").replaceAll("\\", "/"),
    ),
  )
}

test("a good data set has no problems, and is counted", async () => {
  const exploration = await explore(root, { workers: 0 })
  expect(exploration.findings).toEqual([])
  expect(isSerious(exploration)).toBe(false)
  const { statistics, perSplit } = exploration
  const counts = (k: number) => [0, 1, 2, 3, 4].map((i) => labelsOf(i).filter((label) => label === k).length)
  const total = (values: number[]) => values.reduce((a, b) => a + b)
  for (const k of [0, 1, 2]) expect(statistics.classes[k]!.pixels).toBe(total(counts(k)))
  expect(statistics.void).toBe(total(counts(255)))
  expect(perSplit.get("val")!.classes[1]).toMatchObject({ pixels: total(counts(1).slice(3)), images: 2 })
  expect(statistics.classes[1]!.objects).toEqual(counts(1).toSorted((a, b) => a - b))
  expect(statistics.classes[0]!.objects).toEqual([])
  // inverse: N / (K n_k), of train
  const train = [0, 1, 2].map((k) => total(counts(k).slice(0, 3)))
  expect(exploration.weights!.inverse).toEqual(train.map((count) => total(train) / (3 * count)))
})

test("workers tell the same as the main thread, and progress ends at the whole", async () => {
  const progress: [number, number][] = []
  const there = await explore(root, { workers: 2, onProgress: (...at) => progress.push(at) })
  const here = await explore(root, { workers: 0 })
  expect(there).toEqual(here)
  expect(progress.at(-1)).toEqual([5, 5])
})

test("an aborted pass ends with the signal's reason", async () => {
  const controller = new AbortController()
  controller.abort(new Error("enough"))
  await expect(explore(root, { workers: 0, signal: controller.signal })).rejects.toThrow("enough")
  const later = new AbortController()
  const onProgress = () => later.abort(new Error("later"))
  const many = Array.from({ length: 40 }, (_, k) => `x${k}`)
  list("train", "a", ...many)
  await expect(explore(root, { workers: 1, signal: later.signal, onProgress })).rejects.toThrow("later")
})

describe("masks", () => {
  test("labels outside the map: all of them, with how many pixels, and the rest still counts", async () => {
    const labels = labelsOf(0)
    labels.fill(21, 5, 15)
    labels[700] = 9
    writeMask("a", labels)
    expect(await findings()).toEqual([
      ["unknownLabels", "SegmentationClass/a.png", "labels 9 (1 px, first at pixel (x 28, y 7)), 21 (10 px)"],
    ])
    const { statistics } = await explore(root, { workers: 0 })
    expect(statistics.unknown).toBe(11)
    expect(statistics.masks).toBe(5)
  })

  test("a grey picture of brightnesses", async () => {
    writeFileSync(mask("a"), await pictureOf(0).toColourspace("b-w").png().toBuffer())
    const found = await findings()
    expect(found).toHaveLength(1)
    expect(found[0]![0]).toBe("unknownLabels")
    expect(found[0]![2]).toMatch(/^labels \d+ \(.+\) and \d+ more$/)
  })

  const rgb = (change: (pixels: number[][]) => void = () => {}) => {
    const pixels = [...labelsOf(0)].map((label) => [...vocColor(label)])
    change(pixels)
    return sharp(Uint8Array.from(pixels.flat()), { raw: { ...size, channels: 3 } }).png()
  }
  test("RGB with the map's colours is read, and told", async () => {
    const before = await explore(root, { workers: 0 })
    writeFileSync(mask("a"), await rgb().toBuffer())
    expect(await findings()).toEqual([["rgbMasks", "SegmentationClass/a.png"]])
    const after = await explore(root, { workers: 0 })
    expect(after.statistics).toEqual(before.statistics)
    expect(isSerious(after)).toBe(false)
  })
  test("RGB with another colour", async () => {
    const buffer = await rgb((pixels) => (pixels[99] = [120, 1, 2])).toBuffer()
    writeFileSync(mask("a"), buffer)
    expect(await findings()).toEqual([
      [
        "unknownColors",
        "SegmentationClass/a.png",
        "has the colour (120, 1, 2) at pixel (x 3, y 1), which is not in the label map; the nearest is cat (128, 0, 0). Was the mask resized smoothly, or saved as JPEG in between?",
      ],
    ])
  })

  test("a palette that was renumbered", async () => {
    const swapped = [vocColor(0), vocColor(2), vocColor(1), ...palette.slice(3)]
    const few = swapped.map((color, index) => (index > 2 && index < 255 ? vocColor(0) : color)) // colours of the map alone
    writeFileSync(mask("a"), writeIndexedPng(labelsOf(0), width, height, few))
    const found = await findings()
    expect(found).toHaveLength(1)
    expect(found[0]!.slice(0, 2)).toEqual(["renumberedPalettes", "SegmentationClass/a.png"])
    expect(found[0]![2]).toMatch(
      /^index 1 is "cat" in the label map, but its palette colour \(0, 128, 0\) is that of "dog"/,
    )
  })

  test("that are damaged, no PNG, of 16 bits, or not a file", async () => {
    writeFileSync(mask("a"), readFileSync(mask("a")).subarray(0, -20))
    writeFileSync(mask("b"), await pictureOf(1).jpeg().toBuffer())
    writeFileSync(mask("c"), await pictureOf(2).greyscale().toColourspace("grey16").png().toBuffer())
    rmSync(mask("d"))
    mkdirSync(mask("d"))
    const found = await findings()
    expect(found.map((texts) => texts.slice(0, 2).join(" "))).toEqual([
      ...["a", "b", "c", "d"].map((id) => `unreadableMasks SegmentationClass/${id}.png`),
      ...["background", "cat", "dog"].map((name) => `missingClasses ${name}`),
    ])
    expect(found.slice(0, 4).map(([, , detail]) => detail!.slice(0, 24))).toEqual([
      "the PNG is cut off (its ",
      "it is a JPEG, expected a",
      "it has 16 bits per sampl",
      "it is a folder, not a fi",
    ])
  })

  test("of nothing but background, and of nothing but void", async () => {
    writeMask("a", new Uint8Array(width * height).fill(0).fill(255, 0, 50))
    writeMask("b", new Uint8Array(width * height).fill(255))
    expect(await findings()).toEqual([
      ["emptyMasks", "SegmentationClass/a.png"],
      ["voidMasks", "SegmentationClass/b.png"],
    ])
  })

  test("that are equal, of different images; plain ones may be equal by chance", async () => {
    writeMask("d", labelsOf(0))
    expect(await findings()).toEqual([
      ["sameMasks", "SegmentationClass/a.png + SegmentationClass/d.png", "train and val"],
    ])
    const halves = Uint8Array.from({ length: width * height }, (_, i) => (i < 1000 ? 1 : i < 2000 ? 2 : 0))
    for (const id of ["a", "d"]) writeMask(id, halves)
    expect(await findings()).toEqual([])
  })
})

describe("images", () => {
  test("of another size than their mask, and turned by a tag", async () => {
    await writeImage("a", pictureOf(0).resize(48, 32))
    writeFileSync(image("b"), await pictureOf(1).jpeg().withMetadata({ orientation: 3 }).toBuffer())
    writeFileSync(image("c"), await pictureOf(2).rotate(90).jpeg().withMetadata({ orientation: 6 }).toBuffer())
    expect(await findings()).toEqual([
      ["sizesDiffer", "JPEGImages/a.jpg", "image 48x32, mask 96x64"],
      ["sizesDiffer", "JPEGImages/c.jpg", "image 64x96, mask 96x64; viewers turn the image, by its EXIF orientation"],
      ["turnedImages", "JPEGImages/b.jpg", "EXIF orientation 3"],
      ["turnedImages", "JPEGImages/c.jpg", "EXIF orientation 6"],
    ])
  })

  test("of nearly one colour; fine texture, which a thumbnail does not show, is no such thing", async () => {
    await writeImage("a", flatPicture(30))
    await writeImage("d", flatPicture(200)) // and no near copy of the first
    const checks = Uint8Array.from({ length: width * height * 3 }, (_, i) =>
      (Math.floor(i / 3) + Math.floor(i / 3 / width)) % 2 === 0 ? 100 : 160,
    )
    writeFileSync(
      image("b", "png"),
      await sharp(checks, { raw: { ...size, channels: 3 } })
        .png()
        .toBuffer(),
    )
    rmSync(image("b"))
    expect(await findings()).toEqual([
      ["flatImages", "JPEGImages/a.jpg", "its colours deviate by 0.0 of 255 levels"],
      ["flatImages", "JPEGImages/d.jpg", "its colours deviate by 0.0 of 255 levels"],
    ])
  })

  test("that are cut off, or no pictures", async () => {
    writeFileSync(image("a"), readFileSync(image("a")).subarray(0, 700))
    writeFileSync(image("d"), "text")
    const found = await findings()
    expect(found.map((texts) => texts.slice(0, 2))).toEqual([
      ["unreadableImages", "JPEGImages/a.jpg"],
      ["unreadableImages", "JPEGImages/d.jpg"],
    ])
    expect(found[0]![2]).toContain("premature end of JPEG")
  })

  test("that are missing, with masks that are missing", async () => {
    rmSync(image("a"))
    rmSync(mask("e"))
    renameSync(mask("d"), mask("d").replace(".png", ".jpg"))
    expect(await findings()).toEqual([
      ["missingMasks", "SegmentationClass/d.png", "there is a d.jpg, but JPEG changes labels: export the mask as PNG"],
      ["missingMasks", "SegmentationClass/e.png"],
      ["missingImages", "JPEGImages/a.jpg"],
    ])
  })

  test("none at all: one problem, and all that the masks tell", async () => {
    rmSync(join(root, "JPEGImages"), { recursive: true })
    writeMask("d", labelsOf(1))
    expect(await findings()).toEqual([
      ["noImages", "JPEGImages"],
      ["sameMasks", "SegmentationClass/b.png + SegmentationClass/d.png", "train and val"],
    ])
    const page = await explorePage(await explore(root, { workers: 0 }))
    expect(page).toContain("told from the masks alone")
    expect(page.match(/<img /g)!.length).toBeGreaterThan(5)
    expect(page).not.toContain("<li>Images that viewers turn") // not looked for
  })
})

describe("the same image", () => {
  const copy = (from: string, to: string) => {
    cpSync(image(from), image(to))
    cpSync(mask(from), mask(to))
  }
  test("under two names: in two lists, and in one", async () => {
    copy("a", "d")
    cpSync(image("b"), image("c"))
    expect(await findings()).toEqual([
      ["copiesAcross", "JPEGImages/a.jpg + JPEGImages/d.jpg", "train and val"],
      ["copiesWithin", "JPEGImages/b.jpg + JPEGImages/c.jpg", "train and train; their masks differ"],
    ])
  })
  test.each<[string, (picture: Sharp) => Sharp]>([
    ["saved again", (picture) => picture.jpeg({ quality: 40 })],
    ["smaller", (picture) => picture.resize(72, 48)],
    ["brighter", (picture) => picture.linear(0.8, 40)],
    ["in a mirror", (picture) => picture.flop()],
    ["grey", (picture) => picture.greyscale()],
  ])("%s", async (_, change) => {
    const changed = sharp(await change(pictureOf(1)).jpeg({ quality: 60 }).toBuffer())
    await writeImage("e", changed.resize(width, height))
    expect(await findings()).toEqual([["alikeAcross", "JPEGImages/b.jpg + JPEGImages/e.jpg", "train and val"]])
  })
  test("by one id in two lists, and by an id twice in one", async () => {
    list("val", "d", "a", "d")
    expect(await findings()).toEqual([
      ["sharedIds", "a", "in train and val"],
      ["repeatedIds", "d", "in val, as number 1 and 3"],
    ])
  })
})

describe("lists and label map", () => {
  test("classes that training does not have", async () => {
    writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "cat", "dog", "cow", "owl"]))
    const labels = labelsOf(3)
    labels[0] = 3
    writeMask("d", labels)
    expect(await findings()).toEqual([
      ["missingClasses", "cow", "but it is in val"],
      ["missingClasses", "owl", "and in no other list"],
    ])
  })

  test("no label map, or a malformed one: numbers stand for names", async () => {
    rmSync(join(root, "label_map.json"))
    const found = await findings()
    expect(found).toHaveLength(1)
    expect(found[0]![0]).toBe("labelMap")
    expect(found[0]![2]).toMatch(
      /^There is no label map in ROOT; .+ The masks hold these numbers: 0, 1, 2 \(255 is void\)\.$/,
    )
    const { statistics } = await explore(root, { workers: 0 })
    expect(statistics.classes.map(({ name }) => name)).toEqual(["label 0", "label 1", "label 2"])
    writeFileSync(join(root, "label_map.json"), "[")
    expect((await findings())[0]![2]).toMatch(/^Cannot read label map ROOT\/label_map.json: /)
  })

  test("no list, an empty one, and one with a path in it", async () => {
    list("val")
    expect((await findings()).map(([problem, where, detail]) => [problem, where, detail!.slice(0, 12)])).toEqual([
      ["lists", "ImageSets/Segmentation/val.txt", "Split list R"],
    ])
    list("val", "../d")
    expect((await findings())[0]![2]).toContain('"../d" is not an id')
    rmSync(join(root, "ImageSets", "Segmentation", "val.txt"))
    expect(await findings()).toEqual([
      ["lists", "ImageSets/Segmentation/val.txt", "there is no such list; training expects it"],
    ])
    rmSync(join(root, "ImageSets"), { recursive: true })
    expect(await findings()).toEqual([
      ["lists", "ImageSets/Segmentation", "there is no list that can be read: all masks are looked at"],
    ])
    expect((await explore(root, { workers: 0 })).files.splits).toEqual(["all"])
  })

  test("lists by name: those that are asked for, refused when unknown", async () => {
    list("test", "d")
    const { files } = await explore(root, { workers: 0, splits: ["test", "train"] })
    expect([files.splits, files.entries.map(({ id }) => id)]).toEqual([
      ["test", "train"],
      ["d", "a", "b", "c"],
    ])
    await expect(explore(root, { splits: ["trian"] })).rejects.toThrow(
      /There is no split "trian".+Did you mean "train"/,
    )
    await expect(explore(join(root, "no"))).rejects.toThrow(UserError)
    rmSync(join(root, "SegmentationClass"), { recursive: true })
    await expect(explore(root)).rejects.toThrow("Cannot open the masks folder")
  })
})

test("every problem has its test in this file", () => {
  const text = readFileSync(new URL(import.meta.url), "utf8")
  expect(problemNames.filter((name) => !text.includes(`"${name}"`) && !text.includes(`${name} `))).toEqual([])
})

describe("the page", () => {
  test("stands alone, escapes names, and has a part for everything", async () => {
    writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "<b>cat", "dog & owl"]))
    const text = await explorePage(await explore(root, { workers: 0 }))
    expect(text.match(/(?:src|href)="(?!data:|#)/g)).toBeNull()
    expect(text).not.toMatch(/https?:\/\/(?!jfly)/)
    expect(text).not.toContain("<b>cat")
    expect(text).toContain("dog &amp; owl")
    const parts = [...text.matchAll(/<h2>(.+?)<\/h2>/g)].map(([, title]) => title)
    expect(parts).toEqual([
      ...["At a glance", "Suspected problems", "Samples", "How often each class occurs", "The rarest classes"],
      ...["Which classes occur together", "Sizes of objects", "Sizes of images", "Void", "Suggested class weights"],
      "How this was counted",
    ])
    expect(text).toContain("None was found.")
    expect(text).toContain("All 5 images are 96 x 64 pixels.")
    expect(text).not.toMatch(/undefined|NaN|\[object|null</)
  })

  test("is written for a data set of which nothing can be read", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) {
      writeFileSync(mask(id), "")
      writeFileSync(image(id), "")
    }
    const exploration = await explore(root, { workers: 0 })
    const text = await explorePage(exploration)
    expect(text).not.toMatch(/undefined|NaN|Infinity|\[object/)
    expect(JSON.stringify(toJson(exploration))).not.toMatch(/NaN|undefined/)
    expect(exploration.weights).toBeNull()
    expect(exploration.findings).toHaveLength(10)
  })
})

const real = "../shared/data"
describe.skipIf(!existsSync(real))(`real data${existsSync(real) ? "" : ` (skipped: ${real} is absent)`}`, () => {
  test("VOC: no false alarm of copies, and the census that training makes", async () => {
    const { findings, perSplit } = await explore(`${real}/voc2012`)
    const problems = new Set(findings.map(({ problem }) => problem))
    expect([...problems].filter((name) => /copies|alike|shared|same|unread|unknown|size/i.test(name))).toEqual([])
    expect(perSplit.get("train")!.classes[0]!.images).toBe(436)
  })
})
