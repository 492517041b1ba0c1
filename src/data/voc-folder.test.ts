import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import sharp from "sharp"
import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { censusLabels } from "./census.ts"
import { readImage } from "./image.ts"
import { parseLabelMap, vocColor } from "./label-map.ts"
import { type Rgb, writeIndexedPng } from "./png.ts"
import { openVocFolder } from "./voc-folder.ts"

const scratch = mkdtempSync(join(tmpdir(), "voc-folder-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const palette = Array.from({ length: 256 }, (_, i) => vocColor(i))
const [width, height] = [12, 8]
const labels = Uint8Array.from({ length: width * height }, (_, i) => (i % width < 6 ? 0 : i < 48 ? 1 : 2))
labels[5] = 255
const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 5) & 255)
const picture = () => sharp(rgb, { raw: { width, height, channels: 3 } })

// A small correct data set, copied for every test, which then breaks one thing.
let root: string
let number = 0
const image = (id: string, extension = ".png") => join(root, "JPEGImages", id + extension)
const mask = (id: string) => join(root, "SegmentationClass", `${id}.png`)
const list = (split: string) => join(root, "ImageSets", "Segmentation", `${split}.txt`)
beforeEach(async () => {
  root = join(scratch, `set${number++}`)
  for (const folder of ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"]) {
    mkdirSync(join(root, folder), { recursive: true })
  }
  writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "cat", "dog"]))
  writeFileSync(list("train"), "\uFEFFa\r\nb\r\n\r\n")
  writeFileSync(list("val"), "b\n")
  for (const id of ["a", "b"]) {
    writeFileSync(image(id), await picture().png().toBuffer())
    writeFileSync(mask(id), writeIndexedPng(labels, width, height, palette))
  }
})
const open = (split = "train") => openVocFolder(root, { split })
/** The message, after the scratch folder in it became "ROOT". */
async function refusal(act: () => unknown): Promise<string> {
  try {
    await act()
  } catch (error) {
    expect(error).toBeInstanceOf(UserError)
    return (error as Error).message.replaceAll(root, "ROOT").replaceAll("\\", "/")
  }
  throw new Error("expected a UserError")
}

describe("a correct data set", () => {
  test("gives image, mask and classes", async () => {
    const data = open()
    expect(data.ids).toEqual(["a", "b"])
    expect(data.labelMap.classes.map(({ name }) => name)).toEqual(["background", "cat", "dog"])
    const sample = await data.readSample(1)
    expect(sample).toMatchObject({ id: "b", width, height })
    expect(new Uint8Array(sample.image)).toEqual(rgb)
    expect(sample.mask).toEqual(labels)
  })
  test("may select and merge classes, and be given another label map", async () => {
    const some = openVocFolder(root, { split: "train", classes: ["background", "dog"], others: "background" })
    expect((await some.readSample(0)).mask).toEqual(labels.map((v) => (v === 1 ? 0 : v === 2 ? 1 : v)))
    const other = openVocFolder(root, { split: "train", labelMap: parseLabelMap(["a", "b", "c"], "x") })
    expect(other.labelMap.classes[2]?.name).toBe("c")
  })
  test("finds .jpg before .png, and extensions in capitals", async () => {
    writeFileSync(image("a", ".JPG"), await picture().jpeg().toBuffer())
    expect(open().files.images.map((file) => file.slice(root.length + 1).replace("\\", "/"))).toEqual([
      "JPEGImages/a.JPG",
      "JPEGImages/b.png",
    ])
  })
  test.each(["label_map.yaml", "label_map.yml", "label_map.txt"])("reads %s", (name) => {
    rmSync(join(root, "label_map.json"))
    writeFileSync(join(root, name), name.endsWith("txt") ? "background\ncat\ndog\n" : "[background, cat, dog]\n")
    expect(open().labelMap.classes[2]).toEqual({ index: 2, name: "dog", color: [0, 128, 0] })
  })
})

