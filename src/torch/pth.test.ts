// Checkpoints that somebody could send us: pickles and zip archives written by hand. tests/parity/pth.test.ts has those
// that torch.save wrote.
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { crc32, deflateRawSync } from "node:zlib"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { liveTensors, tidy } from "./index.ts"
import { loadPth } from "./pth.ts"

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-pth-"))
  path = join(folder, "model.pth")
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

// --- pickles, from their operations --------------------------------------------------------------------------------------

type Code = Buffer | string // a string stands for its bytes
const bytes = (...parts: Code[]): Buffer => Buffer.concat(parts.map((part) => Buffer.from(part as string, "latin1")))
const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer)
const int = (value: number): Buffer => bytes("\x8a\x08", Buffer.from(BigInt64Array.of(BigInt(value)).buffer))
const text = (value: string): Buffer => bytes("X", u32(Buffer.byteLength(value)), Buffer.from(value))
const tuple = (...parts: Code[]): Buffer => bytes("(", ...parts, "t")
const dict = (...items: Code[]): Buffer => bytes("}(", ...items, "u")
const storage = (type = "FloatStorage", key = "0", count: Code = int(2), more: Code = ""): Buffer =>
  bytes(tuple(text("storage"), `ctorch\n${type}\n`, text(key), text("cpu"), count, more), "Q")
const rebuild = (...args: Code[]): Buffer => bytes("ctorch._utils\n_rebuild_tensor\n", tuple(...args), "R")
/** A tensor in a storage of two float32. */
const view = (offset: number, shape: number[], strides: number[]): Buffer =>
  rebuild(storage(), int(offset), tuple(...shape.map(int)), tuple(...strides.map(int)))
const weight = view(0, [2], [1])

const count = (elements: number): Buffer => int(elements).subarray(2)
const two = bytes("\0\0\x80\x3f\0\0\0\x40") // 1 and 2 in float32
const magic = bytes("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
/** A file of the older format; its one storage is there when the pickle speaks of one. */
function legacy(pickle: Code, given: { keys?: Code; data?: Code; system?: Code } = {}): Buffer {
  const used = bytes(pickle).includes("Storage")
  const {
    keys = used ? bytes("]", text("0"), "a") : "]",
    data = used ? bytes(count(2), two) : "",
    system = "}",
  } = given
  return bytes(magic, int(1001), ".", system, ".", pickle, ".", keys, ".", data)
}

interface Zipped {
  name: string
  content: Buffer
  deflate?: boolean
  /** What the directory claims instead. */
  claims?: { size?: number; compressedSize?: number; offset?: number; crc?: number; flags?: number; method?: number }
}

function zip(entries: Zipped[], { entryCount = entries.length, comment = "" } = {}): Buffer {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const { name, content, deflate = false, claims = {} } of entries) {
    const data = deflate ? deflateRawSync(content) : content
    const header = Buffer.alloc(30)
    header.writeUInt32LE(0x04034b50)
    header.writeUInt16LE(name.length, 26)
    const entry = Buffer.alloc(46)
    entry.writeUInt32LE(0x02014b50)
    entry.writeUInt16LE(claims.flags ?? 0, 8)
    entry.writeUInt16LE(claims.method ?? (deflate ? 8 : 0), 10)
    entry.writeUInt32LE(claims.crc ?? crc32(content), 16)
    entry.writeUInt32LE(claims.compressedSize ?? claims.size ?? data.length, 20)
    entry.writeUInt32LE(claims.size ?? content.length, 24)
    entry.writeUInt16LE(name.length, 28)
    entry.writeUInt32LE(claims.offset ?? at, 42)
    parts.push(header, Buffer.from(name), data)
    directory.push(entry, Buffer.from(name))
    at += 30 + name.length + data.length
  }
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50)
  end.writeUInt16LE(entryCount, 10)
  end.writeUInt32LE(Buffer.concat(directory).length, 12)
  end.writeUInt32LE(at, 16)
  end.writeUInt16LE(comment.length, 20)
  return Buffer.concat([...parts, ...directory, end, Buffer.from(comment)])
}

const archive = (pickle: Code, ...more: Zipped[]): Buffer =>
  zip([{ name: "a/data.pkl", content: bytes(pickle, ".") }, { name: "a/data/0", content: two }, ...more])

function values(file: Buffer): Record<string, unknown> {
  writeFileSync(path, file)
  return tidy(() => Object.fromEntries(Array.from(loadPth(path).tensors, ([name, x]) => [name, x.toArray()])))
}

