// Runs that were scored already, as folders with made-up evaluations, so that every number can be worked by hand.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { parseLabelMap } from "../data/label-map.ts"
import type { Cell } from "../metrics/confusion-matrix.ts"
import { parseConfig } from "../train/config.ts"
import { RunFolder } from "../train/run-folder.ts"
import { compareRuns, differentMeans, mostDifferent, verdict } from "./comparison.ts"
import { comparisonPage } from "./comparison-page.ts"

const folder = mkdtempSync(join(tmpdir(), "pixelwise-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Images = Readonly<Record<string, readonly Cell[]>>

function makeRun(name: string, images: Images, { classes = ["background", "cat"], options = {} } = {}): string {
  const path = join(folder, name)
  const data = join(folder, "gone") // nothing of a comparison's numbers needs it
  const config = parseConfig({ data, steps: 10, width: 2, depth: 1, learningRate: 0.1, seed: 0, ...options })
  const run = RunFolder.create(path, config, parseLabelMap(classes, "test"))
  const evaluation = {
    ...{ run: path, weights: "best.safetensors", data, split: "val", classes, background: 0, ceilings: [] },
    calibration: null,
    images: Object.entries(images).map(([id, confusion]) => ({
      ...{ id, width: 10, height: 10, confusion, boundary: null },
      hausdorff95: classes.map(() => null),
    })),
  }
  run.writeJson("evaluation.json", evaluation)
  run.writeJson("diagnosis.json", { errors: { pixels: 0, wrong: 0, meanIoU: null, kinds: [] }, suspects: [] })
  return path
}

// Every image has 50 pixels of background and 50 of cat; [truth, prediction, pixels].
const right: Cell[] = [
  [0, 0, 50],
  [1, 1, 50],
]
const half: Cell[] = [
  [0, 0, 50],
  [1, 0, 25],
  [1, 1, 25],
] // IoU of background 50 / 75, of cat 25 / 50
const none: Cell[] = [
  [0, 0, 50],
  [1, 0, 50],
] // 50 / 100, and 0

const first = makeRun("first", { a: half, b: half, c: right, d: none })
const second = makeRun("second", { a: right, b: none, c: right, d: half }, { options: { seed: 1, learningRate: 0.2 } })

test("wins, losses and differences by hand", async () => {
  const comparison = await compareRuns([first, second])
  const [pair] = comparison.pairs
  const ofHalf = (50 / 75 + 25 / 50) / 2
  expect(pair!.images).toEqual([
    { id: "a", first: ofHalf, other: 1 },
    { id: "b", first: ofHalf, other: 0.25 },
    { id: "c", first: 1, other: 1 },
    { id: "d", first: 0.25, other: ofHalf },
  ])
  expect([pair!.wins, pair!.losses, pair!.even]).toEqual([2, 1, 1])
  // Of all images together: 200 pixels of background right; of cat 100 in the first run (25 + 25 + 50) and 125 in the second.
  const score = (found: number) => (200 / (200 + 200 - found) + found / 200) / 2
  expect(pair!.means.meanIoU!.difference).toBeCloseTo(score(125) - score(100), 12)
  expect(pair!.classes[1]!.difference).toBeCloseTo(25 / 200, 12)
  expect(pair!.means.meanIoU!.low).toBeLessThan(0)
  expect(pair!.means.meanIoU!.high).toBeGreaterThan(0)
  expect(comparison.options).toEqual([
    { key: "learningRate", values: [0.1, 0.2] },
    { key: "seed", values: [0, 1] },
  ])
  const { gained, lost } = mostDifferent(pair!, 3)
  expect(gained.map(({ id }) => id)).toEqual(["a", "d"])
  expect(lost.map(({ id }) => id)).toEqual(["b"])
  expect(verdict(comparison.runs[0]!, pair!)).toMatch(
    /^second is better than first by \d+\.\d points of mean IoU .*other way round/,
  )
})

test("a run that is better on every image is better by more than chance; the other way round it is worse", async () => {
  const weak = makeRun("weak", { a: none, b: half, c: none, d: half })
  const strong = makeRun("strong", { a: half, b: right, c: half, d: right })
  const up = await compareRuns([weak, strong])
  expect(up.pairs[0]!.means.meanIoU!.probability).toBe(1)
  expect(verdict(up.runs[0]!, up.pairs[0]!)).toMatch(/^strong is better than weak .*more than the choice of images/)
  const down = await compareRuns([strong, weak])
  expect(verdict(down.runs[0]!, down.pairs[0]!)).toMatch(/^weak is worse than strong .*more than the choice of images/)
  expect(down.pairs[0]!.means.meanIoU!.difference).toBeCloseTo(-up.pairs[0]!.means.meanIoU!.difference!, 12)
})

test("means over different classes are told: a class that one run alone predicts is in its mean only", async () => {
  const classes = ["background", "cat", "sheep"] // no image has a sheep
  const without = makeRun("without", { a: right, b: right }, { classes })
  const invents = makeRun("invents", { a: right, b: [...right.slice(0, 1), [1, 1, 49], [1, 2, 1]] }, { classes })
  const { runs, pairs } = await compareRuns([without, invents])
  expect(verdict(runs[0]!, pairs[0]!)).toContain("invents is worse than without")
  const told = "Left out, because in neither truth nor prediction: without: sheep; invents: none."
  expect(differentMeans(runs)).toContain(told)
  expect(await comparisonPage({ runs, pairs, options: [] }, { data: null })).toContain(told)
  expect(differentMeans((await compareRuns([first, second])).runs)).toBeNull()
})

test("the same scores are neither better nor worse", async () => {
  const twin = makeRun("twin", { a: half, b: half, c: right, d: none })
  const { runs, pairs } = await compareRuns([first, twin])
  expect(verdict(runs[0]!, pairs[0]!)).toBe("twin and first have the same mean IoU.")
})

test("the page names all runs, escaped, and says what is different", async () => {
  const odd = makeRun("<b>odd & run", { a: right, b: right, c: right, d: right })
  const text = await comparisonPage(await compareRuns([first, second, odd]), { data: null })
  expect(text).toContain("&lt;b&gt;odd &amp; run against first")
  expect(text).not.toContain("<b>odd")
  expect(text).toContain("<code>--learning-rate</code>")
  expect(text).toContain("Better on 2 images, worse on 1, the same to a point of mean IoU on 1.")
  expect(text.match(/Mean IoU of each image/g)).toHaveLength(2 * 2) // title and label of two charts
})

const other = (name: string, images: Images, options = {}) => [first, makeRun(name, images, options)]

test.each<[string, () => readonly string[], RegExp]>([
  ["one run", () => [first], /^There is nothing to compare .*first with; expected two runs or more\.$/],
  ["a run twice", () => [first, `${first}/.`], /first\/\. stands there twice; expected different runs\.$/],
  ["no run", () => [first, folder], /is not a run folder: it has no config\.json/],
  [
    "other classes",
    () => other("dogs", { a: right }, { classes: ["background", "dog"] }),
    /^.*dogs cannot be compared with .*first: its classes are background, dog; there they are background, cat\.$/,
  ],
  [
    "other images",
    () => other("fewer", { a: right, b: right, c: right, e: right, f: right }),
    /^.*fewer cannot be compared with .*first: they were validated on different images \(5 and 4, and only one of them has d\)/,
  ],
  [
    "other labels",
    () => other("relabelled", { a: right, b: right, c: [[0, 0, 100]], d: right }),
    /^.*relabelled cannot be compared with .*first: the labels of c were not the same\./,
  ],
])("%s: refused with a sentence", async (_, paths, message) => {
  const runs = paths()
  await expect(compareRuns(runs)).rejects.toThrow(message)
  await expect(compareRuns(runs)).rejects.toHaveProperty("name", "UserError")
})
