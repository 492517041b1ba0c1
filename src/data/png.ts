// PNG masks, read by palette INDEX and written with a palette.
// Why our own reader: sharp (libvips) always expands a palette to RGB, and the index is the label. The size we need is
// small: 8-bit samples at most, no gamma, no transparency. PNG specification: https://www.w3.org/TR/png-3/
// Every length is checked before it is used, so a damaged or hostile file is a UserError and costs bounded memory.
import { constants, crc32, deflateSync, inflateSync } from "node:zlib"
import { UserError } from "../errors.ts"

export type Rgb = readonly [red: number, green: number, blue: number]

export type PngHeader = {
  readonly width: number
  readonly height: number
  /** Bits per sample: 1, 2, 4, 8 or 16. */
  readonly depth: number
  readonly color: "grey" | "rgb" | "palette" | "grey+alpha" | "rgb+alpha"
  readonly interlaced: boolean
}

export type Png = {
  readonly header: PngHeader
  readonly width: number
  readonly height: number
  /** Samples per pixel: 1 (palette index or grey value), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). */
  readonly channels: number
  /** [height, width, channels], with 16 bits two bytes each, the higher first; greys of 1, 2 and 4 bits are NOT scaled to 255: in a mask they are labels. */
  readonly data: Uint8Array
  /** The colours of a palette PNG, index by index; empty for the other kinds. */
  readonly palette: readonly Rgb[]
}

/** Larger images are refused: 2^27 pixels (11,585 x 11,585) is four times a Sentinel-2 quarter tile. */
export const maxPixels = 2 ** 27

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const colors = { 0: "grey", 2: "rgb", 3: "palette", 4: "grey+alpha", 6: "rgb+alpha" } as const
const channelsOf = { grey: 1, palette: 1, "grey+alpha": 2, rgb: 3, "rgb+alpha": 4 } as const
const depthsOf = {
  grey: [1, 2, 4, 8, 16],
  palette: [1, 2, 4, 8],
  "grey+alpha": [8, 16],
  rgb: [8, 16],
  "rgb+alpha": [8, 16],
}

/** The seven interlace passes (Adam7): first column, first row, column step, row step. */
const adam7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const
const onePass = [[0, 0, 1, 1]] as const

/**
 * The size and kind of a PNG, from its first 33 bytes.
 * @param file its name, for messages
 * @throws UserError when it is not a PNG, or its header is damaged or asks for more than `maxPixels`
 */
export function readPngHeader(bytes: Uint8Array, file: string): PngHeader {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!buffer.subarray(0, 8).equals(signature)) throw new UserError(`Cannot read ${file}: ${notPng(buffer)}`)
  const { type, data } = readChunk(buffer, 8, file)
  if (type !== "IHDR" || data.length !== 13) throw damaged(file, "its first chunk is not a header")
  const width = data.readUInt32BE(0)
  const height = data.readUInt32BE(4)
  const depth = data[8]!
  const color = colors[data[9] as keyof typeof colors]
  if (color === undefined || !depthsOf[color].includes(depth)) {
    throw damaged(file, `colour type ${data[9]} with ${depth} bits does not exist`)
  }
  if (data[10] !== 0 || data[11] !== 0 || data[12]! > 1) throw damaged(file, "its header names unknown methods")
  if (width < 1 || height < 1) throw damaged(file, `its size is ${width}x${height}`)
  if (width * height > maxPixels) {
    throw new UserError(`Cannot read ${file}: ${width}x${height} is more than ${maxPixels} pixels. Cut it into tiles.`)
  }
  return { width, height, depth, color, interlaced: data[12] === 1 }
}

/**
 * Decodes a PNG; masks keep their indices (see `Png`).
 * A 500x375 8-bit mask takes 0.1 ms warm (median over VOC; Zen 5, one core), of which inflate is most.
 * @param file its name, for messages
 * @param allow16Bits take samples of 16 bits too, which no label needs
 * @throws UserError when it is damaged, cut off, not a PNG, or has 16 bits per sample that were not allowed
 */