describe("alpha mattes", () => {
  const grey = (type: "b-w" | "grey16", values: ArrayLike<number>) =>
    sharp(type === "grey16" ? Uint16Array.from(values) : Uint8Array.from(values), {
      raw: { width, height, channels: 1 },
    })
      .toColourspace(type)
      .png()
      .toBuffer()
  const openAlpha = () => openVocFolder(root, { split: "train", groundTruth: "alpha" })
  beforeEach(async () => {
    writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "person"]))
    writeFileSync(
      mask("a"),
      await grey(
        "b-w",
        Array.from({ length: 96 }, (_, i) => i * 2),
      ),
    )
    writeFileSync(
      mask("b"),
      await grey(
        "grey16",
        Array.from({ length: 96 }, (_, i) => i * 600),
      ),
    )
  })

  test("of 8 and of 16 bits are the share of the foreground, and label 1 from a half on", async () => {
    const data = openAlpha()
    for (const [index, of] of [
      [0, (i: number) => (i * 2) / 255],
      [1, (i: number) => (i * 600) / 65535],
    ] as const) {
      const sample = await data.readSample(index)
      const expected = Float32Array.from({ length: 96 }, (_, i) => of(i))
      expect(sample.alpha).toEqual(expected)
      expect([...sample.mask]).toEqual(Array.from(expected, (alpha) => Number(alpha >= 0.5)))
      expect(sample.mask.includes(1)).toBe(true)
    }
    const { pixels, ignored } = await censusLabels(data)
    expect([pixels[0]! + pixels[1]!, ignored]).toEqual([2 * 96, 0])
  })
  test("are not looked for where the masks are labels", async () => {
    writeFileSync(
      mask("a"),
      writeIndexedPng(
        labels.map((label) => Math.min(label, 1)),
        width,
        height,
        palette,
      ),
    )
    expect(await open().readSample(0)).not.toHaveProperty("alpha")
  })
  test("need two classes, all of them, and grey files", async () => {
    expect(
      await refusal(() => openVocFolder(root, { split: "train", groundTruth: "alpha", classes: ["person"] })),
    ).toBe("classes: alpha mattes have no classes to choose from; leave that out.")
    writeFileSync(mask("a"), writeIndexedPng(labels, width, height, palette))
    expect(await refusal(() => openAlpha().readSample(0))).toBe(
      "Matte ROOT/SegmentationClass/a.png is a palette PNG; expected a grey PNG of 8 or 16 bits, where white is " +
        "foreground. Save it as grey.",
    )
    writeFileSync(mask("a"), await picture().png().toBuffer())
    expect(await refusal(() => openAlpha().readSample(0))).toContain("a.png is RGB; expected a grey PNG")
    writeFileSync(join(root, "label_map.json"), JSON.stringify(["background", "cat", "dog"]))
    expect(await refusal(openAlpha)).toBe(
      "Alpha mattes tell two classes apart, and the label map has 3 (background, cat, dog). Expected background and " +
        "foreground, in this order; write these two names into label_map.txt.",
    )
  })
})

