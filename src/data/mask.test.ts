import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, expect, test } from "vitest"
import { parseLabelMap, selectClasses, vocColor } from "./label-map.ts"
import { maskReader } from "./mask.ts"
import { writeIndexedPng } from "./png.ts"

const folder = mkdtempSync(join(tmpdir(), "mask-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test("labels come out one by one as the classes were chosen, in masks of any length and runs of any length", () => {
  const source = parseLabelMap(["background", "cat", "dog", "cow"], "the test")
  const { lookup } = selectClasses(source, { classes: ["background", "cat"], others: "background" })
  const read = maskReader(source, lookup)
  const palette = Array.from({ length: 256 }, (_, index) => vocColor(index))
  const file = join(folder, "mask.png")
  const runs = fc.array(fc.tuple(fc.constantFrom(0, 1, 2, 3, 255), fc.integer({ min: 1, max: 11 })), { minLength: 1 })
  fc.assert(
    fc.property(runs, (runs) => {
      const indices = Uint8Array.from(runs.flatMap(([label, length]) => Array<number>(length).fill(label)))
      writeFileSync(file, writeIndexedPng(indices, indices.length, 1, palette))
      const expected = new Map([
        [0, 0],
        [1, 1],
        [2, 0],
        [3, 0],
        [255, 255],
      ])
      expect([...read(file).labels]).toEqual([...indices].map((index) => expected.get(index)))
    }),
  )
})
