import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import {
  formatLabelMap,
  paletteOf,
  parseLabelMap,
  readLabelMap,
  selectClasses,
  unknownLabel,
  vocColor,
} from "./label-map.ts"

const folder = mkdtempSync(join(tmpdir(), "label-map-"))
afterAll(() => rmSync(folder, { recursive: true }))
const write = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const pets = parseLabelMap(["background", "cat", "dog", "horse", "sofa"], "pets")
const names = (map: { classes: readonly { name: string }[] }) => map.classes.map(({ name }) => name)

describe("vocColor", () => {
  test.each([
    [0, [0, 0, 0]],
    [1, [128, 0, 0]],
    [2, [0, 128, 0]],
    [4, [0, 0, 128]],
    [8, [64, 0, 0]],
    [15, [192, 128, 128]],
    [20, [0, 64, 128]],
    [255, [224, 224, 192]],
  ])("%i is VOC's own", (index, color) => {
    expect(vocColor(index)).toEqual(color)
  })
  test("gives 256 different colours", () => {
    expect(new Set(Array.from({ length: 256 }, (_, i) => vocColor(i).join())).size).toBe(256)
  })
})

describe("parseLabelMap", () => {
  test("a list of names", () => {
    expect(pets.classes[2]).toEqual({ index: 2, name: "dog", color: [0, 128, 0] })
    expect(pets.ignore).toEqual({ index: 255, name: "void", color: [224, 224, 192] })
    expect(pets.background).toBe(0)
  })
  test("names with their index, in any order; a name for 255 is void's", () => {
    const map = parseLabelMap({ road: 7, sky: 3, unlabelled: 255 }, "x")
    expect(map.classes.map(({ index, name }) => [index, name])).toEqual([
      [3, "sky"],
      [7, "road"],
    ])
    expect(map.ignore.name).toBe("unlabelled")
    expect(map.background).toBeUndefined()
  })
  test("the full form, with its own colours and ignore index", () => {
    const map = parseLabelMap(
      {
        classes: [
          { index: 1, name: "wall", color: [1, 2, 3] },
          { index: 2, name: "door" },
        ],
        ignore: { index: 0 },
      },
      "x",
    )
    expect(map.classes[0]?.color).toEqual([1, 2, 3])
    expect(map.classes[1]?.color).toEqual(vocColor(2))
    expect(map.ignore).toEqual({ index: 0, name: "void", color: [0, 0, 0] })
  })
  test("`classes` may itself be a list of names, or names with their index", () => {
    expect(names(parseLabelMap({ classes: ["a", "b"] }, "x"))).toEqual(["a", "b"])
    expect(parseLabelMap({ classes: { a: 4 } }, "x").classes[0]?.index).toBe(4)
  })
  test.each<[string, unknown, string]>([
    ["nothing", null, "expected { classes: [...] }, a list of names, or names with their index."],
    ["a number", 7, "expected { classes: [...] }"],
    ["empty", [], "it has no classes."],
    [
      "unknown key",
      { classes: ["a"], ignored: 1 },
      'it has an unknown key "ignored"; expected classes, ignore. Did you mean "ignore"?',
    ],
    [
      "colour",
      { classes: [{ name: "a", colour: [0, 0, 0] }] },
      'class 0 has an unknown key "colour"; expected index, name, color. Did you mean "color"?',
    ],
    ["no name", [{ index: 1 }], "class 0 has no name."],
    ["blank name", ["  "], "class 0 has no name."],
    ["bad class", [["a"]], 'class 0 is ["a"]; expected a name'],
    ["index too large", { a: 256 }, '"a" has index 256; expected a whole number from 0 to 255.'],
    ["index a fraction", { a: 0.5 }, '"a" has index 0.5'],
    [
      "bad colour",
      [{ name: "a", color: [0, 0] }],
      '"a" has color [0,0]; expected [red, green, blue], each from 0 to 255.',
    ],
    ["same name", ["a", "b", "a"], 'the name "a" stands there twice.'],
    ["same index", { a: 1, b: 1 }, '"a" and "b" both have index 1.'],
    ["index of ignore", { classes: ["a"], ignore: { index: 0 } }, '"a" and "void" both have index 0.'],
    ["too many", Array.from({ length: 255 }, (_, i) => `c${i}`), "it has 255 classes; expected at most 254."],
  ])("refuses: %s", (_, value, message) => {
    expect(() => parseLabelMap(value, "lm.json")).toThrow(UserError)
    expect(() => parseLabelMap(value, "lm.json")).toThrow(`Label map lm.json: ${message}`)
  })
})