describe("opening refuses", () => {
  test("a folder that is missing, is a file, or is something else", async () => {
    expect(await refusal(() => openVocFolder(join(root, "no"), { split: "train" }))).toMatch(
      /^Cannot open the data set folder ROOT\/no: it does not exist\. Expected JPEGImages\//,
    )
    expect(await refusal(() => openVocFolder(list("val"), { split: "train" }))).toContain("it is a file, not a folder")
    expect(await refusal(() => openVocFolder(join(root, "JPEGImages"), { split: "train" }))).toMatch(
      /split lists folder ROOT\/JPEGImages\/ImageSets\/Segmentation: it does not exist/,
    )
    rmSync(join(root, "JPEGImages"), { recursive: true })
    expect(await refusal(open)).toContain("Cannot open the images folder ROOT/JPEGImages: it does not exist")
  })
  test("an unknown split, with those that exist", async () => {
    expect(await refusal(() => open("trian"))).toBe(
      'There is no split "trian" in ROOT/ImageSets/Segmentation; expected one of train, val. Did you mean "train"?',
    )
    expect(await refusal(() => open("../Segmentation/train"))).toContain('There is no split "../Segmentation/train"')
  })
  test("an empty split", async () => {
    writeFileSync(list("train"), "\n  \r\n")
    expect(await refusal(open)).toMatch(/^Split list ROOT\/.*train\.txt is empty; expected one id a line/)
  })
  test.each(["../a", "x/a", "..", "x\\a", "/etc/passwd"])("the id %s, which leaves the folder", async (id) => {
    writeFileSync(list("train"), `a\n${id}\n`)
    expect(await refusal(open)).toMatch(/train\.txt, line 2: ".+" is not an id; expected a name without folders\.$/)
  })
  test("an id without an image, or without a mask: the first, and how many", async () => {
    writeFileSync(list("train"), "a\nc\nd\n")
    expect(await refusal(open)).toBe(
      'There is no image for "c": expected ROOT/JPEGImages/c.jpg or .jpeg or .png. 2 of 3 images are missing.',
    )
    cpSync(image("a"), image("c"))
    writeFileSync(list("train"), "a\nc\n")
    expect(await refusal(open)).toBe('There is no mask for "c": expected ROOT/SegmentationClass/c.png.')
    writeFileSync(mask("c").replace(".png", ".jpg"), "")
    expect(await refusal(open)).toContain("There is a c.jpg, but JPEG changes labels: export the masks as PNG.")
  })
  test("a data set without label map, or with an unknown class asked for", async () => {
    expect(await refusal(() => openVocFolder(root, { split: "train", classes: ["dgo"] }))).toContain(
      'Did you mean "dog"?',
    )
    rmSync(join(root, "label_map.json"))
    expect(await refusal(open)).toMatch(/^There is no label map in ROOT; expected label_map\.json, .*one a line/)
  })
})

describe("reading refuses, naming the file", () => {
  const read = () => open().readSample(0)

  test("a JPEG that is cut off anywhere, damaged, empty, or no picture", async () => {
    rmSync(image("a"))
    const jpeg = await picture().jpeg().toBuffer() // without its last bytes, the end marker, every pixel may still be there
    for (let length = 0; length < jpeg.length - 3; length += 19) {
      writeFileSync(image("a", ".jpg"), jpeg.subarray(0, length))
      expect(await refusal(read)).toMatch(
        /^Cannot read image ROOT\/JPEGImages\/a\.jpg: .+\. Copy or export it again\.$/,
      )
    }
    writeFileSync(image("a", ".jpg"), jpeg.subarray(0, -20))
    expect(await refusal(read)).toContain("a.jpg: it is cut off (premature end of JPEG image).")
    writeFileSync(image("a", ".jpg"), "text")
    expect(await refusal(read)).toContain("it is not a picture that can be read")
  })
  test("a mask that is cut off, and what is not a file", async () => {
    writeFileSync(mask("a"), readFileSync(mask("a")).subarray(0, -9))
    expect(await refusal(read)).toMatch(/^Cannot read ROOT\/SegmentationClass\/a\.png: the PNG is cut off/)
    rmSync(mask("a"))
    mkdirSync(mask("a"))
    expect(await refusal(read)).toBe("Cannot read mask ROOT/SegmentationClass/a.png: it is a folder, not a file.")
  })
  test("an image that vanished after opening", async () => {
    const data = open()
    rmSync(image("a"))
    expect(await refusal(() => data.readSample(0))).toBe("Cannot read image ROOT/JPEGImages/a.png: it does not exist.")
  })
  test("a mask of another size", async () => {
    writeFileSync(mask("a"), writeIndexedPng(labels, height, width, palette))
    expect(await refusal(read)).toBe(
      "Image ROOT/JPEGImages/a.png is 12x8 and its mask ROOT/SegmentationClass/a.png is 8x12; they must have the same size.",
    )
    writeFileSync(image("a", ".jpg"), await picture().jpeg().withMetadata({ orientation: 6 }).toBuffer())
    expect(await refusal(read)).toContain("The image has an EXIF orientation that viewers apply: save it upright")
  })
  test("a label outside the map: file, pixel, value, and what was expected", async () => {
    const bad = labels.slice()
    bad[3 * width + 7] = 21
    writeFileSync(mask("a"), writeIndexedPng(bad, width, height, palette))
    expect(await refusal(read)).toBe(
      "Mask ROOT/SegmentationClass/a.png has label 21 at pixel (x 7, y 3); expected 0..2 or 255. Is the label map complete?",
    )
  })
  test("a grey mask whose values are brightnesses", async () => {
    writeFileSync(mask("a"), await picture().toColourspace("b-w").png().toBuffer())
    expect(await refusal(read)).toContain("It is a grey PNG: was a coloured mask turned to grey?")
    writeFileSync(mask("a"), await picture().ensureAlpha(0.5).toColourspace("b-w").png().toBuffer())
    expect(await refusal(read)).toContain("a.png is grey with transparency; expected a palette PNG")
  })
  test("a 16-bit mask", async () => {
    writeFileSync(mask("a"), await picture().greyscale().toColourspace("grey16").png().toBuffer())
    expect(await refusal(read)).toContain("a.png: it has 16 bits per sample, expected at most 8.")
  })
})

