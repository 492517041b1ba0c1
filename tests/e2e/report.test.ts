// What training leaves to look at: report.html and what it is made of, and the comparison of runs. On a generated set whose names
// would break a page that does not escape them.
import { existsSync, readdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Command } from "commander"
import sharp from "sharp"
import { beforeAll, expect, test } from "vitest"
import { addConfigOptions, configOptions } from "../../src/cli/options.ts"
import { decodePng } from "../../src/data/png.ts"
import { generateShapes } from "../../src/data/shapes.ts"
import { scoresOf } from "../../src/metrics/index.ts"
import { evaluationsOf } from "../../src/report/curves.ts"
import { writeReport } from "../../src/report/run-report.ts"
import { loadSafetensors, saveSafetensors } from "../../src/torch/index.ts"
import { parseConfig } from "../../src/train/config.ts"
import { evaluateRun } from "../../src/train/evaluate-run.ts"
import { startRun } from "../../src/train/run.ts"
import { RunFolder } from "../../src/train/run-folder.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes & <more>")
const runs = [0, 1].map((seed) => join(folder, `run-${seed}`)) as [string, string]
const oddClass = `<i>disc</i> & "co"`
const oddId = "val_00000 <b>&'"

beforeAll(async () => {
  await generateShapes(data, { train: 12, val: 4, size: [48, 64], seed: 3 })
  const labels = join(data, "label_map.json")
  writeFileSync(labels, readFileSync(labels, "utf8").replace('"disc"', JSON.stringify(oddClass)))
  renameSync(join(data, "JPEGImages/val_00000.jpg"), join(data, `JPEGImages/${oddId}.jpg`))
  renameSync(join(data, "SegmentationClass/val_00000.png"), join(data, `SegmentationClass/${oddId}.png`))
  const list = join(data, "ImageSets/Segmentation/val.txt")
  writeFileSync(list, readFileSync(list, "utf8").replace("val_00000", oddId))
  const { code, stderr } = await pixelwise(
    ...["train", "--data", data, "--width", "2", "--depth", "1", "--crop", "32", "--batch-size", "4"],
    ...["--steps", "8", "--evaluations", "2", "--learning-rate", "0.01", "--out", runs[0], "--json"],
  )
  if (code !== 0) throw new Error(stderr)
  // As older versions left it: never scored, no predictions kept, no page.
  const options = { data, width: 2, depth: 1, crop: 32, batchSize: 4, steps: 8, evaluations: 2, learningRate: 0.01 }
  await startRun(parseConfig({ ...options, seed: 1 }), runs[1])
}, 60_000)

const reportOf = (run: string) => readFileSync(join(run, "report.html"), "utf8")

/** What is not closed, or closed and not open: HTML of ours is balanced. */
function unbalanced(html: string): string[] {
  const empty = /^(meta|img|br|rect|line|path|polyline|circle)$/
  const open: string[] = []
  const wrong: string[] = []
  const text = html.replace(/<style>[\s\S]*?<\/style>/, "").replace("<!doctype html>", "")
  for (const [, closing, name, attributes] of text.matchAll(/<(\/?)([a-z][a-z0-9]*)((?:"[^"]*"|[^">])*)>/g)) {
    if (closing) {
      if (open.pop() !== name) wrong.push(`</${name}>`)
    } else if (!attributes!.endsWith("/") && !/^(meta|img|br)$/.test(name!)) {
      open.push(name!)
    } else if (!empty.test(name!)) wrong.push(`<${name}/>`)
  }
  return [...wrong, ...open]
}

