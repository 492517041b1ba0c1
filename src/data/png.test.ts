import { existsSync, readdirSync, readFileSync } from "node:fs"
import { crc32, deflateSync } from "node:zlib"
import fc from "fast-check"
import { decode as fastDecode, encode as fastEncode } from "fast-png"
import sharp from "sharp"
import { describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { decodePng, maxPixels, type Rgb, readPngHeader, writeIndexedPng } from "./png.ts"

// A second encoder, written from the specification and nothing shared with png.ts: any kind, depth, filter, interlace.
type Spec = { width: number; height: number; depth: number; type: number; interlaced: boolean; samples: number[] }
const channelsOf: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }

function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.concat([Buffer.alloc(4), Buffer.from(type, "latin1"), data, Buffer.alloc(4)])
  out.writeUInt32BE(data.length, 0)
  out.writeUInt32BE(crc32(out.subarray(4, -4)), out.length - 4)
  return out
}

function header({ width, height, depth, type, interlaced }: Omit<Spec, "samples">): Buffer {
  const out = Buffer.alloc(13)
  out.writeUInt32BE(width, 0)
  out.writeUInt32BE(height, 4)
  out.set([depth, type, 0, 0, interlaced ? 1 : 0], 8)
  return chunk("IHDR", out)
}

const magic = Buffer.from("89504e470d0a1a0a", "hex")
const plte = chunk(
  "PLTE",
  Uint8Array.from({ length: 768 }, (_, i) => (i * 7) & 255),
)

function filterRow(filter: number, row: number[], above: number[], step: number): number[] {
  return row.map((x, i) => {
    const a = row[i - step] ?? 0
    const b = above[i] ?? 0
    const c = above[i - step] ?? 0
    const p = a + b - c
    const order = [a, b, c].sort((u, v) => Math.abs(p - u) - Math.abs(p - v)) // stable: ties prefer a, then b
    return (x - [0, a, b, Math.floor((a + b) / 2), order[0]!][filter]!) & 255
  })
}

function encode(spec: Spec, filterOf: (row: number) => number): Buffer {
  const { width, height, depth, type, interlaced, samples } = spec
  const channels = channelsOf[type]!
  const passes = interlaced
    ? ["0088", "4088", "0448", "2044", "0224", "1022", "0112"].map((s) => [...s].map(Number))
    : [[0, 0, 1, 1]]
  const raw: number[] = []
  let rows = 0
  for (const [x0, y0, dx, dy] of passes as [number, number, number, number][]) {
    let above: number[] = []
    for (let y = y0; y < height && x0 < width; y += dy) {
      let bits = ""
      for (let x = x0; x < width; x += dx) {
        for (let c = 0; c < channels; c++) {
          bits += samples[(y * width + x) * channels + c]!.toString(2).padStart(depth, "0")
        }
      }
      const row = bits.match(/.{1,8}/g)!.map((byte) => Number.parseInt(byte.padEnd(8, "0"), 2))
      const filter = filterOf(rows++)
      raw.push(filter, ...filterRow(filter, row, above, Math.max(1, (channels * depth) >> 3)))
      above = row
    }
  }
  const packed = deflateSync(Buffer.from(raw))
  const half = packed.length >> 1 // the pixels may be cut into any number of IDAT chunks
  const idat = [chunk("IDAT", packed.subarray(0, half)), chunk("IDAT", packed.subarray(half))]
  return Buffer.concat([magic, header(spec), ...(type === 3 ? [plte] : []), ...idat, chunk("IEND", new Uint8Array())])
}

const kinds = [
  ...[1, 2, 4, 8].map((depth) => ({ type: 0, depth })),
  ...[1, 2, 4, 8].map((depth) => ({ type: 3, depth })),
  ...[2, 4, 6].map((type) => ({ type, depth: 8 })),
  ...[0, 2, 4, 6].map((type) => ({ type, depth: 16 })),
]
const specs = fc
  .record({
    width: fc.integer({ min: 1, max: 19 }),
    height: fc.integer({ min: 1, max: 19 }),
    kind: fc.constantFrom(...kinds),
    interlaced: fc.boolean(),
    seed: fc.integer({ min: 1, max: 2 ** 31 }),
  })
  .map(({ width, height, kind, interlaced, seed }): Spec => {
    let state = seed
    const next = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state >>> (32 - kind.depth)
    }
    const samples = Array.from({ length: width * height * channelsOf[kind.type]! }, next)
    return { width, height, ...kind, interlaced, samples }
  })

const sample: Spec = { width: 3, height: 2, depth: 8, type: 3, interlaced: false, samples: [0, 1, 2, 3, 4, 255] }
const fails = (bytes: Uint8Array) => {
  try {
    decodePng(bytes, "masks/a.png")
  } catch (error) {
    expect(error).toBeInstanceOf(UserError)
    expect((error as Error).message).toMatch(/^Cannot read masks\/a\.png: .+\.$/)
    return (error as Error).message
  }
  throw new Error("decodePng accepted a damaged file")
}

