// Predictions as files: what lies where, in whose numbers, and that test-time options reach the model.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import sharp from "sharp"
import { beforeAll, describe, expect, test } from "vitest"
import { vocColor } from "../../src/data/label-map.ts"
import { decodePng } from "../../src/data/png.ts"
import { generateShapes } from "../../src/data/shapes.ts"
import { toTensorData } from "../../src/data/transforms/index.ts"
import { openVocFolder } from "../../src/data/voc-folder.ts"
import { segment } from "../../src/infer/segment.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { parseConfig } from "../../src/train/config.ts"
import { startRun } from "../../src/train/run.ts"
import { RunFolder } from "../../src/train/run-folder.ts"
import { trainedModel } from "../../src/train/trained-model.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const run = join(folder, "run")
const comp6 = join("results", "VOC2012", "Segmentation", "comp6_test_cls")
const read = (...path: string[]) => decodePng(readFileSync(join(...path)), path.at(-1)!)
const small = {
  width: 4,
  depth: 2,
  batchSize: 4,
  crop: [32, 32],
  steps: 12,
  evaluations: 1,
  learningRate: 0.02,
  threads: 1,
}

beforeAll(async () => {
  await generateShapes(data, { train: 12, val: 3, size: [48, 40], seed: 3 })
  const classes = ["triangle", "background", "disc"] // 3, 0 and 1 in the data set
  await startRun(parseConfig({ ...small, data, classes, others: "background", seed: 2 }), run)
}, 60_000)

/** What the library says of the validation images. */
async function expected(options: object = {}) {
  const opened = RunFolder.open(run)
  const { model, normalization } = trainedModel(opened)
  const dataset = openVocFolder(data, { split: "val" })
  const found = []
  for (const index of dataset.ids.keys()) {
    const { id, width, height, image } = await dataset.readSample(index)
    const shape = [1, height, width] as const
    const given = { ...options, probabilities: true, confidence: true }
    found.push({
      id,
      image,
      width,
      height,
      ...segment(model, toTensorData({ width, height, data: image }, normalization), shape, given),
    })
  }
  model.dispose()
  return found
}

test("a split: masks in the run's numbers, VOC's layout in the data set's, which pixelwise score reads", async () => {
  const out = join(folder, "split")
  const { code, stdout } = await pixelwise(
    "predict",
    "--run",
    run,
    "--out",
    out,
    "--data",
    data,
    "--split",
    "val",
    "--json",
  )
  expect(code).toBe(0)
  const images = await expected()
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
  expect(lines.map(({ comp6: file }) => file)).toEqual(images.map(({ id }) => join(out, comp6, `${id}.png`)))
  const seen = new Set<number>()
  for (const { id, width, height, labels } of images) {
    const mask = read(out, "masks", `${id}.png`)
    expect([mask.width, mask.height]).toEqual([width, height])
    expect([...mask.data]).toEqual([...labels])
    const numbered = read(out, comp6, `${id}.png`)
    expect(numbered.header).toMatchObject({ width, height, depth: 8, color: "palette" })
    expect([...numbered.data]).toEqual(Array.from(labels, (label) => [3, 0, 1][label]))
    expect(numbered.palette).toEqual(Array.from({ length: 256 }, (_, index) => vocColor(index)))
    for (const label of labels) seen.add(label)
  }
  expect(seen.size).toBeGreaterThan(1) // otherwise this shows little
  expect(readdirSync(out).sort()).toEqual(["masks", "overlays", "results"])

  const scored = await pixelwise(
    ...["score", "--pred", out, "--truth", data, "--split", "val", "--json"],
    ...["--classes", "triangle,background,disc", "--others", "background"],
  )
  const evaluated = await pixelwise("eval", "--run", run, "--json")
  expect(scored.stderr + evaluated.stderr).toBe("")
  expect(JSON.parse(scored.stdout).scores).toEqual(JSON.parse(evaluated.stdout).scores)
}, 60_000)

test("test-time options, and probabilities in files", async () => {
  const out = join(folder, "options")
  const { code, stderr } = await pixelwise(
    ...["predict", "--run", run, "--out", out, "--split", "val", "--probabilities"],
    ...["--scales", "0.75,1,1.5", "--flip", "--window", "32,24", "--overlap", "0.25"],
  )
  expect([code, stderr]).toEqual([0, expect.stringContaining("3 images: masks in ")])
  const images = await expected({ scales: [0.75, 1, 1.5], flip: true, window: [32, 24], overlap: 0.25 })
  const plain = await expected()
  expect(images.map(({ labels }) => labels)).not.toEqual(plain.map(({ labels }) => labels))
  for (const { id, width, height, labels, probabilities } of images) {
    expect([...read(out, "masks", `${id}.png`).data]).toEqual([...labels])
    const { tensors, metadata } = loadSafetensors(join(out, "probabilities", `${id}.safetensors`))
    expect(metadata).toEqual({ classes: JSON.stringify(["triangle", "background", "disc"]) })
    const stored = tensors.get("probabilities")!
    expect(stored.signature).toBe(`float16[3, ${height}, ${width}]`)
    const values = stored.to({ dtype: "float32" }).data() as Float32Array
    for (const [i, value] of values.entries()) expect(Math.abs(value - probabilities![i]!)).toBeLessThan(2 ** -11) // half a unit of float16
  }
}, 60_000)

test("image files: no VOC layout unless asked for, and then in the run's own data set's numbers", async () => {
  const out = join(folder, "files")
  const [{ id, labels }] = (await expected()) as [Awaited<ReturnType<typeof expected>>[number]]
  const image = join(data, "JPEGImages", `${id}.jpg`)
  expect((await pixelwise("predict", "--run", run, "--out", out, image)).code).toBe(0)
  expect(readdirSync(out).sort()).toEqual(["masks", "overlays"])
  expect((await pixelwise("predict", "--run", run, "--out", out, "--comp6", image)).code).toBe(0)
  expect([...read(out, comp6, `${id}.png`).data]).toEqual(Array.from(labels, (label) => [3, 0, 1][label]))
}, 60_000)