describe("RGB masks", () => {
  const colored = (change: (pixels: number[][]) => void = () => {}) => {
    const pixels = [...labels].map((label) => [...vocColor(label)])
    change(pixels)
    return sharp(Uint8Array.from(pixels.flat()), { raw: { width, height, channels: 3 } })
  }
  test("are read by colour, with and without transparency", async () => {
    writeFileSync(mask("a"), await colored().png().toBuffer())
    expect((await open().readSample(0)).mask).toEqual(labels)
    writeFileSync(mask("a"), await colored().ensureAlpha(0.5).png().toBuffer())
    expect((await open().readSample(0)).mask).toEqual(labels)
  })
  test("with a colour that no class has: the pixel, and the nearest class", async () => {
    writeFileSync(
      mask("a"),
      await colored((pixels) => (pixels[14] = [120, 1, 2]))
        .png()
        .toBuffer(),
    )
    expect(await refusal(() => open().readSample(0))).toBe(
      "Mask ROOT/SegmentationClass/a.png has the colour (120, 1, 2) at pixel (x 2, y 1), which is not in the label map; " +
        "the nearest is cat (128, 0, 0). Was the mask resized smoothly, or saved as JPEG in between?",
    )
  })
  test("need a colour for each class", async () => {
    writeFileSync(mask("a"), await colored().png().toBuffer())
    const labelMap = parseLabelMap(
      [
        { name: "a", color: [0, 0, 0] },
        { name: "b", color: [0, 0, 0] },
      ],
      "x",
    )
    const data = openVocFolder(root, { split: "train", labelMap })
    expect(await refusal(() => data.readSample(0))).toContain('gives (0, 0, 0) to both "a" and "b"')
  })
})

describe("a palette that was renumbered", () => {
  const write = (colors: Rgb[]) =>
    writeFileSync(
      mask("a"),
      writeIndexedPng(
        labels.map((v) => (v > 1 ? 0 : v)),
        width,
        height,
        colors,
      ),
    )
  test("is noticed: it would silently make every dog a cat", async () => {
    write([vocColor(0), vocColor(2)]) // what an optimiser leaves of a mask with background and dog
    expect(await refusal(() => open().readSample(0))).toContain(
      'index 1 is "cat" in the label map, but its palette colour (0, 128, 0) is that of "dog" (2)',
    )
  })
  test("is not suspected where the palette has the map's colours, or colours of its own", async () => {
    write([vocColor(0), vocColor(1)])
    await open().readSample(0)
    write([vocColor(0), [255, 0, 0]])
    await open().readSample(0)
    write(palette)
    await open().readSample(0)
    write(palette.map((color, i) => (i < 2 ? color : vocColor(0)))) // filled up with black, as Pillow does
    await open().readSample(0)
  })
})