function refuses(file: Buffer, message: RegExp): void {
  writeFileSync(path, file)
  const live = liveTensors()
  let error: unknown
  try {
    loadPth(path)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(UserError)
  expect((error as Error).message).toMatch(message)
  expect((error as Error).message).toMatch(/^Cannot read weights .*\.$/)
  expect(liveTensors()).toBe(live)
}

test("the hand-written files are read when nothing is wrong with them", () => {
  const state = dict(text("w"), weight)
  expect(values(legacy(state))).toEqual({ w: [1, 2] })
  expect(values(archive(state))).toEqual({ w: [1, 2] })
  expect(
    values(
      zip(
        [
          { name: "x/data.pkl", content: bytes(state, "."), deflate: true },
          { name: "x/data/0", content: two, deflate: true },
          { name: "x/byteorder", content: bytes("little") },
        ],
        { comment: "PK\x05\x06 a comment that looks like an end" },
      ),
    ),
  ).toEqual({ w: [1, 2] })
  expect(values(archive(dict(text("__proto__"), weight, text("a"), view(1, [3], [0]))))).toEqual(
    Object.fromEntries([
      ["__proto__", [1, 2]],
      ["a", [2, 2, 2]],
    ]),
  )
})

describe("pickles", () => {
  const cases: [what: string, pickle: Code, message: RegExp][] = [
    ["os.system", bytes("cos\nsystem\n", tuple(text("ls")), "R"), /asks for os\.system, .*nothing of it was run/],
    ["a global by its name on the stack", bytes(text("builtins"), text("eval"), "\x93"), /asks for builtins\.eval,/],
    ["INST", bytes("(", text("ls"), "ios\nsystem\n"), /asks for os\.system,/],
    ["an allowed name by INST", bytes("(icollections\nOrderedDict\n"), /operation 0x69 is none/],
    ["OBJ", bytes("(ccollections\nOrderedDict\no"), /operation 0x6f is none/],
    [
      "an attribute of something allowed",
      bytes("ccollections\nOrderedDict.__init__\n"),
      /OrderedDict\.__init__, which/,
    ],
    ["a name from a prototype", bytes("cconstructor\n__proto__\n"), /asks for constructor\.__proto__,/],
    ["a name with control characters", bytes("cos\n\x1b[2Jsystem\n"), /asks for "os\.\\u001b\[2Jsystem"/],
    ["a name without end", bytes("c", "o".repeat(5000)), /name of more than 1000 letters/],
    ["a name that is a number", bytes("K\x01K\x02\x93"), /a name that is no string/],
    ["a call of a storage type", bytes("ctorch\nFloatStorage\n)R"), /calls what is no function/],
    ["a call of a list", bytes("])R"), /calls what is no function/],
    ["arguments that are no tuple", bytes("ccollections\nOrderedDict\nK\x01R"), /calls what is no function/],
    ["attributes of a function", bytes("ccollections\nOrderedDict\n}b"), /attributes of something that has none/],
    ["attributes of a number", bytes("K\x01}b"), /attributes of something that has none/],
    ["a remembered thing that is not there", bytes("h\x07"), /number 7, which it has not remembered/],
    ["an empty stack", bytes("a"), /lacks an argument/],
    ["an operation that reaches below its mark", bytes("K\x01(\x85"), /lacks an argument/],
    ["no mark", bytes("]e"), /lacks its mark/],
    ["append to a dict", bytes("}K\x01a"), /appends to something that is no list/],
    ["items of a list", bytes("]K\x01K\x02s"), /sets items of something that is no dict/],
    ["a dict with half an item", bytes("}(K\x01u"), /sets items of something that is no dict/],
    ["a string of 4 GiB", bytes("X", u32(2 ** 32 - 1)), /a string of 4294967295 bytes/],
    ["a string of 2^64 bytes", bytes("\x8d", Buffer.alloc(8, 0xff)), /a string of 18446744073709552000 bytes/],
    ["a string longer than the file", bytes("X", u32(1e6)), /truncated or damaged/],
    ["a string that is not UTF-8", bytes("U\x01\xff"), /not UTF-8/],
    ["protocol 9", bytes("\x80\x09"), /protocol above 5/],
    ["operations of protocol 0", bytes("I1\n"), /operation 0x49 is none that torch\.save writes/],
    ["no dict", bytes("N"), /holds no dict; expected a state dict/],
    ["a list that contains itself", bytes("]q\x00h\x00a"), /holds a list; expected a state dict/],
    ["a dict that contains itself", bytes("}q\x00", text("d"), "h\x00s"), /no state dict; its keys are "d"/],
    ["a dict that is its own key", bytes("}q\x00h\x00h\x00s"), /its keys are an object/],
    ["a dict of numbers as names", dict(int(1), weight), /no state dict; its keys are 1\./],
  ]
  test.each(cases)("%s", (_, pickle, message) => {
    refuses(legacy(pickle), message)
    refuses(archive(pickle), message)
  })

  test("deep nesting, millions of operations, and one list asked for again and again cost little", () => {
    // Each takes 0.1 to 1.5 seconds; what they guard against takes hours, or all memory.
    refuses(archive(bytes("]".repeat(1e6), "a".repeat(1e6 - 1))), /holds a list/)
    refuses(archive(bytes("(".repeat(3e6))), /more than 2097152 operations/)
    refuses(legacy(bytes("}q\x00", "0h\x00".repeat(2e6))), /more than 2097152 operations/)
    const pairs = bytes("](", bytes("K\x01K\x02\x86").toString("latin1").repeat(2e5), "eq\x00")
    const ordered = "ccollections\nOrderedDict\nq\x01"
    refuses(archive(bytes(pairs, ordered, "h\x01h\x00\x85R".repeat(3e5))), /holds no dict|no state dict/)
    const many = bytes("}q\x00(", bytes("K\x01", ordered, ")R").toString("latin1"), "u") // a dict without tensors ...
    const keys = Array.from({ length: 1e5 }, (_, k) => bytes("J", u32(k), "h\x00").toString("latin1")).join("")
    refuses(archive(bytes(many, "0}(", keys, "u")), /no state dict/) // ... under 100,000 keys
  })

  test("a data.pkl of many megabytes is refused before it is read", () => {
    const claims = { size: 2 ** 31, compressedSize: 0, method: 8 }
    refuses(zip([{ name: "a/data.pkl", content: bytes("N."), claims }]), /data\.pkl has 2147483648 bytes/)
  })
})

describe("tensors", () => {
  const x = (tensor: Code) => dict(text("w"), tensor)
  const cases: [what: string, pickle: Code, message: RegExp][] = [
    ["one element too many", x(view(0, [3], [1])), /"w" of shape \[3\] needs 3 elements, its storage has 2/],
    ["an offset beyond", x(view(2, [], [])), /needs 3 elements/],
    ["a stride beyond", x(view(0, [2], [2])), /needs 3 elements/],
    ["a negative offset", x(view(-1, [1], [1])), /an offset, a shape or strides that no tensor has/],
    ["a negative size", x(view(0, [-1], [1])), /that no tensor has/],
    ["a negative stride", x(view(1, [2], [-1])), /that no tensor has/],
    ["a size of 2^60", x(view(0, [2 ** 60], [0])), /that no tensor has/],
    ["a product beyond 2^53", x(view(0, [2 ** 30, 2 ** 30], [0, 0])), /has shape \[1073741824, 1073741824\]/],
    ["the same with nothing in it", x(view(0, [2 ** 30, 2 ** 30, 0], [0, 0, 0])), /has shape/],
    ["one element expanded to 4 TiB", x(view(0, [2 ** 20, 2 ** 20], [0, 0])), /needs 4096\.0 GiB of memory/],
    ["fewer strides than sizes", x(view(0, [1, 1], [1])), /that no tensor has/],
    ["65 axes", x(view(0, Array(65).fill(1), Array(65).fill(1))), /that no tensor has/],
    ["sizes that are text", x(rebuild(storage(), int(0), tuple(text("2")), tuple(int(1)))), /that no tensor has/],
    ["a shape that contains itself", x(rebuild(storage(), int(0), "]q\x00h\x00a", ")")), /that no tensor has/],
    ["no storage", x(rebuild("N", int(0), ")", ")")), /"w" has no storage/],
    ["a parameter of nothing", x(bytes("ctorch._utils\n_rebuild_parameter\n)R")), /a parameter without a tensor/],
    ["an OrderedDict of numbers", x(bytes("ccollections\nOrderedDict\n](K\x01e\x85R")), /other than pairs/],
    ["an id that is no storage", x(bytes(text("0"), "Q")), /refers to something that is no storage/],
    ["a whole module by reference", x(bytes(tuple(text("module"), ")", "N", "N"), "Q")), /no storage/],
    ["a storage of -1 elements", x(rebuild(storage("FloatStorage", "0", int(-1)), int(0), ")", ")")), /no storage/],
    [
      "a storage of two types",
      x(bytes(storage(), storage("LongStorage", "0", int(1)), "\x86")),
      /"0" is described twice, and differently/,
    ],
    ["a quantized storage", x(storage("QInt8Storage")), /holds a torch\.QInt8Storage; expected one of FloatStorage/],
    [
      "a part beyond the storage",
      x(rebuild(storage("FloatStorage", "0", int(2), tuple(text("1"), int(1), int(2))), int(0), ")", ")")),
      /a part of storage "0" lies outside it/,
    ],
    [
      "a storage that is not there",
      x(rebuild(storage("FloatStorage", "9"), int(0), ")", ")")),
      /storage "9" has no bytes, expected 8 for 2 float32|lists the storage "0"/,
    ],
    [
      "a terabyte that is not there",
      x(rebuild(storage("ByteStorage", "0", int(2 ** 40)), int(0), tuple(int(2 ** 40)), tuple(int(1)))),
      /needs 3072\.0 GiB|storage "0" has 2 elements, expected 1099511627776/,
    ],
  ]
  test.each(cases)("%s", (_, pickle, message) => {
    refuses(legacy(pickle), message)
    refuses(archive(pickle), message)
  })

  test("elements that are repeated: a small file asks for little memory, tied weights are read", () => {
    const expanded = (...sizes: number[]) => view(0, sizes, [0, 0])
    const message =
      /have 536870912 bytes and only 8 are stored, expected .* call contiguous\(\) on them before saving\.$/
    refuses(archive(x(expanded(2 ** 14, 2 ** 13))), message)
    refuses(legacy(x(expanded(2 ** 14, 2 ** 13))), message)
    const parts = Array.from({ length: 8 }, (_, k) => bytes(text(`w${k}`), expanded(2 ** 12, 2 ** 12)))
    refuses(archive(dict(...parts)), message) // none of them alone, all together
    expect(values(archive(x(expanded(3, 2))))).toEqual({ w: Array(3).fill([1, 1]) })

    const size = 30 * 2 ** 20
    const whole = rebuild(storage("ByteStorage", "1", int(size)), int(0), tuple(int(size)), tuple(int(1)))
    const content = { name: "a/data/1", content: Buffer.alloc(size) }
    const named = (count: number) => dict(...Array.from({ length: count }, (_, k) => bytes(text(`w${k}`), whole)))
    writeFileSync(path, archive(named(4), content))
    expect(tidy(() => loadPth(path).tensors.size)).toBe(4)
    refuses(archive(named(7), content), /have 220200960 bytes and only 31457280 are stored/)
  })

  test("100,000 empty tensors, and 2,000 views of one storage that stands in the file once", () => {
    const tensors = (count: number, one: Code) =>
      dict(
        Buffer.concat(
          Array.from({ length: count }, (_, k) =>
            bytes(text(String(k)), k === 0 ? one : "", k === 0 ? "q\x00" : "h\x00"),
          ),
        ),
      )
    refuses(archive(tensors(1e5, view(0, [0], [1]))), /holds 100000 tensors, expected at most 50000/)
    const size = 2 ** 20
    const strided = rebuild(storage("ByteStorage", "1", int(size)), int(1), tuple(int(2)), tuple(int(7)))
    const file = archive(tensors(2000, strided), { name: "a/data/1", content: Buffer.alloc(size, 3), deflate: true })
    expect(Object.values(values(file))).toEqual(Array(2000).fill([3, 3]))
  })
})

describe("formats", () => {
  const state = dict(text("w"), weight)
  const good = { name: "a/data.pkl", content: bytes(state, ".") }
  const data = { name: "a/data/0", content: two }

  test("wrong zip archives", () => {
    refuses(zip([{ ...good, content: state }, data]), /truncated or damaged: what it describes goes on after byte/)
    refuses(zip([data]), /a zip archive without data\.pkl/)
    refuses(zip([good, data, { name: "a/constants.pkl", content: bytes("N.") }]), /a TorchScript program/)
    refuses(zip([good, data, { name: "a/byteorder", content: bytes("big") }]), /a big-endian machine wrote it/)
    refuses(zip([good, data, data]), /the entry "a\/data\/0" twice/)
    refuses(zip([good, { ...data, claims: { crc: 1 } }]), /"a\/data\/0" has another checksum/)
    refuses(zip([good, { ...data, claims: { flags: 1 } }]), /is encrypted/)
    refuses(zip([good, { ...data, claims: { method: 12 } }]), /compressed by method 12/)
    refuses(zip([good, { ...data, claims: { compressedSize: 7 } }]), /has two sizes/)
    refuses(zip([good, { ...data, claims: { size: 7 } }]), /storage "0" has 7 bytes, expected 8/)
    refuses(zip([good, { ...data, claims: { offset: 5 } }]), /reaches beyond byte|not where its directory says/)
    refuses(zip([good, { ...data, claims: { offset: 0 } }]), /reaches beyond byte 0, where the next begins/)
    refuses(zip([good, { ...data, claims: { offset: 1e9 } }]), /reaches beyond byte/)
    refuses(zip([good, { ...data, claims: { offset: 0xffffffff } }]), /a zip64 size is missing/)
    refuses(zip([good, { ...data, claims: { size: 1e9 } }]), /reaches beyond byte/)
    refuses(zip([good, data], { entryCount: 3 }), /entry 2 of 3 is not in its directory/)
    refuses(zip([good, data]).subarray(0, -1), /truncated: a zip archive without the directory at its end/)
    refuses(bytes("PK\x03\x04"), /truncated: a zip archive/)
  })

  test("a zip bomb: what inflates to more than it says, or says more than the tensors have", () => {
    const bomb = { name: "a/data/0", content: Buffer.alloc(2 ** 24), deflate: true }
    refuses(
      zip([good, { ...bomb, claims: { size: 8, compressedSize: deflateRawSync(bomb.content).length } }]),
      /is compressed to more|does not inflate to its 8 bytes/,
    )
    refuses(zip([good, bomb]), /storage "0" has 16777216 bytes, expected 8/)
    refuses(zip([{ ...bomb, name: "a/data.pkl" }, data]), /operation 0x0 is none/)
    refuses(zip([{ ...good, claims: { method: 8 } }, data]), /does not inflate/)
  })

  test("wrong files of the older formats", () => {
    refuses(legacy(state, { system: dict(text("little_endian"), "\x89") }), /a big-endian machine wrote it/)
    refuses(legacy(state, { keys: bytes("N") }), /no list of storages/)
    refuses(legacy(state, { keys: bytes("]", text("7"), "a") }), /lists the storage "7"/)
    refuses(legacy(state, { keys: bytes("](", text("0"), text("0"), "e") }), /lists the storage "0"/)
    refuses(legacy(state, { keys: bytes("]q\x00h\x00a") }), /lists the storage a list/)
    refuses(legacy(state, { keys: bytes("]") }), /lacks the storage "0"/)
    refuses(legacy(state, { data: bytes(count(3), two) }), /storage "0" has 3 elements, expected 2/)
    refuses(legacy(state).subarray(0, -1), /truncated: \d+ bytes, expected at least \d+\. Download it again/)
    refuses(bytes("\x80\x02N."), /a pickle, but torch\.save did not make it/)
    refuses(bytes(magic, "K\x07."), /of the version 7; expected 1001/)
    const tar = Buffer.alloc(1024)
    tar.write("ustar", 257)
    refuses(tar, /a tar archive, as PyTorch 0\.1 wrote; load it in PyTorch and save it again/)
    refuses(bytes("GIF89a"), /torch\.save did not make it: it begins with "GIF89a"/)
    refuses(Buffer.alloc(0), /it begins with ""/)
  })

  test("a folder, and nothing", () => {
    expect(() => loadPth(folder)).toThrow(`Cannot read weights ${folder}: it is a folder, not a file.`)
    expect(() => loadPth(join(folder, "none"))).toThrow(/it does not exist\.$/)
  })

  test("a storage of a terabyte in a sparse file is not read", () => {
    const size = 2 ** 40
    const huge = rebuild(storage("ByteStorage", "0", int(size)), int(0), tuple(int(2)), tuple(int(1)))
    writeFileSync(path, legacy(dict(text("w"), huge), { data: count(size) }))
    truncateSync(path, readFileSync(path).length + size)
    expect(() => loadPth(path)).toThrow(/needs 2048\.0 GiB of memory, this machine has/)
  })
})

// Whatever happens to a file on its way: it is read or refused, and nothing else.
const golden = new URL("../../tests/parity/golden/", import.meta.url)
const files = readdirSync(golden).filter((name) => name.endsWith(".pth"))
test.each(files)("%s: cut off anywhere or with changed bytes", (name) => {
  const original = readFileSync(new URL(name, golden))
  const live = liveTensors()
  const attempt = (file: Buffer): void => {
    writeFileSync(path, file)
    try {
      tidy(() => void loadPth(path))
    } catch (error) {
      if (!(error instanceof UserError)) throw error
    }
  }
  const at = fc.nat(original.length - 1)
  fc.assert(
    fc.property(at, (length) => attempt(original.subarray(0, length))),
    { numRuns: 30 },
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(at, fc.nat(255)), { minLength: 1, maxLength: 8 }), (changes) => {
      const file = Buffer.from(original)
      for (const [position, byte] of changes) file[position] = byte
      attempt(file)
    }),
    { numRuns: 80 },
  )
  expect(liveTensors()).toBe(live)
})