/** Asserts what holds of every page. */
function checkPage(page: string): void {
  const html = page.replace(/data:image\/webp;base64,[\w+/=]+/g, "data:picture") // base64 may spell anything
  expect(unbalanced(html)).toEqual([])
  expect(html.match(/\b(?:src|href|action|data|srcset)="(?!data:)[^"]*"/g)).toBeNull()
  const forbidden = [/https?:/, /<script/, /@import/, /url\(/, /<i>/, /<b>/, /NaN/, /undefined/, /\[object/]
  expect(forbidden.filter((pattern) => pattern.test(html))).toEqual([])
  const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id)
  expect(new Set(ids).size).toBe(ids.length)
}

test("training ends with a page that stands alone, names escaped, and holds every part", async () => {
  const html = reportOf(runs[0])
  checkPage(html)
  expect([...html.matchAll(/<h2>([^<]*)<\/h2>/g)].map(([, title]) => title)).toEqual([
    "Scores",
    "What was trained on what",
    "How it went",
    "Each class",
    "Which mean IoU? The same prediction by all conventions",
    "What is taken for what",
    "What kind of errors it makes",
    "Does it know when it is wrong?",
    "Worst and best images",
    "Predictions over time",
    "Labels that may be wrong",
  ])
  expect(html).toContain("&lt;i&gt;disc&lt;/i&gt; &amp; &quot;co&quot;")
  expect(html).toContain("val_00000 &lt;b&gt;&amp;&#39;")
  const pictures = [...html.matchAll(/src="data:image\/webp;base64,([^"]*)"/g)]
  expect(pictures.length).toBeGreaterThan(4 * 4)
  const { width, height } = await sharp(Buffer.from(pictures[0]![1]!, "base64")).metadata()
  expect([width, height]).toEqual([320, 240]) // enlarged from 64 x 48
  for (const [image] of html.matchAll(/<img [^>]*>/g)) expect(image).toMatch(/ alt="[^"]+"/)
})

test("the numbers of the page are those of the evaluation, which is the best one of training", () => {
  const run = RunFolder.open(runs[0])
  const { meanIoU } = scoresOf(JSON.parse(readFileSync(run.file("evaluation.json"), "utf8")))
  expect(meanIoU).toBe(Math.max(...evaluationsOf(run.records()).map(({ scores }) => scores.meanIoU!)))
  const shown = (100 * meanIoU!).toFixed(1)
  expect(reportOf(runs[0])).toContain(`<th scope="row">mean IoU</th><td class="number">${shown}</td>`)
  expect(reportOf(runs[0])).toContain(`Mean IoU ${shown} % (95 % interval`)
})

test("the command on the page makes the same configuration again", () => {
  const [, command] = /<pre><code>([^<]*)<\/code><\/pre>/.exec(reportOf(runs[0]))!
  const entities: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&#39;": "'", "&quot;": '"' }
  const plain = command!.replace(/&[#\w]+;/g, (entity) => entities[entity]!)
  const words = plain
    .split(" \\\n  ")
    .slice(1)
    .flatMap((flag) => {
      const [, name, value] = /^(--\S+) (.*)$/.exec(flag)!
      return [name!, value!.replace(/^'|'$/g, "")]
    })
  const parser = new Command().option("--out <folder>").exitOverride()
  addConfigOptions(parser)
  const given = parser.parse(words, { from: "user" }).opts()
  expect(given.out).toBe(runs[0])
  const { config } = RunFolder.open(runs[0])
  const again = parseConfig(configOptions(given))
  const colours = { brightness: 0, contrast: 0, saturation: 0 }
  const decided = {
    normalization: "imagenet",
    warmup: 0.03,
    freeze: 0,
    batchNorm: "train",
    loss: "cross-entropy",
    labelSmoothing: 0,
    ...colours,
  }
  expect({ ...again, ...decided }).toEqual(config)
})

test("each evaluation leaves the predictions of the same images: small masks whose index is the class", () => {
  const run = RunFolder.open(runs[0])
  const steps = readdirSync(run.file("samples"))
  expect(steps.map(Number).sort((a, b) => a - b)).toEqual(evaluationsOf(run.records()).map(({ step }) => step))
  for (const step of steps) {
    const names = readdirSync(run.file(`samples/${step}`)).sort()
    expect(names).toEqual([`${oddId}.png`, "val_00001.png", "val_00002.png", "val_00003.png"].sort())
    const file = run.file(`samples/${step}/${names[0]}`)
    const { width, height, data: labels, palette } = decodePng(readFileSync(file), file)
    expect([width, height, palette.length]).toEqual([64, 48, 256])
    expect(Math.max(...labels)).toBeLessThan(run.labelMap.classes.length)
  }
  expect(readdirSync(runs[0]).filter((name) => name.startsWith("events.out.tfevents."))).toHaveLength(1)
})

test("a report is made again from what is known, elsewhere if asked, and scored anew when the weights are others", async () => {
  const evaluation = join(runs[0], "evaluation.json")
  const before = statSync(evaluation).mtimeMs
  const out = join(folder, "again.html")
  const { code, stdout, stderr } = await pixelwise("report", runs[0], "--out", out)
  expect([code, stderr]).toEqual([0, ""])
  expect(stdout).toContain(`Wrote ${out}`)
  expect(readFileSync(out, "utf8")).toBe(reportOf(runs[0]))
  expect(statSync(evaluation).mtimeMs).toBe(before)

  const weights = join(runs[0], "best.safetensors")
  const later = new Date(Date.now() + 5000)
  utimesSync(weights, later, later) // as a copied run may have it
  await writeReport(RunFolder.open(runs[0]), { out })
  expect(statSync(evaluation).mtimeMs).toBe(before)

  const bytes = readFileSync(weights)
  const { tensors, metadata } = loadSafetensors(weights)
  saveSafetensors(weights, tensors, { ...metadata, note: "another file" })
  for (const tensor of tensors.values()) tensor.dispose()
  await writeReport(RunFolder.open(runs[0]), { out })
  expect(statSync(evaluation).mtimeMs).toBeGreaterThan(before)
  writeFileSync(weights, bytes)
})

test("other inference is reported, and not kept as the run's result", async () => {
  const evaluation = readFileSync(join(runs[0], "evaluation.json"), "utf8")
  const out = join(folder, "flipped.html")
  await writeReport(RunFolder.open(runs[0]), { out, inference: { flip: true } })
  const flipped = readFileSync(out, "utf8")
  checkPage(flipped)
  const confusion = (html: string) => /<section id="what-is-taken-for-what">[\s\S]*?<\/section>/.exec(html)![0]
  expect(confusion(flipped)).not.toBe(confusion(reportOf(runs[0])))
  expect(readFileSync(join(runs[0], "evaluation.json"), "utf8")).toBe(evaluation)
})

test("compare: older runs are scored first; a table, a page, and everything for machines", async () => {
  expect(existsSync(join(runs[1], "evaluation.json"))).toBe(false)
  const out = join(folder, "compare.html")
  const { code, stdout } = await pixelwise("compare", ...runs, "--out", out)
  expect(code).toBe(0)
  expect(stdout).toMatch(/--seed +0 +1/)
  expect(stdout).toMatch(/run-1 is (better|worse) than run-0 by \d/)
  expect(stdout).toContain("image by image: better on")
  const html = readFileSync(out, "utf8")
  checkPage(html)
  expect(html).toContain("<code>--seed</code>")
  expect(html).toContain("run-1 against run-0")
  expect(html).toContain("data:image/webp;base64,")

  const json = JSON.parse((await pixelwise("compare", ...runs, "--out", out, "--json")).stdout)
  expect(json.options).toEqual([{ key: "seed", values: [0, 1] }])
  expect(json.pairs[0].images).toHaveLength(4)
  expect(json.runs.map(({ name }: { name: string }) => name)).toEqual(["run-0", "run-1"])
})

test("a page of another inference says so, and leaves the run's own as it is", async () => {
  const before = reportOf(runs[0])
  const out = join(folder, "flipped.html")
  const { code } = await pixelwise("report", runs[0], "--flip", "--scales", "0.75,1", "--out", out)
  expect(code).toBe(0)
  expect(readFileSync(out, "utf8")).toContain("averaged over the scales 0.75, 1 and mirrored images")
  expect(reportOf(runs[0])).toBe(before)
  expect(before).not.toContain("averaged over the scales")
})

test("a diagnosis of another evaluation is made again", async () => {
  const run = RunFolder.open(runs[1])
  const diagnosis = () => JSON.parse(readFileSync(run.file("diagnosis.json"), "utf8"))
  const before = diagnosis()
  await evaluateRun(run) // as "pixelwise eval" does after masks were corrected
  const { evaluated } = JSON.parse(readFileSync(run.file("evaluation.json"), "utf8"))
  expect(evaluated > before.evaluated).toBe(true)
  await writeReport(run, { out: join(folder, "again.html") })
  expect(diagnosis().evaluated > evaluated).toBe(true) // both anew
  expect(diagnosis()).toEqual({ ...before, evaluated: diagnosis().evaluated })
})

test("an older run gets its page, without predictions over time", async () => {
  await writeReport(RunFolder.open(runs[1]))
  checkPage(reportOf(runs[1]))
  expect(reportOf(runs[1])).not.toContain("Predictions over time")
})

test("--no-report leaves it out, and says how to get one", async () => {
  const out = join(folder, "plain")
  const { stdout } = await pixelwise(
    ...["train", "--data", data, "--width", "2", "--depth", "1", "--crop", "32", "--batch-size", "4"],
    ...["--steps", "2", "--evaluations", "1", "--no-report", "--out", out],
  )
  expect(existsSync(join(out, "report.html"))).toBe(false)
  expect(stdout).toContain(`npx pixelwise report ${out}`)
})

test.each([
  [["compare", runs[0]], "There is nothing to compare"],
  [["report", runs[0], "--out", join(folder, "no", "where.html")], "does not exist"],
  [["report", runs[0], "--out", folder], `is a folder; expected a file: ${join(folder, "report.html")}.`],
  [["report", runs[0], "--flip"], "for a page of another kind say where it goes: --out flipped.html"],
])("%o: one sentence", async (args, sentence) => {
  const { code, stdout, stderr } = await pixelwise(...args)
  expect([code, stdout]).toEqual([2, ""])
  expect(stderr.trim().split("\n")).toEqual([expect.stringContaining(sentence)])
})

test("a run whose data is gone still has a page, without pictures", async () => {
  renameSync(data, `${data}.away`)
  const out = join(folder, "gone.html")
  await writeReport(RunFolder.open(runs[0]), { out }).finally(() => renameSync(`${data}.away`, data))
  const html = readFileSync(out, "utf8")
  checkPage(html)
  expect(html).toContain("is not there now, so there are no pictures")
})
