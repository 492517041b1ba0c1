import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { encode as fastEncode } from "fast-png"
import sharp from "sharp"
import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { type ClassSelection, parseLabelMap, selectClasses, vocColor } from "./label-map.ts"
import { writeIndexedPng } from "./png.ts"
import { firstFew, type Numbering, openPredictionFolder, predictionReader } from "./prediction-folder.ts"

const scratch = mkdtempSync(join(tmpdir(), "predictions-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const split = { ids: ["a", "b", "c"], split: "val" }
const source = parseLabelMap(["background", "cat", "dog"], "x")
const [width, height] = [12, 8]
const labels = Uint8Array.from({ length: width * height }, (_, i) => (i % width < 6 ? 0 : i < 48 ? 1 : 2))
const truth = { file: "TRUTH/a.png", width, height, labels }
const palette = Array.from({ length: 256 }, (_, i) => vocColor(i))
const mask = (values = labels) => writeIndexedPng(values, width, height, palette)

// A folder with a correct prediction of each id, made anew for every test, which then breaks one thing.
let folder: string
let number = 0
const file = (name: string) => join(folder, name)
beforeEach(() => {
  folder = join(scratch, `set${number++}`)
  fill(folder)
})
function fill(path: string, ids = split.ids): void {
  mkdirSync(path, { recursive: true })
  for (const id of ids) writeFileSync(join(path, `${id}.png`), mask())
}
/** The message, after the folder in it became "DIR". */
async function refusal(act: () => unknown): Promise<string> {
  try {
    await act()
  } catch (error) {
    expect(error).toBeInstanceOf(UserError)
    return (error as Error).message.replaceAll(folder, "DIR").replaceAll("\\", "/")
  }
  throw new Error("expected a UserError")
}
const open = (path = folder) => openPredictionFolder(path, split)
const relative = (path: string) => path.slice(folder.length + 1).replaceAll("\\", "/")

describe("a folder of predictions", () => {
  test("has one file for each id, in their order", () => {
    const { folder: found, files, extra } = openPredictionFolder(folder, { ...split, ids: ["c", "a", "b"] })
    expect(found).toBe(folder)
    expect(files.map(relative)).toEqual(["c.png", "a.png", "b.png"])
    expect(extra).toEqual([])
  })

  test("may have more: PNG files of other ids are listed, and nothing else is", () => {
    for (const name of ["d.png", "overlay.PNG"]) writeFileSync(file(name), mask())
    for (const name of ["a.jpg", "notes.txt", ".DS_Store"]) writeFileSync(file(name), "")
    expect(open().extra).toEqual(["d.png", "overlay.PNG"])
  })

  test.each(["comp6_val_cls", "comp6_test_cls", "comp5_val_cls"])("may be VOC's results tree with %s", (name) => {
    folder = join(scratch, `tree${number++}`)
    const inner = join(folder, "results", "VOC2012", "Segmentation", name)
    fill(inner)
    writeFileSync(file("samples.png"), mask()) // of no id: the tree is meant all the same
    expect(open().folder).toBe(inner)
    expect(open(inner).files).toEqual(open().files)
  })

  test("of several sets in a tree is the one that has this split", async () => {
    folder = join(scratch, `tree${number++}`)
    const inner = (name: string) => join(folder, "results", "VOC2012", "Segmentation", name)
    fill(inner("comp6_test_cls"), ["x", "y"])
    fill(inner("comp6_val_cls"))
    fill(inner("comp6_other"), split.ids) // not a name of VOC's
    expect(open().folder).toBe(inner("comp6_val_cls"))
    fill(inner("comp6_test_cls"))
    expect(await refusal(open)).toBe(
      'There are predictions for "val" in DIR/results/VOC2012/Segmentation/comp6_test_cls and in ' +
        "DIR/results/VOC2012/Segmentation/comp6_val_cls; name the folder that is meant.",
    )
    fill(folder, ["a"])
    rmSync(inner("comp6_test_cls"), { recursive: true })
    expect(await refusal(open)).toContain('for "val" in DIR and in DIR/results')
  })
})

describe("opening refuses", () => {
  test("what is no folder", async () => {
    expect(await refusal(() => open(file("none")))).toBe(
      "Cannot open the folder of predictions DIR/none: it does not exist.",
    )
    expect(await refusal(() => open(file("a.png")))).toBe(
      "Cannot open the folder of predictions DIR/a.png: it is a file, not a folder.",
    )
  })

  test("a folder without PNG files, saying what it holds", async () => {
    folder = join(scratch, `empty${number++}`)
    mkdirSync(folder)
    expect(await refusal(open)).toBe(
      "There are no PNG files in the folder of predictions DIR: it is empty. Expected <id>.png for each of the 3 ids of " +
        '"val", there or in its results/VOC2012/Segmentation/comp6_val_cls.',
    )
    writeFileSync(file("a.jpg"), "")
    expect(await refusal(open)).toContain("it holds a.jpg. Expected")
    fill(file("masks"))
    expect(await refusal(open)).toMatch(/ Is DIR\/masks meant\?$/)
  })

  test("missing predictions: how many, the first, and the file that was expected", async () => {
    rmSync(file("b.png"))
    expect(await refusal(open)).toBe(
      'There is no prediction for 1 of the 3 ids of "val": b. Expected DIR/b.png; the folder holds a.png, for one. ' +
        "Are these the predictions of another split?",
    )
    const ids = Array.from("cdefghij")
    expect(await refusal(() => openPredictionFolder(folder, { ids, split: "test" }))).toMatch(
      /^There is no prediction for 7 of the 8 ids of "test": d, e, f, g, h and 2 more\. Expected DIR\/d\.png/,
    )
    expect(await refusal(() => openPredictionFolder(folder, { ids: ids.slice(1), split: "test" }))).toMatch(
      /^There is no prediction for any of the 7 ids of "test": d, e, /,
    )
  })

  test.each([
    ["A.png", "got A.png: names must agree in upper and lower case. Rename it."],
    ["a.PNG", "got a.PNG: names must agree in upper and lower case. Rename it."],
    ["a.jpg", "got a.jpg: JPEG changes labels. Write predictions as PNG."],
    ["a_pred.png", "got a_pred.png: the name must be the id alone. Rename it."],
    ["a.jpg.png", "got a.jpg.png: the name must be the id alone. Rename it."],
  ])("%s in the place of a.png", async (name, says) => {
    renameSync(file("a.png"), file(name))
    expect(await refusal(open)).toBe(
      `There is no prediction for 1 of the 3 ids of "val": a. Expected DIR/a.png, ${says}`,
    )
  })
})

const reader = (selection: ClassSelection = {}, numbering: Numbering = "dataset", map = source) =>
  predictionReader({ source: map, ...selectClasses(map, selection) }, numbering)
const read = (bytes: Uint8Array | string, readFile = reader(), truthLabels = labels) => {
  writeFileSync(file("a.png"), bytes)
  return readFile(file("a.png"), { ...truth, labels: truthLabels })
}

describe("a prediction", () => {
  const one = (depth: 1 | 2 | 4 | 8, values: Uint8Array) => {
    const perByte = 8 / depth
    const rows = Array.from({ length: height }, (_, y) => {
      const row = values.subarray(y * width, (y + 1) * width)
      return Array.from({ length: Math.ceil(width / perByte) }, (_, b) =>
        Array.from({ length: perByte }, (_, p) => row[b * perByte + p] ?? 0).reduce(
          (byte, v) => (byte << depth) | v,
          0,
        ),
      )
    })
    return fastEncode({ width, height, channels: 1, depth, data: Uint8Array.from(rows.flat()) })
  }
  test("is read by number, from palette and from grey PNGs of any depth", () => {
    expect(read(mask())).toEqual(labels)
    expect(read(fastEncode({ width, height, channels: 1, depth: 8, data: labels }))).toEqual(labels)
    const two = labels.map((label) => Math.min(label, 1))
    expect(read(one(1, two))).toEqual(two)
    for (const depth of [2, 4] as const) expect(read(one(depth, labels))).toEqual(labels)
  })

  test("of chosen classes has the data set's numbers, or theirs", () => {
    const classes = ["background", "dog"]
    const dogs = labels.map((label) => (label === 1 ? 0 : label)) // 0 and 2
    const asSelected = dogs.map((label) => label / 2)
    expect(read(mask(dogs), reader({ classes }))).toEqual(asSelected)
    expect(read(mask(asSelected), reader({ classes }, "selected"))).toEqual(asSelected)
    expect(read(mask(), reader({ classes, others: "background" }))).toEqual(asSelected)
  })

  test("may be anything that is known where the truth is void: there nothing counts", () => {
    const isVoid = labels.map((label, i) => (i < 48 && label === 1 ? 255 : label))
    expect(read(mask(isVoid), reader(), isVoid)).toEqual(isVoid)
    expect(read(mask(), reader({ classes: ["background", "dog"] }), isVoid)).toEqual(
      labels.map((label) => [0, 255, 1][label]!), // cat is not scored
    )
  })

  test("of a data set whose numbers have gaps has these numbers", () => {
    const map = parseLabelMap({ background: 0, road: 7, sky: 9 }, "x")
    const numbers = labels.map((label) => [0, 7, 9][label]!)
    expect(read(mask(numbers), reader({}, "dataset", map))).toEqual(labels)
  })
})

describe("reading refuses, naming file, expected and got", () => {
  const problem = (bytes: Uint8Array | string, readFile = reader()) => refusal(() => read(bytes, readFile))
  const rgb = () => sharp(new Uint8Array(width * height * 3), { raw: { width, height, channels: 3 } })

  test("a prediction of another size than its truth", async () => {
    expect(await problem(writeIndexedPng(labels.subarray(0, 24), 6, 4, palette))).toBe(
      "Prediction DIR/a.png is 6x4; expected 12x8, the size of its truth TRUTH/a.png. Predictions must have the size of the " +
        "picture: scale logits or labels back before writing them.",
    )
    expect(await problem(writeIndexedPng(labels, height, width, palette))).toMatch(
      /is 8x12; expected 12x8, .*Width and height are exchanged/,
    )
  })

  test("modes that are not one label a pixel", async () => {
    const says = (form: string) =>
      `Prediction DIR/a.png is ${form}; expected a palette or grey PNG whose numbers are the classes. Write the labels, not their colours.`
    const data = (channels: number) => new Uint8Array(width * height * channels)
    expect(await problem(fastEncode({ width, height, channels: 3, depth: 8, data: data(3) }))).toBe(says("RGB"))
    expect(await problem(fastEncode({ width, height, channels: 4, depth: 8, data: data(4) }))).toBe(
      says("RGB with transparency"),
    )
    expect(await problem(fastEncode({ width, height, channels: 2, depth: 8, data: data(2) }))).toBe(
      says("grey with transparency"),
    )
    const sixteen = fastEncode({ width, height, channels: 1, depth: 16, data: new Uint16Array(width * height) })
    expect(await problem(sixteen)).toBe(
      "Prediction DIR/a.png has 16 bits per pixel; expected a palette or grey PNG of at most 8. Save the labels as 8 bits.",
    )
    // what is wrong in several ways is told the first that matters
    expect(await problem(await rgb().resize(4, 4).png().toBuffer())).toContain("is RGB")
  })

  test("what is not a PNG, whatever its name says", async () => {
    expect(await problem(await rgb().jpeg().toBuffer())).toMatch(
      /^Cannot read DIR\/a\.png: it is a JPEG, expected a PNG\. JPEG changes pixel values/,
    )
    expect(await problem("labels")).toMatch(/^Cannot read DIR\/a\.png: it has only 6 bytes/)
    expect(await problem("labels, a file of text")).toBe("Cannot read DIR/a.png: it is not a PNG file.")
    expect(await problem("")).toBe("Cannot read DIR/a.png: it is empty.")
  })

  test("a PNG that is cut off anywhere, or damaged", async () => {
    const png = mask()
    for (let length = 1; length < png.length; length += 13) {
      expect(await problem(png.subarray(0, length))).toMatch(/^Cannot read DIR\/a\.png: .*cut off/)
    }
    const damaged = Buffer.from(png)
    damaged[damaged.length - 20]! ^= 8
    expect(await problem(damaged)).toMatch(/^Cannot read DIR\/a\.png: the PNG is damaged \(the checksum/)
  })

  test("what cannot be opened", async () => {
    rmSync(file("b.png"))
    expect(await refusal(() => reader()(file("b.png"), truth))).toBe(
      "Cannot read prediction DIR/b.png: it does not exist.",
    )
    mkdirSync(file("b.png"))
    expect(await refusal(() => reader()(file("b.png"), truth))).toBe(
      "Cannot read prediction DIR/b.png: it is a folder, not a file.",
    )
  })

  test("a label outside the classes: value, pixel, and what was expected", async () => {
    const bad = labels.with(3 * width + 7, 21)
    expect(await problem(mask(bad))).toBe(
      "Prediction DIR/a.png has the label 21 at pixel (x 7, y 3); expected 0..2. Was it made for other classes?",
    )
    expect(await problem(fastEncode({ width, height, channels: 1, depth: 8, data: labels.map((v) => v * 90) }))).toBe(
      "Prediction DIR/a.png has the label 90 at pixel (x 6, y 0); expected 0..2. It is a grey PNG: was a coloured mask turned to grey?",
    )
    expect(await problem(mask(labels.with(0, 254)))).toContain("has the label 254 at pixel (x 0, y 0)")
  })

  test("void where the truth is not", async () => {
    expect(await problem(mask(labels.with(14, 255).with(95, 255)))).toBe(
      'Prediction DIR/a.png has the label 255 at pixel (x 2, y 1), which is void, where the truth is "background"; expected 0..2. ' +
        "Void is no prediction: choose a class for every pixel.",
    )
    const binary = labels.map((label) => (label > 0 ? 255 : 0))
    expect(await problem(fastEncode({ width, height, channels: 1, depth: 8, data: binary }))).toMatch(
      /which is void, where the truth is "cat"; expected 0\.\.2\. It is black and white: write the numbers of the classes, 0 and 1, instead\.$/,
    )
    const map = parseLabelMap({ classes: ["background", "cat", "dog"], ignore: { index: 11, name: "unlabelled" } }, "x")
    for (const number of [11, 255]) {
      expect(await problem(mask(labels.with(0, number)), reader({}, "dataset", map))).toContain(
        `label ${number} at pixel (x 0, y 0), which is void`,
      )
    }
  })

  test("a class that is not scored where the truth is one that is, and numbers of the other numbering", async () => {
    const classes = ["background", "dog"]
    expect(
      await refusal(() =>
        read(
          mask(),
          reader({ classes }),
          labels.map((label) => label >> 1),
        ),
      ),
    ).toBe(
      'Prediction DIR/a.png has the label 1 at pixel (x 6, y 0), "cat", which is not among the classes that are scored (0 or 2), ' +
        'where the truth is "background". Count other classes as background (others: background), or, where predictions number ' +
        "the chosen classes 0..1, say so (numbering: selected).",
    )
    expect(await problem(mask(), reader({ classes }, "selected"))).toBe(
      "Prediction DIR/a.png has the label 2 at pixel (x 6, y 4); expected 0..1. " +
        'It is "dog" in the data set: where predictions have its numbers, say so (numbering: dataset).',
    )
  })

  test("a palette that was renumbered", async () => {
    const optimised = writeIndexedPng(
      labels.map((v) => Math.min(v, 1)),
      width,
      height,
      [vocColor(0), vocColor(2)],
    )
    expect(await problem(optimised)).toBe(
      'Prediction DIR/a.png: number 1 is "cat", but its palette colour (0, 128, 0) is that of "dog" (2). ' +
        "Was the palette renumbered by an editor or an optimiser? Write the numbers of the classes.",
    )
    // not where writers fill it up with black, Pillow for one
    const filled = Array.from({ length: 256 }, (_, i) => vocColor(i < 2 ? i : 0))
    expect(read(writeIndexedPng(labels, width, height, filled))).toEqual(labels)
  })
})

test("firstFew names at most five", () => {
  expect(firstFew(["a"])).toBe("a")
  expect(firstFew(Array.from("abcde"))).toBe("a, b, c, d, e")
  expect(firstFew(Array.from("abcdef"))).toBe("a, b, c, d, e and 1 more")
})

test("255 is a class where the label map says so, as in masks of 0 and 255", () => {
  const map = parseLabelMap(
    {
      classes: [
        { index: 0, name: "background" },
        { index: 255, name: "road" },
      ],
      ignore: { index: 254, name: "void" },
    },
    "x",
  )
  const masks = { source: map, ...selectClasses(map) }
  const values = labels.map((label) => (label === 0 ? 0 : 255))
  const road = labels.map((label) => (label === 0 ? 0 : 1))
  writeFileSync(file("a.png"), writeIndexedPng(values, width, height, palette))
  expect(predictionReader(masks, "dataset")(file("a.png"), { ...truth, labels: road })).toEqual(road)
  writeFileSync(
    file("b.png"),
    writeIndexedPng(
      values.map((value) => value || 254),
      width,
      height,
      palette,
    ),
  )
  expect(() => predictionReader(masks, "dataset")(file("b.png"), { ...truth, labels: road })).toThrow(
    /254 .*which is void/,
  )
})