export function decodePng(bytes: Uint8Array, file: string, { allow16Bits = false } = {}): Png {
  const header = readPngHeader(bytes, file)
  const { width, height, depth, color, interlaced } = header
  if (depth === 16 && !allow16Bits) {
    throw new UserError(
      `Cannot read ${file}: it has 16 bits per sample, expected at most 8. ` +
        `Save it as an 8-bit palette PNG whose index is the class.`,
    )
  }
  const { compressed, palette } = readChunks(bytes, file)
  if (color === "palette" && palette.length === 0) throw damaged(file, "it is a palette PNG without a palette")

  const channels = channelsOf[color]
  // 16 bits are twice as many samples of 8: filters and interlacing work on bytes
  const [samples, bits] = depth === 16 ? [2 * channels, 8] : [channels, depth]
  const passes = (interlaced ? adam7 : onePass)
    .map(([x, y, dx, dy]) => ({
      x,
      y,
      dx,
      dy,
      columns: Math.ceil((width - x) / dx),
      rows: Math.ceil((height - y) / dy),
    }))
    .filter((pass) => pass.columns > 0 && pass.rows > 0)
    .map((pass) => ({ ...pass, rowBytes: Math.ceil((pass.columns * samples * bits) / 8) }))
  const length = passes.reduce((sum, pass) => sum + pass.rows * (1 + pass.rowBytes), 0)
  const raw = inflate(compressed, length, file)

  const data = new Uint8Array(width * height * samples)
  const pixelBytes = Math.max(1, (samples * bits) >> 3)
  let at = 0
  for (const pass of passes) {
    for (let row = 0; row < pass.rows; row++) {
      if (!unfilter(raw, at, pass.rowBytes, pixelBytes, row === 0)) throw damaged(file, `it has the filter ${raw[at]}`)
      const line = raw.subarray(at + 1, at + 1 + pass.rowBytes)
      const target = ((pass.y + row * pass.dy) * width + pass.x) * samples
      if (bits === 8 && pass.dx === 1) data.set(line, target)
      else spread(line, bits, samples, data, target, pass.dx * samples, pass.columns)
      at += 1 + pass.rowBytes
    }
  }
  return { header, width, height, channels, data, palette }
}

/**
 * Encodes a mask as an 8-bit palette PNG, the form VOC uses.
 * @param indices [height, width]
 * @param options.software what the file says wrote it, see isWrittenBy
 * @param palette 1 to 256 colours; other software shows an index beyond them as an error, so they must cover all indices
 */
export function writeIndexedPng(
  indices: Uint8Array,
  width: number,
  height: number,
  palette: readonly Rgb[],
  { software }: { software?: string } = {},
): Buffer {
  if (indices.length !== width * height) {
    throw new RangeError(`writeIndexedPng: got ${indices.length} indices for ${width}x${height} pixels`)
  }
  if (palette.length < 1 || palette.length > 256) {
    throw new RangeError(`writeIndexedPng: got ${palette.length} colours, expected 1 to 256`)
  }
  const raw = Buffer.alloc(height * (width + 1)) // every row starts with its filter: 0, none; labels gain nothing by others
  for (let y = 0; y < height; y++) {
    const row = indices.subarray(y * width, (y + 1) * width)
    for (const index of row) {
      if (index >= palette.length) {
        throw new RangeError(
          `writeIndexedPng: index ${index} at row ${y} has no colour; the palette has ${palette.length}`,
        )
      }
    }
    raw.set(row, y * (width + 1) + 1)
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 3, 0, 0, 0], 8) // 8 bits, palette, deflate, adaptive filters, not interlaced
  return Buffer.concat([
    signature,
    writeChunk("IHDR", header),
    ...(software === undefined ? [] : [writeChunk("tEXt", softwareText(software))]),
    writeChunk("PLTE", Buffer.from(palette.flat())),
    writeChunk("IDAT", deflateSync(raw, { level: 6 })),
    writeChunk("IEND", Buffer.alloc(0)),
  ])
}

/** Whether a file was written with this `software`. */
export const isWrittenBy = (file: Uint8Array, software: string): boolean =>
  Buffer.from(file.buffer, file.byteOffset, file.byteLength).includes(softwareText(software))

const softwareText = (software: string): Buffer => Buffer.from(`Software\0${software}`, "latin1")

function writeChunk(type: string, data: Buffer): Buffer {
  const chunk = Buffer.alloc(12 + data.length)
  chunk.writeUInt32BE(data.length, 0)
  chunk.write(type, 4, "latin1")
  chunk.set(data, 8)
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length)
  return chunk
}

function readChunk(buffer: Buffer, at: number, file: string): { type: string; data: Buffer } {
  if (at + 12 > buffer.length) throw cutOff(file, "it ends without its last chunk")
  const length = buffer.readUInt32BE(at)
  const type = buffer.toString("latin1", at + 4, at + 8)
  if (!/^[A-Za-z]{4}$/.test(type)) throw damaged(file, `there is no chunk name at byte ${at + 4}`)
  if (length > buffer.length - at - 12) {
    throw cutOff(file, `its ${type} chunk should have ${length} bytes, and ${buffer.length - at - 8} are left`)
  }
  if (crc32(buffer.subarray(at + 4, at + 8 + length)) !== buffer.readUInt32BE(at + 8 + length)) {
    throw damaged(file, `the checksum of its ${type} chunk is wrong`)
  }
  return { type, data: buffer.subarray(at + 8, at + 8 + length) }
}

