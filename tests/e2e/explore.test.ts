// pixelwise explore as a user calls it.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const out = join(folder, "page.html")
const maskOf = (id: string) => join(data, "SegmentationClass", `${id}.png`)
const ids = () =>
  readFileSync(join(data, "ImageSets", "Segmentation", "val.txt"), "utf8")
    .trim()
    .split("\n")

beforeAll(() => generateShapes(data, { train: 10, val: 4, size: [64, 64], seed: 3 }))

test("writes a page and prints a summary; a data set without serious problems ends with 0, strictly too", async () => {
  const { code, stdout, stderr } = await pixelwise("explore", "--data", data, "--out", out, "--strict")
  expect(code).toBe(0)
  expect(stdout).toMatch(/^list +ids +images +masks +void %\n-+\ntrain +10 +10 +10 .+\nval +4 +4 +4 /)
  expect(stdout).toMatch(/\nbackground +\d/)
  expect(stdout).toMatch(/Saying background everywhere is right on \d+(\.\d)? % of the pixels; its mean IoU is/)
  expect(stderr).toContain(`Wrote ${out}: open it in a browser.`)
  expect(readFileSync(out, "utf8")).toMatch(/^<!doctype html>.+<\/html>\s*$/s)
})

test("a serious problem is told, and ends with 1 only when asked to; --json is one object with everything", async () => {
  writeFileSync(maskOf(ids()[1]!), "")
  const lax = await pixelwise("explore", "--data", data, "--out", out)
  expect(lax.code).toBe(0)
  expect(lax.stdout).toContain(
    `Serious problems\n  Masks that cannot be read: 1 mask\n    SegmentationClass/${ids()[1]}.png: it is empty`,
  )
  const strict = await pixelwise("explore", "--data", data, "--out", out, "--strict", "--json", "--split", "val")
  expect(strict.code).toBe(1)
  const value = JSON.parse(strict.stdout)
  expect(value).toMatchObject({ data, page: out, ids: 4, images: 4, masks: 3, lists: [{ name: "val", ids: 4 }] })
  expect(value.problems[0]).toMatchObject({
    ...{ problem: "unreadableMasks", severity: "error", count: 1 },
    findings: [{ where: [`SegmentationClass/${ids()[1]}.png`], detail: "it is empty" }],
  })
  expect(Object.keys(value.classWeights)).toEqual(["inverse", "median", "enet", "effective"])
})

test("bad input is one sentence and 2, before any work, and writes nothing", async () => {
  rmSync(out, { force: true })
  for (const [args, says] of [
    [["--data", join(folder, "no")], "Cannot open the data set folder"],
    [["--data", data, "--split", "trian"], 'Did you mean "train"?'],
    [["--data", data, "--split", "train,"], '--split is "train,"; expected names of lists'],
    [["--data", data, "--out", join(folder, "no", "x.html")], "does not exist"],
    [["--data", data, "--out", folder], "is a folder"],
    [[], "--data"],
  ] as [string[], string][]) {
    const { code, stdout, stderr } = await pixelwise(
      "explore",
      ...(args.includes("--out") ? [] : ["--out", out]),
      ...args,
    )
    expect([code, stdout]).toEqual([2, ""])
    expect(stderr.trim().split("\n")).toHaveLength(1)
    expect(stderr).toContain(says)
  }
  expect(existsSync(out)).toBe(false)
})