describe("decodePng", () => {
  test("reads every kind, depth, filter and interlace as they were written", () => {
    fc.assert(
      fc.property(specs, fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 7 }), (spec, filters) => {
        const png = decodePng(
          encode(spec, (row) => filters[row % filters.length]!),
          "a.png",
          { allow16Bits: true },
        )
        const bytes = spec.depth === 16 ? spec.samples.flatMap((value) => [value >> 8, value & 255]) : spec.samples
        expect([...png.data]).toEqual(bytes)
        expect([png.width, png.height, png.channels]).toEqual([spec.width, spec.height, channelsOf[spec.type]])
      }),
      { numRuns: 400 },
    )
  })

  test("agrees with fast-png, on its files and on ours", () => {
    const data = Uint8Array.from({ length: 37 * 23 }, (_, i) => (i * i) & 255)
    for (const interlace of ["null", "Adam7"] as const) {
      const file = fastEncode({ width: 37, height: 23, channels: 1, depth: 8, data }, { interlace })
      expect(decodePng(file, "a.png").data).toEqual(data)
      expect(decodePng(file, "a.png").header.interlaced).toBe(interlace === "Adam7")
    }
    const file = encode({ ...sample, interlaced: true }, () => 4)
    expect(decodePng(file, "a.png").data).toEqual(fastDecode(file).data)
    expect(decodePng(file, "a.png").palette).toEqual(fastDecode(file).palette)
  })

  test("agrees with libpng (through sharp) on RGB and on palette colours", async () => {
    const rgb = Uint8Array.from({ length: 31 * 17 * 3 }, (_, i) => (i * 37 + (i >> 3)) & 255)
    const raw = { raw: { width: 31, height: 17, channels: 3 as const } }
    const file = await sharp(rgb, raw).png({ adaptiveFiltering: true, progressive: true }).toBuffer()
    expect(decodePng(file, "a.png")).toMatchObject({
      data: rgb,
      channels: 3,
      header: { color: "rgb", interlaced: true },
    })

    const palette = Array.from({ length: 256 }, (_, i): Rgb => [i, 255 - i, (i * 3) & 255])
    const indices = Uint8Array.from({ length: 300 }, (_, i) => i & 255)
    const expanded = await sharp(writeIndexedPng(indices, 20, 15, palette))
      .raw()
      .toBuffer()
    expect([...expanded]).toEqual([...indices].flatMap((i) => palette[i]!))
  })

  test("does not scale greys below 8 bits: they are labels", () => {
    const file = encode({ width: 4, height: 1, depth: 2, type: 0, interlaced: false, samples: [0, 1, 2, 3] }, () => 0)
    expect([...decodePng(file, "a.png").data]).toEqual([0, 1, 2, 3])
  })

  test("skips chunks a reader may skip, and refuses those it may not", () => {
    const file = encode(sample, () => 0)
    const withChunk = (extra: Buffer) => Buffer.concat([file.subarray(0, 33), extra, file.subarray(33)])
    expect(decodePng(withChunk(chunk("tEXt", Buffer.from("a\0b"))), "a.png").data).toEqual(
      decodePng(file, "a.png").data,
    )
    expect(fails(withChunk(chunk("QQQQ", Buffer.alloc(1))))).toContain("unknown chunk QQQQ")
  })
})

describe("readPngHeader", () => {
  test("tells the kind before anything is decoded", () => {
    const file = encode({ ...sample, interlaced: true }, () => 0)
    expect(readPngHeader(file.subarray(0, 33), "a.png")).toEqual({
      width: 3,
      height: 2,
      depth: 8,
      color: "palette",
      interlaced: true,
    })
  })
})