describe("readLabelMap", () => {
  test("JSON, YAML and text say the same", () => {
    const json = readLabelMap(write("a.json", JSON.stringify(["background", "cat"])))
    expect(readLabelMap(write("a.yaml", "classes:\n  - background\n  - {index: 1, name: cat}\n"))).toEqual(json)
    expect(readLabelMap(write("a.yml", "background: 0\ncat: 1\n"))).toEqual(json)
    expect(readLabelMap(write("a.txt", "\uFEFFbackground\r\ncat\r\n\r\n"))).toEqual(json)
  })
  test("a file that is missing or malformed is named", () => {
    expect(() => readLabelMap(join(folder, "no.json"))).toThrow(
      /^Cannot read label map .*no\.json: it does not exist\.$/,
    )
    expect(() => readLabelMap(write("b.json", "{"))).toThrow(/^Cannot read label map .*b\.json: .+\.$/)
    expect(() => readLabelMap(write("b.yaml", "a: [1\nb: }"))).toThrow(/^Cannot read label map .*b\.yaml: .+\.$/)
    expect(() => readLabelMap(folder)).toThrow("it is a folder, not a file")
  })
  test("what formatLabelMap writes is read again", () => {
    const { labelMap } = selectClasses(pets, { classes: ["dog", "background"], others: "void" })
    expect(readLabelMap(write("c.json", formatLabelMap(labelMap)))).toEqual(labelMap)
    expect(readLabelMap(write("c.yaml", formatLabelMap(labelMap)))).toEqual(labelMap)
  })
})

