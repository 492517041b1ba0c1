import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { afterEach, beforeEach, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { ones, tidy } from "./index.ts"
import { saveSafetensors } from "./safetensors.ts"
import { loadWeightFile } from "./weight-file.ts"

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-weights-"))
  path = join(folder, "weights.bin")
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const names = (): string[] => tidy(() => [...loadWeightFile(path).tensors.keys()])

test("the content decides, not the extension; prefixes go when all names have them", () => {
  const save = (...keys: string[]) =>
    tidy(() => saveSafetensors(path, new Map(keys.map((key) => [key, ones([1])])), { note: "x" }))
  save("module.a.weight", "module.b")
  expect(names()).toEqual(["a.weight", "b"])
  save("_orig_mod.module.a", "_orig_mod.module.b")
  expect(names()).toEqual(["a", "b"])
  save("module.a", "b")
  expect(names()).toEqual(["module.a", "b"])
  save("modules.a")
  expect(names()).toEqual(["modules.a"])
  expect(tidy(() => loadWeightFile(path)).metadata).toEqual({ note: "x" })
  expect(() => loadWeightFile(path, { key: "ema" })).toThrow('one state dict, and no key "ema"')
  save()
  expect(names()).toEqual([])

  for (const name of ["parallel.pth", "nested-legacy.pth"]) {
    copyFileSync(fileURLToPath(new URL(`../../tests/parity/golden/${name}`, import.meta.url)), path)
    expect(names()).toContain("0.weight")
  }
})

test.each<[what: string, content: string | Buffer, message: RegExp]>([
  ["nothing", "", /it is empty\. Was the download cut off\?/],
  ["a web page", "\n<!DOCTYPE html><html>", /it is a web page, not weights/],
  ["an error in XML", '<?xml version="1.0"?><Error>', /it is a web page/],
  ["a git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0", /git-lfs pointer/],
  ["gzip", gzipSync("x"), /compressed by gzip/],
  ["HDF5", Buffer.from("\x89HDF\r\n\x1a\n", "latin1"), /HDF5, as Keras writes/],
  ["NumPy", Buffer.from("\x93NUMPY\x01\x00", "latin1"), /an array of NumPy/],
  ["JSON", '{"weight_map": {}}', /it is JSON/],
  ["ONNX", Buffer.from("\x08\x07\x12\x07pytorch", "latin1"), /an ONNX model/],
  [
    "a tar archive",
    Buffer.concat([Buffer.alloc(257), Buffer.from("ustar"), Buffer.alloc(250)]),
    /as PyTorch 0\.1 wrote/,
  ],
  ["another zip archive", Buffer.from("PK\x03\x04", "latin1"), /a zip archive/],
  ["another pickle", Buffer.from("\x80\x04N.", "latin1"), /a pickle, but torch\.save did not make it/],
  ["a picture", Buffer.from("\xff\xd8\xff\xe0", "latin1"), /neither a \.safetensors file nor a PyTorch checkpoint/],
  ["one byte", "\x1f", /neither a/],
])("%s is refused, and named", (_, content, message) => {
  writeFileSync(path, content)
  expect(() => loadWeightFile(path)).toThrow(message)
  expect(() => loadWeightFile(path)).toThrow(UserError)
  expect(() => loadWeightFile(path)).toThrow(new RegExp(`^Cannot read weights ${path}: .*[.?]$`))
})

test("a folder, and nothing", () => {
  expect(() => loadWeightFile(folder)).toThrow(`Cannot read weights ${folder}: it is a folder, not a file.`)
  expect(() => loadWeightFile(join(folder, "none"))).toThrow(/it does not exist\.$/)
})