/** Palette and compressed pixels; chunks that a reader may skip (text, gamma, transparency) are skipped. */
function readChunks(bytes: Uint8Array, file: string): { compressed: Buffer; palette: Rgb[] } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const parts: Buffer[] = []
  const palette: Rgb[] = []
  for (let at = 33; ; ) {
    const { type, data } = readChunk(buffer, at, file)
    at += 12 + data.length
    if (type === "IDAT") parts.push(data)
    else if (type === "PLTE") {
      if (data.length % 3 !== 0 || data.length > 768 || palette.length > 0)
        throw damaged(file, "its palette is malformed")
      for (let i = 0; i < data.length; i += 3) palette.push([data[i]!, data[i + 1]!, data[i + 2]!])
    } else if (type === "IEND") break
    else if (/^[A-Z]/.test(type)) throw damaged(file, `it has an unknown chunk ${type} that readers must not skip`)
  }
  return { compressed: parts.length === 1 ? parts[0]! : Buffer.concat(parts), palette }
}

/** Inflates to exactly `length` bytes, and never allocates for more than the compressed bytes can hold. */
function inflate(compressed: Buffer, length: number, file: string): Uint8Array {
  // deflate's best ratio is 1032 : 1 (258 bytes from 2 bits), so a header that claims more is lying
  if (length > 1032 * compressed.length) {
    throw cutOff(file, `${compressed.length} compressed bytes cannot hold the ${length} bytes its size asks for`)
  }
  let raw: Buffer
  try {
    // one output buffer, a byte longer than needed: zlib then sees the end without asking for a second one
    raw = inflateSync(compressed, {
      chunkSize: Math.max(64, length + 1),
      maxOutputLength: length,
      finishFlush: constants.Z_SYNC_FLUSH, // no exception for a short stream: we say how much is missing
    })
  } catch (error) {
    const tooLong = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE"
    throw damaged(file, tooLong ? "it holds more pixels than its size says" : `its pixels do not unpack`, error)
  }
  if (raw.length < length) throw cutOff(file, `its pixels end after ${raw.length} of ${length} bytes`)
  return raw
}

/** Undoes the filter of one row in place; `raw[at]` is the filter, `step` the bytes from a pixel to its left neighbour. */
function unfilter(raw: Uint8Array, at: number, rowBytes: number, step: number, isFirst: boolean): boolean {
  const filter = raw[at]!
  const start = at + 1
  const end = start + rowBytes
  const up = rowBytes + 1 // distance to the byte above; above the first row everything counts as 0
  if (filter === 0 || (filter === 2 && isFirst)) return true
  if (filter === 1 || (filter === 4 && isFirst)) {
    for (let i = start + step; i < end; i++) raw[i] = raw[i]! + raw[i - step]!
  } else if (filter === 2) {
    for (let i = start; i < end; i++) raw[i] = raw[i]! + raw[i - up]!
  } else if (filter === 3) {
    for (let i = start; i < end; i++) {
      const left = i < start + step ? 0 : raw[i - step]!
      raw[i] = raw[i]! + ((left + (isFirst ? 0 : raw[i - up]!)) >> 1)
    }
  } else if (filter === 4) {
    for (let i = start; i < start + step && i < end; i++) raw[i] = raw[i]! + raw[i - up]!
    for (let i = start + step; i < end; i++) {
      const a = raw[i - step]!
      const b = raw[i - up]!
      const c = raw[i - up - step]!
      const pa = Math.abs(b - c)
      const pb = Math.abs(a - c)
      const pc = Math.abs(a + b - 2 * c)
      raw[i] = raw[i]! + (pa <= pb && pa <= pc ? a : pb <= pc ? b : c)
    }
  } else return false
  return true
}

/** Writes the samples of one row, packed `depth` bits each, to every `stride`-th byte of `data`. */
function spread(
  line: Uint8Array,
  depth: number,
  channels: number,
  data: Uint8Array,
  target: number,
  stride: number,
  columns: number,
): void {
  if (depth === 8) {
    for (let x = 0, i = 0; x < columns; x++) {
      for (let c = 0; c < channels; c++) data[target + x * stride + c] = line[i++]!
    }
    return
  }
  const perByte = 8 / depth // below 8 bits there is one channel, leftmost pixel in the highest bits
  const mask = (1 << depth) - 1
  for (let x = 0; x < columns; x++) {
    const shift = 8 - depth * ((x % perByte) + 1)
    data[target + x * stride] = (line[Math.floor(x / perByte)]! >> shift) & mask
  }
}

function notPng(buffer: Buffer): string {
  if (buffer.length === 0) return "it is empty."
  if (buffer[0] === 0xff && buffer[1] === 0xd8) {
    return "it is a JPEG, expected a PNG. JPEG changes pixel values, so labels saved in it are lost: export PNG again."
  }
  if (buffer.length < 8) return `it has only ${buffer.length} bytes; it was cut off. Copy or export it again.`
  return "it is not a PNG file."
}

const damaged = (file: string, why: string, cause?: unknown) =>
  new UserError(`Cannot read ${file}: the PNG is damaged (${why}). Copy or export it again.`, { cause })

const cutOff = (file: string, why: string) =>
  new UserError(`Cannot read ${file}: the PNG is cut off (${why}). Copy or export it again.`)
