// Reads a zip archive entry by entry, as torch.save writes it: stored, zip64 records also in small files.
// Everything goes by the directory at the end. An entry ends where the next begins, so that none can lie inside another
// and the whole costs no more than the file's length. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
import { crc32, inflateRawSync } from "node:zlib"
import { type OpenFile, readBytes, show, Unreadable } from "./file-bytes.ts"

const MAX_DIRECTORY = 16 * 2 ** 20 // bytes; a model of 1,000 tensors needs 0.07 MB
const END = 22 // bytes of the record that ends an archive, without its comment
const MAX_COMMENT = 0xffff

export interface ZipEntry {
  readonly name: string
  /** Bytes of content. */
  readonly size: number
  readonly compressedSize: number
  readonly deflated: boolean
  readonly crc: number
  /** From the entry's own header to the next entry's, in bytes from the start of the file. */
  readonly begin: number
  readonly end: number
}

/** @throws Unreadable when it is no zip archive, truncated or damaged */
export function readZipDirectory(file: OpenFile): Map<string, ZipEntry> {
  const { count, offset, size } = findDirectory(file)
  const entries = new Map<string, ZipEntry>()
  const directory = readBytes(file, offset, size)
  for (let k = 0, at = 0; k < count; k++) {
    if (at + 46 > size || directory.readUInt32LE(at) !== 0x02014b50)
      throw damaged(`entry ${k} of ${count} is not in its directory`)
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => directory.readUInt16LE(at + field))
    const extraAt = at + 46 + nameLength!
    const next = extraAt + extraLength! + commentLength!
    if (next > size) throw damaged(`entry ${k} of ${count} is longer than its directory`)
    const name = directory.toString("utf8", at + 46, extraAt)
    const method = directory.readUInt16LE(at + 10)
    if (directory.readUInt16LE(at + 8) & 1) throw new Unreadable(`its entry ${show(name)} is encrypted`)
    if (method !== 0 && method !== 8)
      throw new Unreadable(`its entry ${show(name)} is compressed by method ${method}; expected stored or deflated`)
    if (entries.has(name)) throw damaged(`it has the entry ${show(name)} twice`)
    const sizes = zip64Sizes(
      [24, 20, 42].map((field) => directory.readUInt32LE(at + field)),
      directory.subarray(extraAt, extraAt + extraLength!),
    )
    const [contentSize, compressedSize, begin] = sizes as [number, number, number]
    if (method === 0 && contentSize !== compressedSize) throw damaged(`the entry ${show(name)} has two sizes`)
    const crc = directory.readUInt32LE(at + 16)
    entries.set(name, { name, size: contentSize, compressedSize, deflated: method === 8, crc, begin, end: offset })
    at = next
  }
  let end = offset
  for (const entry of [...entries.values()].sort((a, b) => b.begin - a.begin)) {
    // 30 bytes of header at least
    if (entry.begin + 30 + entry.name.length + entry.compressedSize > end)
      throw damaged(`the entry ${show(entry.name)} reaches beyond byte ${end}, where the next begins`)
    entries.set(entry.name, { ...entry, end })
    end = entry.begin
  }
  return entries
}

/** The content of an entry, held against its checksum. The caller has judged its size. */
export function readZipEntry(file: OpenFile, entry: ZipEntry): Buffer {
  const { name, size, compressedSize, begin, end } = entry
  const header = readBytes(file, begin, 30)
  const start = begin + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
  if (header.readUInt32LE(0) !== 0x04034b50 || start + compressedSize > end)
    throw damaged(`the entry ${show(name)} is not where its directory says`)
  if (compressedSize > 2 * size + 1024) throw damaged(`the entry ${show(name)} is compressed to more than it was`)
  const stored = readBytes(file, start, compressedSize)
  const content = entry.deflated ? inflate(stored, size, name) : stored
  if (crc32(content) !== entry.crc) throw damaged(`the entry ${show(name)} has another checksum than was written`)
  return content
}

function inflate(compressed: Buffer, size: number, name: string): Buffer {
  let content: Buffer
  try {
    content = inflateRawSync(compressed, { maxOutputLength: Math.max(1, size) })
  } catch (cause) {
    throw damaged(`the entry ${show(name)} does not inflate to its ${size} bytes`, cause)
  }
  if (content.length !== size) throw damaged(`the entry ${show(name)} inflates to ${content.length} bytes, not ${size}`)
  return content
}

function findDirectory(file: OpenFile): { count: number; offset: number; size: number } {
  const tailAt = Math.max(0, file.size - END - MAX_COMMENT)
  const tail = readBytes(file, tailAt, file.size - tailAt)
  let end = tail.length - END
  while (
    end >= 0 &&
    !(tail.readUInt32LE(end) === 0x06054b50 && end + END + tail.readUInt16LE(end + 20) === tail.length)
  )
    end--
  if (end < 0)
    throw new Unreadable("it is truncated: a zip archive without the directory at its end. Download it again")
  const endAt = tailAt + end
  const directory =
    zip64Directory(file, endAt) ??
    ({
      count: tail.readUInt16LE(end + 10),
      size: tail.readUInt32LE(end + 12),
      offset: tail.readUInt32LE(end + 16),
    } as const)
  if (directory.offset + directory.size > endAt) throw damaged("its directory reaches beyond its end")
  if (directory.size > MAX_DIRECTORY)
    throw new Unreadable(`its directory has ${directory.size} bytes; expected at most ${MAX_DIRECTORY}`)
  return directory
}

/** The directory that zip64 records before the end name, where there are any. */
function zip64Directory(file: OpenFile, endAt: number): { count: number; offset: number; size: number } | undefined {
  if (endAt < 20) return undefined
  const locator = readBytes(file, endAt - 20, 20)
  if (locator.readUInt32LE(0) !== 0x07064b50) return undefined
  const at = Number(locator.readBigUInt64LE(8))
  if (at + 56 > endAt) throw damaged("its zip64 end is not where its locator says")
  const record = readBytes(file, at, 56)
  if (record.readUInt32LE(0) !== 0x06064b50) throw damaged("its zip64 end is not where its locator says")
  const [count, size, offset] = [32, 40, 48].map((field) => Number(record.readBigUInt64LE(field)))
  return { count: count!, size: size!, offset: offset! }
}

/** Sizes and offset of an entry: 0xffffffff means that the zip64 extra field has the number, in 64 bits. */
function zip64Sizes(fields: readonly number[], extra: Buffer): number[] {
  let wide: Buffer = Buffer.alloc(0)
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2))
    if (extra.readUInt16LE(at) === 1) wide = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2))
  let at = 0
  return fields.map((field) => {
    if (field !== 0xffffffff) return field
    if (at + 8 > wide.length) throw damaged("a zip64 size is missing")
    at += 8
    return Number(wide.readBigUInt64LE(at - 8))
  })
}

const damaged = (what: string, cause?: unknown): Unreadable => new Unreadable(`it is damaged: ${what}`, { cause })
