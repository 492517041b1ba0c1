// Reads and writes .safetensors: weights without code in them, so that a downloaded file can do no harm.
// 8 bytes header length (little-endian), a JSON header { name: { dtype, shape, data_offsets } }, then the elements.
// https://huggingface.co/docs/safetensors
import { writeFileAtomic } from "../files.ts"
import { fromData } from "./create.ts"
import { bytesPerElement, type DType } from "./dtype.ts"
import { gib, type OpenFile, readBytes, readingWeights, show, Unreadable } from "./file-bytes.ts"
import { memory } from "./runtime.ts"
import type { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

const codes = {
  float32: "F32",
  float64: "F64",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
} as const satisfies Partial<Record<DType, string>>
const dtypes = new Map<unknown, DType>(Object.entries(codes).map(([dtype, code]) => [code, dtype as DType]))

const MAX_HEADER = 16 * 2 ** 20 // bytes; a model of 1,000 tensors needs 0.1 MB, and JSON takes ten times its size in memory

interface Entry {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  /** Bytes from the end of the header. */
  readonly begin: number
  readonly end: number
}

/**
 * All tensors of a file, in the order of its header, and its notes (`__metadata__`).
 * @throws UserError when the file cannot be read, is damaged or truncated, or holds a dtype that we do not have
 */
export function loadSafetensors(path: string): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  return readingWeights(path, (file) => {
    const { entries, metadata, dataStart } = readHeader(file)
    const tensors = tidy(
      () =>
        new Map(
          entries.map(({ name, dtype, shape, begin, end }) => [
            name,
            fromData(readBytes(file, dataStart + begin, end - begin), shape, { dtype }),
          ]),
        ),
    )
    return { tensors, metadata }
  })
}

/**
 * Writes tensors and notes, complete or not at all. The header keeps the order of `tensors`; the elements stand by
 * decreasing element size, so that each tensor begins at a multiple of its own.
 * @throws UserError when the file cannot be written
 */
export function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string")
      throw new TypeError(`saveSafetensors: metadata ${key} is a ${typeof value}; expected a string.`)
  }
  const header = new Map<string, unknown>()
  if (Object.keys(metadata).length > 0) header.set("__metadata__", metadata)
  for (const name of tensors.keys()) {
    if (name === "__metadata__") throw new TypeError("saveSafetensors: no tensor can be named __metadata__.")
    header.set(name, undefined)
  }

  const inFile = [...tensors].sort(([, a], [, b]) => bytesPerElement[b.dtype] - bytesPerElement[a.dtype])
  let end = 0
  for (const [name, tensor] of inFile) {
    const { dtype, shape } = tensor
    const code = codes[dtype as keyof typeof codes]
    if (!code) throw new TypeError(`saveSafetensors: ${name} is ${tensor.signature}; the format has no ${dtype}.`)
    const begin = end
    end += tensor.numel * bytesPerElement[dtype]
    header.set(name, { dtype: code, shape, data_offsets: [begin, end] })
  }

  // By hand, because an object would put names that look like integers first.
  const json = Buffer.from(`{${[...header].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)}}`)
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, " ")
  padded.set(json)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))
  writeFileAtomic(
    path,
    (function* () {
      yield length
      yield padded
      for (const [, tensor] of inFile) {
        const data = tensor.data()
        yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      }
    })(),
  )
}

// --- the header, where everything is checked before any tensor is made -------------------------------------------------

function readHeader(file: OpenFile): { entries: Entry[]; metadata: Record<string, string>; dataStart: number } {
  const { size } = file
  if (size < 8) throw new Unreadable(`it is no .safetensors file: ${size} bytes, expected at least 8`)
  const length = readBytes(file, 0, 8).readBigUInt64LE()
  if (length > MAX_HEADER)
    throw new Unreadable(`it is no .safetensors file: a header of ${length} bytes, expected at most ${MAX_HEADER}`)
  const dataStart = 8 + Number(length)
  if (dataStart > size) throw new Unreadable(`it is truncated: ${size} bytes, its header alone needs ${dataStart}`)

  const described = parseHeader(readBytes(file, 8, Number(length)))
  const metadata = described.get("__metadata__") ?? {}
  described.delete("__metadata__")
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new Unreadable("it is damaged: __metadata__ must hold strings")
  }
  const entries = [...described].map(([name, value]) => entry(name, value))

  // The elements must fill the rest of the file without gap or overlap: nothing is hidden, nothing is read twice.
  let at = 0
  let largest = 0
  for (const { name, begin, end } of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== at)
      throw new Unreadable(`it is damaged: tensor ${show(name)} begins at byte ${begin}, expected ${at}`)
    at = end
    largest = Math.max(largest, end - begin)
  }
  if (dataStart + at > size) throw new Unreadable(`it is truncated: ${size} bytes, expected ${dataStart + at}`)
  if (dataStart + at < size) throw new Unreadable(`it is damaged: ${size} bytes, expected ${dataStart + at}`)
  const { limitBytes } = memory()
  if (at + largest > limitBytes)
    throw new Unreadable(`it needs ${gib(at + largest)} GiB of memory, this machine has ${gib(limitBytes)}`)
  return { entries, metadata: metadata as Record<string, string>, dataStart }
}

function parseHeader(bytes: Buffer): Map<string, unknown> {
  let header: unknown
  let keys: string[]
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
    header = JSON.parse(text)
    keys = keysOf(text)
  } catch (cause) {
    throw new Unreadable("it is damaged: its header is not JSON", { cause })
  }
  if (!isRecord(header)) throw new Unreadable("it is damaged: its header is not a JSON object")
  const described = new Map<string, unknown>()
  for (const key of keys) {
    if (described.has(key)) throw new Unreadable(`it is damaged: its header has ${show(key)} twice`)
    described.set(key, header[key])
  }
  return described
}

/** Keys of the outermost object as they stand in the text: JSON.parse drops repeated ones and moves "0" to the front. @param json valid */
function keysOf(json: string): string[] {
  const keys: string[] = []
  let depth = 0
  for (const [token, string] of json.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")\s*:|"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth++
    else if (token === "}" || token === "]") depth--
    else if (depth === 1 && string) keys.push(JSON.parse(string))
  }
  return keys
}

function entry(name: string, value: unknown): Entry {
  const wrong = (what: string) => new Unreadable(`it is damaged: tensor ${show(name)} ${what}`)
  if (!isRecord(value)) throw wrong("is not described by an object")
  const { dtype: code, shape, data_offsets: offsets } = value
  const dtype = dtypes.get(code)
  if (!dtype)
    throw new Unreadable(
      `tensor ${show(name)} has dtype ${show(code)}; expected one of ${[...dtypes.keys()].join(", ")}`,
    )
  if (!isSizes(shape) || shape.length > 64) throw wrong(`has shape ${show(shape)}`)
  if (!isSizes(offsets) || offsets.length !== 2) throw wrong(`has data_offsets ${show(offsets)}`)
  const [begin, end] = offsets as [number, number]
  // Doubles do not overflow. Where the product is not exact it is above 2^53, and equals no file's length.
  const bytes = shape.reduce((product, size) => product * size, bytesPerElement[dtype])
  if (begin + bytes !== end)
    throw wrong(`of shape [${shape.join(", ")}] needs ${bytes} ${code} bytes, it has ${end - begin}`)
  return { name, dtype, shape, begin, end }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0)