describe("a bad file is a UserError that names it and what is wrong", () => {
  const good = encode(sample, () => 1)
  const build = (...parts: Uint8Array[]) => Buffer.concat([magic, ...parts, chunk("IEND", new Uint8Array())])
  const idat = (raw: number[]) => chunk("IDAT", deflateSync(Uint8Array.from(raw)))

  test.each<[string, Uint8Array, RegExp]>([
    ["empty", Buffer.alloc(0), /it is empty/],
    ["a JPEG", Buffer.from("ffd8ffe000104a4649460001", "hex"), /it is a JPEG, expected a PNG/],
    ["text", Buffer.from("not a picture"), /it is not a PNG file/],
    ["header cut", good.subarray(0, 20), /cut off \(its IHDR chunk should have 13 bytes, and 4 are left\)/],
    ["pixels cut", good.subarray(0, -20), /cut off \(its IDAT chunk should have \d+ bytes, and \d+ are left\)/],
    ["end missing", good.subarray(0, -12), /cut off \(it ends without its last chunk\)/],
    ["16 bits", build(header({ ...sample, depth: 16, type: 0 })), /it has 16 bits per sample, expected at most 8/],
    ["no size", build(header({ ...sample, width: 0 })), /its size is 0x2/],
    ["odd depth", build(header({ ...sample, depth: 3 })), /colour type 3 with 3 bits does not exist/],
    ["odd type", build(header({ ...sample, type: 5 })), /colour type 5 with 8 bits does not exist/],
    ["no palette", build(header(sample), idat([0, 1, 2, 3, 0, 1, 2, 3])), /without a palette/],
    ["odd palette", build(header(sample), chunk("PLTE", Buffer.alloc(4))), /its palette is malformed/],
    ["no header", build(plte), /its first chunk is not a header/],
    ["few pixels", build(header(sample), plte, idat([0, 1, 2, 3])), /its pixels end after 4 of 8 bytes/],
    ["many pixels", build(header(sample), plte, idat(new Array(9).fill(0))), /more pixels than its size says/],
    ["odd filter", build(header(sample), plte, idat([5, 1, 2, 3, 0, 1, 2, 3])), /it has the filter 5/],
    ["not zlib", build(header(sample), plte, chunk("IDAT", Buffer.alloc(20, 65))), /its pixels do not unpack/],
    ["no pixels", build(header(sample), plte), /0 compressed bytes cannot hold the 8 bytes/],
  ])("%s", (_, bytes, message) => {
    expect(fails(bytes)).toMatch(message)
  })

  test("any truncation, and any change of any byte, is noticed", () => {
    fc.assert(
      fc.property(specs, fc.nat(), fc.integer({ min: 1, max: 255 }), (spec, position, change) => {
        const file = encode(spec, (row) => row % 5)
        fails(file.subarray(0, position % file.length))
        file[position % file.length]! ^= change
        fails(file)
      }),
      { numRuns: 300 },
    )
  })

  test("damaged pixels with correct checksums end in pixels or a UserError, never in another exception", () => {
    fc.assert(
      fc.property(specs, fc.uint8Array({ maxLength: 60 }), fc.boolean(), (spec, noise, packed) => {
        const idat = chunk("IDAT", packed ? deflateSync(noise) : noise)
        const file = Buffer.concat([magic, header(spec), plte, idat, chunk("IEND", new Uint8Array())])
        try {
          decodePng(file, "a.png")
        } catch (error) {
          expect(error).toBeInstanceOf(UserError)
        }
      }),
      { numRuns: 300 },
    )
  })

  test("a bomb costs what its header admits, and a header cannot claim more than its bytes can hold", () => {
    const bomb = deflateSync(Buffer.alloc(2 ** 26)) // 64 MiB in 64 KiB
    const before = process.memoryUsage().arrayBuffers
    expect(fails(build(header(sample), plte, chunk("IDAT", bomb)))).toContain("more pixels than its size says")
    const liar = { ...sample, width: 2 ** 13, height: 2 ** 13 }
    expect(fails(build(header(liar), plte, idat([0, 1])))).toMatch(/cannot hold the \d+ bytes/)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
    const huge = { ...sample, width: 2 ** 31 - 1, height: 2 ** 31 - 1 }
    expect(fails(build(header(huge)))).toContain(`more than ${maxPixels} pixels`)
  })
})

describe("writeIndexedPng", () => {
  const palette = Array.from({ length: 256 }, (_, i): Rgb => [i, i ^ 85, 255 - i])

  test("what is written is read again, by us and by fast-png", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.uint8Array({ minLength: 40, maxLength: 400 }), (width, bytes) => {
        const height = Math.floor(bytes.length / width)
        const indices = bytes.subarray(0, width * height)
        const file = writeIndexedPng(indices, width, height, palette)
        expect(decodePng(file, "a.png")).toMatchObject({ width, height, channels: 1, data: indices, palette })
        expect(fastDecode(file).data).toEqual(Uint8Array.from(indices))
      }),
    )
  })

  test("refuses what would be a broken file", () => {
    expect(() => writeIndexedPng(new Uint8Array(5), 2, 3, palette)).toThrow("got 5 indices for 2x3 pixels")
    expect(() => writeIndexedPng(new Uint8Array(6), 2, 3, [])).toThrow("got 0 colours")
    expect(() => writeIndexedPng(Uint8Array.of(0, 2), 2, 1, palette.slice(0, 2))).toThrow(
      "index 2 at row 0 has no colour",
    )
  })
})

const real = "../shared/data/voc2012/SegmentationClass"
describe.skipIf(!existsSync(real))(`real masks${existsSync(real) ? "" : ` (skipped: ${real} is absent)`}`, () => {
  test("equal fast-png's reading", () => {
    for (const name of readdirSync(real).slice(0, 40)) {
      const bytes = readFileSync(`${real}/${name}`)
      expect(decodePng(bytes, name).data).toEqual(fastDecode(bytes).data)
    }
  })
})