test("a test split has no masks, and often no label map: the run's own data set has one", async () => {
  const [root, out] = [join(folder, "test"), join(folder, "test-out")]
  cpSync(data, root, { recursive: true })
  rmSync(join(root, "SegmentationClass"), { recursive: true })
  rmSync(join(root, "label_map.json"))
  const { code } = await pixelwise("predict", "--run", run, "--out", out, "--data", root)
  expect(code).toBe(0)
  const [{ id, labels }] = (await expected()) as [Awaited<ReturnType<typeof expected>>[number]]
  expect([...read(out, comp6, `${id}.png`).data]).toEqual(Array.from(labels, (label) => [3, 0, 1][label]))
}, 60_000)

test("photographs are turned as their EXIF asks, also beside others of the same stored size", async () => {
  const photos = join(folder, "photos")
  mkdirSync(photos)
  const pixels = Buffer.from(Uint8Array.from({ length: 40 * 24 * 3 }, (_, i) => (i * 37) % 256))
  const photo = (orientation: number) =>
    sharp(pixels, { raw: { width: 40, height: 24, channels: 3 } }).withMetadata({ orientation })
  for (const [name, orientation] of [
    ["a", 1],
    ["b", 6],
    ["c", 6],
    ["d", 1],
  ] as const)
    await photo(orientation)
      .jpeg()
      .toFile(join(photos, `${name}.jpg`))
  const out = join(folder, "photos-out")
  const { code, stderr } = await pixelwise("predict", "--run", run, "--out", out, photos)
  expect([code, stderr]).toEqual([0, expect.stringContaining("4 images: masks in ")])
  const shapes = ["a", "b", "c", "d"]
    .map((name) => read(out, "masks", `${name}.png`))
    .map((png) => [png.width, png.height])
  expect(shapes).toEqual([
    [40, 24],
    [24, 40],
    [24, 40],
    [40, 24],
  ])
  expect(read(out, "masks", "a.png").data).toEqual(read(out, "masks", "d.png").data)
  expect(read(out, "masks", "b.png").data).toEqual(read(out, "masks", "c.png").data)
}, 60_000)

test("of several files that are no pictures each is named, and nothing is written", async () => {
  const photos = join(folder, "some-bad")
  mkdirSync(photos)
  cpSync(join(data, "JPEGImages", readdirSync(join(data, "JPEGImages"))[0]!), join(photos, "good.png"))
  writeFileSync(join(photos, "empty.jpg"), "")
  writeFileSync(join(photos, "words.png"), "not a picture")
  const out = join(folder, "none")
  const { code, stderr } = await pixelwise("predict", "--run", run, "--out", out, photos)
  expect(code).toBe(2)
  const reason = (name: string, why: string) =>
    `Cannot read image ${join(photos, name)}: ${why}. Copy or export it again.`
  const empty = reason("empty.jpg", "it is empty")
  const words = reason("words.png", "it is not a picture that can be read (JPEG, PNG, WebP, TIFF or GIF)")
  expect(stderr).toBe(`pixelwise: 2 of 3 images cannot be read, so none was predicted. ${empty} ${words}\n`)
  expect(existsSync(out)).toBe(false)
})

test("neither true masks nor the images themselves are replaced, results of an earlier call are", async () => {
  const [{ id }] = (await expected()) as [Awaited<ReturnType<typeof expected>>[number]]
  const [image, own, truth] = ["JPEGImages", "masks", "masks"].map((name, k) => join(folder, `kept-${k}`, name)) as [
    string,
    string,
    string,
  ]
  for (const place of [image, own, truth]) cpSync(join(data, "JPEGImages", `${id}.jpg`), join(place, `${id}.png`)) // read by content
  const before = readFileSync(join(truth, `${id}.png`))

  const replacing = await pixelwise("predict", "--run", run, "--out", join(folder, "kept-2"), join(image, `${id}.png`))
  expect([replacing.code, replacing.stdout]).toEqual([2, ""])
  expect(replacing.stderr).toMatch(/masks.*exists and no earlier predict wrote it, so it is not replaced/)
  expect(readFileSync(join(truth, `${id}.png`))).toEqual(before)

  const itself = await pixelwise("predict", "--run", run, "--out", join(folder, "kept-1"), own)
  expect([itself.code, itself.stderr]).toEqual([
    2,
    expect.stringMatching(/would replace an image that is to be predicted/),
  ])
  expect(readdirSync(join(folder, "kept-1"))).toEqual(["masks"])
}, 60_000)

describe("refused before anything is written", () => {
  const out = join(folder, "refused")
  const cases: Record<string, { args: string[]; says: RegExp }> = {
    "nothing to predict": {
      args: [],
      says: /nothing to predict: give image files or folders, or .*--data and --split/,
    },
    "both kinds": { args: ["--split", "val", "x.jpg"], says: /either image files, or a data set's split/ },
    "an option that makes no sense": {
      args: ["--split", "val", "--overlap", "1"],
      says: /overlap: got 1; expected the share/,
    },
  }
  test.each(Object.entries(cases))("%s", async (_, { args, says }) => {
    const { code, stdout, stderr } = await pixelwise("predict", "--run", run, "--out", out, ...args)
    expect([code, stdout]).toEqual([2, ""])
    expect(stderr).toMatch(says)
    expect(stderr.trim().split("\n")).toHaveLength(1)
    expect(existsSync(out)).toBe(false)
  })
})