describe("readImage", () => {
  test("makes 8-bit RGB of every kind of picture", async () => {
    const kinds = {
      grey: picture().greyscale().jpeg(),
      cmyk: picture().toColourspace("cmyk").jpeg(),
      transparent: picture().ensureAlpha(0.5).png(),
      "16-bit": picture().toColourspace("rgb16").png(),
      "grey with transparency": picture().greyscale().ensureAlpha(0.5).png(),
      palette: picture().png({ palette: true }),
      webp: picture().webp({ lossless: true }),
    }
    for (const [kind, made] of Object.entries(kinds)) {
      writeFileSync(image("a"), await made.toBuffer())
      const { data, ...size } = await readImage(image("a"))
      expect({ kind, ...size, length: data.length }).toEqual({ kind, width, height, length: rgb.length })
      const error = data.reduce((sum, v, i) => sum + Math.abs(v - rgb[i]!), 0) / data.length
      if (["transparent", "16-bit", "webp"].includes(kind)) expect(error).toBe(0)
    }
  })
  test("turns by EXIF orientation only when asked", async () => {
    writeFileSync(image("a"), await picture().jpeg().withMetadata({ orientation: 6 }).toBuffer())
    expect(await readImage(image("a"))).toMatchObject({ width, height })
    expect(await readImage(image("a"), { upright: true })).toMatchObject({ width: height, height: width })
  })
})

describe("censusLabels", () => {
  test("counts pixels and images per class, and void apart", async () => {
    writeFileSync(mask("b"), writeIndexedPng(new Uint8Array(width * height), width, height, palette))
    const progress: number[][] = []
    const census = await censusLabels(open(), { onProgress: (...at) => progress.push(at) })
    expect([...census.pixels]).toEqual([47 + 96, 24, 24])
    expect([...census.images]).toEqual([2, 1, 1])
    expect(census.ignored).toBe(1)
    expect(progress).toEqual([[2, 2]])
  })
  test("names the first bad mask", async () => {
    writeFileSync(mask("b"), writeIndexedPng(labels.with(95, 9), width, height, palette))
    expect(await refusal(() => censusLabels(open()))).toContain(
      "b.png has label 9 at pixel (x 11, y 7); expected 0..2 or 255",
    )
  })
})

const real = "../shared/data"
describe.skipIf(!existsSync(real))(`real data${existsSync(real) ? "" : ` (skipped: ${real} is absent)`}`, () => {
  test("VOC: background is 70 % of the counted pixels of train", async () => {
    const data = openVocFolder(`${real}/voc2012`, { split: "train" })
    const { pixels, images } = await censusLabels(data)
    const all = pixels.reduce((a, b) => a + b)
    expect(pixels[0]! / all).toBeCloseTo(0.7, 2)
    expect(images[0]).toBe(436) // the other 4 hold no background at all
  })
  test("VOC with seven classes, CamVid: samples decode", async () => {
    const classes = ["background", "cat", "dog", "horse", "sheep", "cow", "person"]
    const voc = openVocFolder(`${real}/voc2012`, { split: "val", classes })
    const sample = await voc.readSample(0)
    expect(sample.image.length).toBe(sample.width * sample.height * 3)
    expect(sample.mask.every((label) => label < 7 || label === 255)).toBe(true)
    const camvid = openVocFolder(`${real}/camvid`, { split: "val" })
    expect(await camvid.readSample(100)).toMatchObject({ width: 480, height: 360 })
  })
})
