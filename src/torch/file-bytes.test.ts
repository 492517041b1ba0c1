import { mkdtempSync, readSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test, vi } from "vitest"
import { UserError } from "../errors.ts"
import { readBytes, readingWeights, show, showName, Unreadable } from "./file-bytes.ts"

vi.mock("node:fs", async (original) => {
  const fs = await original<typeof import("node:fs")>()
  return { ...fs, readSync: vi.fn(fs.readSync) }
})

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-bytes-"))
  path = join(folder, "weights")
  writeFileSync(path, "0123456789")
})
afterEach(() => {
  vi.mocked(readSync).mockReset()
  rmSync(folder, { recursive: true, force: true })
})

test("reads of several GiB are made in parts that Node takes", () => {
  const parts: unknown[] = []
  const pretend = (_: number, __: unknown, ...part: unknown[]) => {
    parts.push(part)
    return Math.min(part[1] as number, 2 ** 30)
  }
  vi.mocked(readSync).mockImplementation(pretend as typeof readSync)
  const length = 2 ** 31 + 5
  expect(readBytes({ descriptor: 0, size: 2 ** 40 }, 7, length)).toHaveLength(length) // never touched: it takes no memory
  expect(parts).toEqual([
    [0, 2 ** 30, 7],
    [2 ** 30, 2 ** 30, 7 + 2 ** 30],
    [2 ** 31, 5, 7 + 2 ** 31],
  ])
})

test("the file's faults are the user's to mend, ours are not", () => {
  const read = (problem: Error) => () =>
    readingWeights(path, () => {
      throw problem
    })
  expect(readingWeights(path, (file) => String(readBytes(file, 2, 3)))).toBe("234")
  expect(read(new Unreadable("it is green"))).toThrow(new UserError(`Cannot read weights ${path}: it is green.`))
  expect(() => readingWeights(path, (file) => readBytes(file, 2, 9))).toThrow(/became shorter while it was read\.$/)
  expect(read(new TypeError("x is undefined"))).toThrow(TypeError)
})

test.each<[value: unknown, shown: string]>([
  ["plain", '"plain"'],
  ['"\\\n\x1b[2J', '"\\"\\\\\\n\\u001b[2J"'],
  ["\x7f\x9b2J\u202e\u2066\u200b\u2028\ufeff", '"\\u{7f}\\u{9b}2J\\u{202e}\\u{2066}\\u{200b}\\u{2028}\\u{feff}"'],
  ["ünï 层 🙂", '"ünï 层 🙂"'],
  ["x".repeat(1e6), `"${"x".repeat(80)}"...`],
  [7, "7"],
  [10n ** 200n, `1${"0".repeat(99)}...`],
  [null, "null"],
  [[2, -1], "[2, -1]"],
  [Array(1000).fill(1), `[${"1, ".repeat(33)}1...]`],
  [["1"], "a list"],
  [new Map(), "an object"],
])("show(%o)", (value, shown) => {
  expect(show(value)).toBe(shown)
})

test("a name that looks like one is shown as it is", () => {
  expect(showName("layer1.0.conv_1.weight")).toBe("layer1.0.conv_1.weight")
  expect(showName("a b")).toBe('"a b"')
  expect(showName("")).toBe('""')
  expect(showName("x".repeat(101))).toBe(`"${"x".repeat(80)}"...`)
})
