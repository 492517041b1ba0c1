import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test, vi } from "vitest"
import { UserError } from "../errors.ts"
import { arange, type DType, full, liveTensors, randn, type Tensor, tensor, tidy, zeros } from "./index.ts"
import { loadSafetensors, saveSafetensors } from "./safetensors.ts"

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-safetensors-"))
  path = join(folder, "model.safetensors")
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** A file of any header (an object, or its text) and so many data bytes. */
function write(header: unknown, dataBytes: number): void {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(dataBytes, 1)]))
}

const f32 = (shape: unknown, begin: unknown, end: unknown) => ({ dtype: "F32", shape, data_offsets: [begin, end] })

test("every dtype comes back bit for bit, in order, with its metadata", () =>
  tidy(() => {
    const dtypes: DType[] = [
      "bool",
      "uint8",
      "float16",
      "float64",
      "int64",
      "int8",
      "bfloat16",
      "int16",
      "float32",
      "int32",
    ]
    const tensors = new Map<string, Tensor>(dtypes.map((dtype) => [`x.${dtype}`, arange(3).to({ dtype })]))
    tensors.set("1", full([2, 2], Number.NaN)) // a name that looks like an array index must keep its place
    tensors.set('scalar ä " \\ \n 0', tensor(-0.5))
    tensors.set("empty", zeros([2, 0, 3]))
    tensors.set("__proto__", zeros([1]))
    tensors.set("view", randn([4, 3]).transpose(0, 1).narrow(1, 1, 2))
    const metadata = { epoch: "3", ключ: "значение" }
    saveSafetensors(path, tensors, metadata)

    const loaded = loadSafetensors(path)
    expect(loaded.metadata).toEqual(metadata)
    expect([...loaded.tensors.keys()]).toEqual([...tensors.keys()])
    for (const [name, original] of tensors) {
      const copy = loaded.tensors.get(name) as Tensor
      expect(copy.signature).toBe(original.signature)
      expect(copy.data()).toEqual(original.data())
    }
    expect(readdirSync(folder)).toEqual(["model.safetensors"])
  }))

test("the file is what the format says: aligned header, aligned elements, the same bytes each time", () =>
  tidy(() => {
    const tensors = new Map([
      ["flags", tensor([1, 0, 1], { dtype: "bool" })],
      ["weight", tensor([1.5, -2])],
    ])
    saveSafetensors(path, tensors)
    const bytes = readFileSync(path)
    const header = Number(bytes.readBigUInt64LE())
    expect(header % 8).toBe(0)
    expect(JSON.parse(bytes.toString("utf8", 8, 8 + header))).toEqual({
      flags: { dtype: "BOOL", shape: [3], data_offsets: [8, 11] },
      weight: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
    })
    expect(bytes.toString("hex", 8 + header)).toBe("0000c03f000000c0010001") // 1.5, -2, true, false, true
    saveSafetensors(path, tensors)
    expect(readFileSync(path)).toEqual(bytes)
  }))

test("elements that are not aligned, no tensors at all, and bool bytes other than 0 and 1", () =>
  tidy(() => {
    write({ flag: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] }, x: f32([2], 1, 9) }, 9)
    const bytes = readFileSync(path)
    bytes[bytes.length - 9] = 7
    writeFileSync(path, bytes)
    const { tensors } = loadSafetensors(path)
    expect(tensors.get("flag")?.data()).toEqual(Uint8Array.of(1))
    expect(tensors.get("x")?.shape).toEqual([2])
    write("{}", 0)
    expect(loadSafetensors(path)).toEqual({ tensors: new Map(), metadata: {} })
  }))