describe("selectClasses", () => {
  const table = (lookup: Uint8Array) => [...lookup.subarray(0, 5), lookup[5], lookup[255]]
  const u = unknownLabel

  test("without a selection the numbers stay, and others are unknown", () => {
    const { labelMap, lookup } = selectClasses(pets)
    expect(labelMap).toEqual(pets)
    expect(table(lookup)).toEqual([0, 1, 2, 3, 4, u, 255])
  })
  test("gaps close, and the data set's ignore index becomes 255", () => {
    const source = parseLabelMap({ classes: { sky: 3, road: 7 }, ignore: { index: 0 } }, "x")
    const { labelMap, lookup } = selectClasses(source)
    expect(labelMap.classes.map(({ index, name, color }) => [index, name, color])).toEqual([
      [0, "sky", vocColor(3)],
      [1, "road", vocColor(7)],
    ])
    expect([lookup[0], lookup[3], lookup[7], lookup[1], lookup[255]]).toEqual([255, 0, 1, u, u])
    expect(labelMap.ignore.index).toBe(255)
  })
  test("some classes, in the order asked for; the rest to void", () => {
    const { labelMap, lookup } = selectClasses(pets, { classes: ["dog", "background"] })
    expect(names(labelMap)).toEqual(["dog", "background"])
    expect(labelMap.background).toBe(1)
    expect(table(lookup)).toEqual([1, 255, 0, 255, 255, u, 255])
  })
  test("the rest to background, which is added where it is not named", () => {
    const { labelMap, lookup } = selectClasses(pets, { classes: ["dog"], others: "background" })
    expect(names(labelMap)).toEqual(["background", "dog"])
    expect(table(lookup)).toEqual([0, 0, 1, 0, 0, u, 255])
  })
  test("a background of another spelling, or merged, is found", () => {
    const source = parseLabelMap(["Background", "cat", "sky"], "x")
    expect(names(selectClasses(source, { classes: ["cat"], others: "background" }).labelMap)).toEqual([
      "Background",
      "cat",
    ])
    const merged = selectClasses(source, {
      classes: ["cat"],
      others: "background",
      merge: { rest: ["Background", "sky"] },
    })
    expect(names(merged.labelMap)).toEqual(["rest", "cat"])
  })
  test("merged classes take the place and colour of the first", () => {
    const { labelMap, lookup } = selectClasses(pets, { merge: { animal: ["dog", "cat", "horse"] } })
    expect(names(labelMap)).toEqual(["background", "animal", "sofa"])
    expect(labelMap.classes[1]?.color).toEqual(vocColor(1))
    expect(table(lookup)).toEqual([0, 1, 1, 1, 2, u, 255])
  })
  test("into an existing class, and selected by the new name", () => {
    const { labelMap, lookup } = selectClasses(pets, {
      merge: { background: ["sofa"], pet: ["cat", "dog"] },
      classes: ["background", "pet"],
    })
    expect(names(labelMap)).toEqual(["background", "pet"])
    expect(table(lookup)).toEqual([0, 1, 1, 255, 0, u, 255])
  })
  test.each<[string, Parameters<typeof selectClasses>[1], string]>([
    [
      "unknown class",
      { classes: ["cta"] },
      'classes: there is no class "cta"; expected some of background, cat, dog, horse, sofa. Did you mean "cat"?',
    ],
    ["unknown member", { merge: { pet: ["hamster"] } }, 'merge: there is no class "hamster"; expected some of'],
    ["class twice", { classes: ["cat", "cat"] }, 'classes: "cat" stands there twice.'],
    ["member twice", { merge: { a: ["cat"], b: ["cat"] } }, 'merge: "cat" is in both "a" and "b"; choose one.'],
    [
      "merged away",
      { classes: ["cat"], merge: { pet: ["cat", "dog"] } },
      'classes: "cat" was merged into "pet"; name that one.',
    ],
    ["empty merge", { merge: { pet: [] } }, 'merge: "pet" unites no classes'],
    [
      "merge to void",
      { merge: { void: ["cat"] } },
      'merge: "void" is the name of ignored pixels. Leave cat out of classes instead.',
    ],
    ["empty list", { classes: [] }, "classes: the list is empty"],
    ["idle others", { others: "background" }, 'others: "background" has nothing to act on'],
  ])("refuses: %s", (_, selection, message) => {
    expect(() => selectClasses(pets, selection)).toThrow(UserError)
    expect(() => selectClasses(pets, selection)).toThrow(message)
  })
  test("others: background needs one", () => {
    const source = parseLabelMap(["cat", "dog"], "x")
    expect(() => selectClasses(source, { classes: ["cat"], others: "background" })).toThrow(
      'there is no class "background"',
    )
  })
})

describe("paletteOf", () => {
  test("the map's colours at their index, VOC's elsewhere", () => {
    const map = parseLabelMap(
      { classes: [{ index: 2, name: "a", color: [9, 8, 7] }], ignore: { color: [1, 1, 1] } },
      "x",
    )
    const palette = paletteOf(map)
    expect(palette).toHaveLength(256)
    expect([palette[0], palette[2], palette[255]]).toEqual([vocColor(0), [9, 8, 7], [1, 1, 1]])
  })
})

const real = "../shared/data"
describe.skipIf(!existsSync(real))(
  `the label maps of ${real}${existsSync(real) ? "" : ` (skipped: ${real} is absent)`}`,
  () => {
    test("VOC's colours are VOC's formula", () => {
      const map = readLabelMap(`${real}/voc2012/label_map.json`)
      expect(map.classes).toHaveLength(21)
      for (const { index, color } of [...map.classes, map.ignore]) expect(color).toEqual(vocColor(index))
    })
    test("CamVid has no background", () => {
      const map = readLabelMap(`${real}/camvid/label_map.json`)
      expect(map.background).toBeUndefined()
      expect(selectClasses(map).labelMap).toEqual(map)
    })
  },
)
