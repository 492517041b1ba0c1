import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { UserError } from "./errors.ts"
import { copyFileAtomic, writeFileAtomic } from "./files.ts"

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-files-"))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test("writes text, bytes and chunks, and leaves nothing else in the folder", () => {
  writeFileAtomic(join(folder, "text"), "häuser")
  writeFileAtomic(join(folder, "bytes"), Uint8Array.of(1, 2, 3))
  writeFileAtomic(join(folder, "chunks"), [Uint8Array.of(1), Uint8Array.of(), Uint8Array.of(2, 3)])
  writeFileAtomic(join(folder, "empty"), [])
  expect(readFileSync(join(folder, "text"), "utf8")).toBe("häuser")
  expect([...readFileSync(join(folder, "bytes"))]).toEqual([1, 2, 3])
  expect([...readFileSync(join(folder, "chunks"))]).toEqual([1, 2, 3])
  expect(readFileSync(join(folder, "empty")).length).toBe(0)
  expect(readdirSync(folder).sort()).toEqual(["bytes", "chunks", "empty", "text"])
})

test("a failure in the middle keeps the old file and removes the temporary one", () => {
  const path = join(folder, "model")
  writeFileAtomic(path, "old")
  const failing = function* () {
    yield Uint8Array.of(1, 2, 3)
    throw new RangeError("the third chunk cannot be made")
  }
  expect(() => writeFileAtomic(path, failing())).toThrow(RangeError)
  expect(readFileSync(path, "utf8")).toBe("old")
  expect(readdirSync(folder)).toEqual(["model"])
})

test("what the file system refuses is one sentence with the path", () => {
  const missing = join(folder, "no", "model")
  expect(() => writeFileAtomic(missing, "x")).toThrow(
    new UserError(`Cannot write ${missing}: the folder ${join(folder, "no")} does not exist.`),
  )
  expect(() => writeFileAtomic(folder, "x")).toThrow(UserError) // a folder of that name
  writeFileSync(join(folder, "file"), "")
  expect(() => writeFileAtomic(join(folder, "file", "model"), "x")).toThrow(/part of its path is a file/)
  expect(() => writeFileAtomic(join(folder, "n".repeat(300)), "x")).toThrow(/name is too long/)
  expect(readdirSync(folder)).toEqual(["file"])
})

test("a copy is there as a whole, its source stays, and nothing else is left", () => {
  const [from, to] = [join(folder, "last"), join(folder, "earlier")]
  writeFileAtomic(from, "new")
  writeFileAtomic(to, "old")
  copyFileAtomic(from, to)
  expect([readFileSync(from, "utf8"), readFileSync(to, "utf8")]).toEqual(["new", "new"])
  expect(() => copyFileAtomic(join(folder, "none"), to)).toThrow(/Cannot copy .*: it does not exist/)
  expect(readFileSync(to, "utf8")).toBe("new")
  expect(readdirSync(folder).sort()).toEqual(["earlier", "last"])
})