// Each of these is a file that somebody could send us.
const hostile: [what: string, header: unknown, dataBytes: number, message: RegExp][] = [
  ["no JSON", "{", 0, /header is not JSON/],
  ["invalid UTF-8", Buffer.from([0x22, 0xff, 0x22]).toString("latin1"), 0, /not a JSON object/],
  ["an array", [], 0, /not a JSON object/],
  ["null", "null", 0, /not a JSON object/],
  ["deep nesting", `{"a":${"[".repeat(1e6)}${"]".repeat(1e6)}}`, 0, /not JSON|not described by an object/],
  ["a name of many megabytes", { ["n".repeat(8e6)]: f32([1], 0, 3) }, 3, /tensor "n{80}"\.\.\. of shape \[1\] needs 4/],
  ["many escapes", { ['"\\'.repeat(2e6)]: f32([1], 0, 3) }, 3, /header is not JSON/],
  [
    "a key twice",
    '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061" :{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    4,
    /"a" twice/,
  ],
  ["metadata of numbers", { __metadata__: { a: 1 } }, 0, /__metadata__ must hold strings/],
  ["metadata that is a list", { __metadata__: [], a: 1 }, 0, /__metadata__ must hold strings/],
  ["a tensor that is null", { a: null }, 0, /"a" is not described/],
  ["an unknown dtype", { a: { ...f32([1], 0, 4), dtype: "F8_E4M3" } }, 4, /dtype "F8_E4M3"; expected one of F32/],
  ["a dtype from a prototype", { a: { ...f32([1], 0, 4), dtype: "toString" } }, 4, /dtype "toString"/],
  ["a negative size", { a: f32([-1], 0, 4) }, 4, /has shape \[-1\]/],
  ["a fraction of a size", { a: f32([1.5], 0, 4) }, 4, /has shape/],
  ["a size that is text", { a: f32(["1"], 0, 4) }, 4, /has shape/],
  ["a shape that is no array", { a: f32({ length: 1 }, 0, 4) }, 4, /has shape/],
  ["65 axes", { a: f32(Array(65).fill(1), 0, 4) }, 4, /has shape/],
  [
    "a product that overflows 64 bits to 4",
    { a: f32([2 ** 32, 2 ** 32, 1], 0, 4) },
    4,
    /needs 7\d+ F32 bytes, it has 4/,
  ],
  ["one offset", { a: { dtype: "F32", shape: [1], data_offsets: [4] } }, 4, /has data_offsets/],
  ["end before begin", { a: f32([1], 4, 0) }, 4, /needs 4 F32 bytes, it has -4/],
  ["negative offsets", { a: f32([1], -4, 0) }, 4, /has data_offsets/],
  ["overlap", { a: f32([1], 0, 4), b: f32([2], 0, 8) }, 8, /"b" begins at byte 0, expected 4/],
  ["a gap", { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, /"b" begins at byte 8, expected 4/],
  ["a terabyte that is not there", { a: f32([2 ** 38], 0, 2 ** 40) }, 4, /truncated: \d+ bytes, expected 1099511/],
  ["data that nobody describes", { a: f32([1], 0, 4) }, 5, /damaged: \d+ bytes, expected/],
]
test.each(hostile)("refuses %s", (_, header, dataBytes, message) => {
  write(header, dataBytes)
  const live = liveTensors()
  expect(() => loadSafetensors(path)).toThrow(message)
  expect(() => loadSafetensors(path)).toThrow(UserError)
  expect(() => loadSafetensors(path)).toThrow(new RegExp(`^Cannot read weights ${path}: .*\\.$`))
  expect(liveTensors()).toBe(live)
})

test("refuses a file cut off at any byte", () => {
  tidy(() =>
    saveSafetensors(
      path,
      new Map([
        ["a", tensor([1, 2])],
        ["b", tensor([3])],
      ]),
      { note: "x" },
    ),
  )
  const { length } = readFileSync(path)
  for (let bytes = length - 1; bytes >= 0; bytes--) {
    truncateSync(path, bytes)
    expect(() => loadSafetensors(path)).toThrow(UserError)
  }
})

test("names are escaped, and a bug of our own is not the file's fault", () => {
  write({ "\x1b[2J\u202e": f32([1], 0, 3) }, 3)
  expect(() => loadSafetensors(path)).toThrow(/tensor "\\u001b\[2J\\u\{202e\}" of shape/)
  write({ a: f32([1], 0, 4) }, 4)
  vi.spyOn(Array.prototype, "toSorted").mockImplementationOnce(() => {
    throw new TypeError("ours")
  })
  expect(() => loadSafetensors(path)).toThrow(new TypeError("ours"))
})

test("refuses a header longer than is sensible before reading it, a terabyte of nothing, a folder, and nothing", () => {
  writeFileSync(path, Buffer.alloc(16, 0xff))
  expect(() => loadSafetensors(path)).toThrow(/header of 18446744073709551615 bytes, expected at most/)
  const bytes = 2 ** 40
  write({ a: { dtype: "U8", shape: [bytes], data_offsets: [0, bytes] } }, 0)
  truncateSync(path, readFileSync(path).length + bytes) // sparse: it takes no room on the disk
  expect(() => loadSafetensors(path)).toThrow(/needs 2048.0 GiB of memory, this machine has/)
  expect(() => loadSafetensors(folder)).toThrow(`Cannot read weights ${folder}: it is a folder, not a file.`)
  expect(() => loadSafetensors(join(folder, "none"))).toThrow(/it does not exist\.$/)
})

test("a failed save leaves the old file alone", () =>
  tidy(() => {
    saveSafetensors(path, new Map([["a", tensor([1])]]))
    const old = readFileSync(path)
    const gone = tensor([1])
    gone.dispose()
    expect(() => saveSafetensors(path, new Map([["a", gone]]))).toThrow(/disposed/)
    expect(() => saveSafetensors(path, new Map([["c", tensor([1]).to({ dtype: "complex64" })]]))).toThrow(
      /has no complex64/,
    )
    expect(() => saveSafetensors(path, new Map([["__metadata__", tensor([1])]]))).toThrow(/__metadata__/)
    expect(() => saveSafetensors(path, new Map(), { epoch: 3 as unknown as string })).toThrow(
      /metadata epoch is a number/,
    )
    expect(readFileSync(path)).toEqual(old)
    expect(readdirSync(folder)).toEqual(["model.safetensors"])
  }))

const weights = new URL("../../../shared/data/weights/", import.meta.url)
test.skipIf(!existsSync(weights))(
  "reads the weights that others wrote (skipped where ../shared/data/weights is absent)",
  () =>
    tidy(() => {
      const { tensors, metadata } = loadSafetensors(
        new URL("mobilenet_v2_0.35_224_features.safetensors", weights).pathname,
      )
      expect(tensors.size).toBe(260)
      expect(tensors.get("features.0.0.weight")?.signature).toBe("float32[16, 3, 3, 3]")
      expect(metadata.preprocess).toBe("x/127.5-1 RGB")
      // golden: python3, struct.unpack of the same bytes; the sum in float64
      const first = tensors.get("features.0.0.weight") as Tensor
      expect(first.data().slice(0, 3)).toEqual(Float32Array.of(0.05361931, -0.24111664, 0.19482625))
      expect(tensors.get("features.18.1.running_var")?.sum({ dtype: "float64" }).item()).toBeCloseTo(
        2462.6873952150345,
        9,
      )
    }),
)
