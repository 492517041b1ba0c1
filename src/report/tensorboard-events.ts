// TensorBoard's events, byte by byte. An event file is a row of records; a record is a protocol buffer with its length before it and
// checksums. We write the few messages that are needed by hand: it is less code than a protobuf library would want to be set up.
//   records    https://www.tensorflow.org/tutorials/load_data/tfrecord
//   messages   tensorboard/compat/proto/{event,summary,tensor}.proto, tensorboard/plugins/hparams/plugin_data.proto
//   encoding   https://protobuf.dev/programming-guides/encoding/

// --- protocol buffers --------------------------------------------------------------------------------------------------
// A field is its number and kind in one varint, then its value. Fields stand in the order of their numbers, as protobuf's own
// writers have them, so that equal messages are equal bytes.

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

/** @param value 0 to 2^53 - 1 */
function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  bytes.push(rest)
  return Buffer.from(bytes)
}

const field = (number: number, kind: number, value: Uint8Array): Buffer =>
  Buffer.concat([varint(8 * number + kind), value])

const int = (number: number, value: number): Buffer => field(number, VARINT, varint(value))

const bytes = (number: number, value: string | Uint8Array): Buffer => {
  const content = Buffer.from(value)
  return field(number, BYTES, Buffer.concat([varint(content.length), content]))
}

const message = (number: number, ...fields: readonly Uint8Array[]): Buffer => bytes(number, Buffer.concat(fields))

const double = (number: number, value: number): Buffer => {
  const content = Buffer.alloc(8)
  content.writeDoubleLE(value)
  return field(number, FIXED64, content)
}

const float = (number: number, value: number): Buffer => {
  const content = Buffer.alloc(4)
  content.writeFloatLE(value)
  return field(number, FIXED32, content)
}

// --- events ------------------------------------------------------------------------------------------------------------

/** When and at which step something was: seconds since 1970, whole steps from 0. */
export interface Moment {
  readonly wallTime: number
  readonly step: number
}

const event = ({ wallTime, step }: Moment, what: Buffer): Buffer =>
  Buffer.concat([double(1, wallTime), ...(step > 0 ? [int(2, step)] : []), what]) // protobuf leaves 0 out

const summary = (moment: Moment, ...values: readonly (readonly Buffer[])[]): Buffer =>
  event(moment, message(5, ...values.map((fields) => message(1, ...fields))))

/** What a file begins with. */
export const fileVersion = (moment: Moment): Buffer => event(moment, bytes(3, "brain.Event:2"))

/** From the second one on it says: what was written before of this step and later ones does not count. */
export const sessionStart = (moment: Moment): Buffer => event(moment, message(7, int(1, 1)))

/** Numbers by their tags. They are kept as float32. */
export const scalars = (moment: Moment, values: Readonly<Record<string, number>>): Buffer =>
  summary(moment, ...Object.entries(values).map(([tag, value]) => [bytes(1, tag), float(2, value)]))

const RGB = 3

/** @param png a picture in colour, as a PNG file */
export const image = (
  moment: Moment,
  tag: string,
  png: Uint8Array,
  { width, height }: { readonly width: number; readonly height: number },
): Buffer => summary(moment, [bytes(1, tag), message(4, int(1, height), int(2, width), int(3, RGB), bytes(4, png))])

const TENSOR_DATA = 2 // DataClass
const FLOAT = 1 // DataType
const STRING = 7

const metadata = (plugin: string, ...content: readonly Buffer[]): Buffer =>
  message(9, message(1, bytes(1, plugin), ...content), int(4, TENSOR_DATA))

/** @param markdown shown as a page of its own */
export const text = (moment: Moment, tag: string, markdown: string): Buffer =>
  summary(moment, [
    bytes(1, tag),
    message(8, int(1, STRING), message(2), bytes(8, markdown)), // a tensor without axes
    metadata("text"),
  ])

/** The settings of a run, for the table in which TensorBoard sets runs side by side ("HParams"). */
export const settings = (moment: Moment, values: Readonly<Record<string, string | number | boolean>>): Buffer => {
  const entries = Object.entries(values).map(([name, value]) => {
    const kind =
      typeof value === "number" ? double(2, value) : typeof value === "string" ? bytes(3, value) : int(4, Number(value))
    return message(1, bytes(1, name), message(2, kind))
  })
  const start = message(3, ...entries, double(5, moment.wallTime))
  return summary(moment, [
    bytes(1, "_hparams_/session_start_info"),
    message(8, int(1, FLOAT), message(2, message(2, int(1, 1))), message(5, Buffer.alloc(4))), // [0], which nobody looks at
    metadata("hparams", bytes(2, start)),
  ])
}

// --- records -----------------------------------------------------------------------------------------------------------

/** An event as it stands in a file: length (8 bytes) and its checksum (4), the event, its checksum (4). */
export function toRecord(event: Uint8Array): Buffer {
  const record = Buffer.alloc(event.length + 16)
  record.writeBigUInt64LE(BigInt(event.length))
  record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8)
  record.set(event, 12)
  record.writeUInt32LE(maskedCrc32c(event), event.length + 12)
  return record
}

/** The events of a file with the place where each record ends, up to its end or to the first record that is cut off or damaged. */
export function* recordsOf(file: Uint8Array): Generator<{ event: Uint8Array; end: number }> {
  const buffer = Buffer.from(file.buffer, file.byteOffset, file.byteLength)
  for (let start = 0; start + 16 <= buffer.length; ) {
    const length = Number(buffer.readBigUInt64LE(start))
    const end = start + length + 16
    if (end > buffer.length || buffer.readUInt32LE(start + 8) !== maskedCrc32c(buffer.subarray(start, start + 8)))
      return
    const event = buffer.subarray(start + 12, end - 4)
    if (buffer.readUInt32LE(end - 4) !== maskedCrc32c(event)) return
    yield { event, end }
    start = end
  }
}

/** The step of an event, by whomever it was written: its field 2, or 0 without one. */
export function stepOf(event: Uint8Array): number {
  let at = 0
  const next = (): number => {
    let value = 0
    for (let scale = 1; at < event.length; scale *= 128) {
      const byte = event[at++]!
      value += (byte & 127) * scale
      if (byte < 128) break
    }
    return value
  }
  let step = 0
  while (at < event.length) {
    const key = next()
    const kind = key & 7
    if (kind === VARINT) {
      const value = next()
      if (key >> 3 === 2) step = value
    } else if (kind === BYTES) {
      const length = next()
      at += length
    } else at += kind === FIXED64 ? 8 : 4
  }
  return step
}

/** CRC-32C (Castagnoli), RFC 3720 appendix B.4; zlib's crc32 has another polynomial. */
export function crc32c(bytes: Uint8Array): number {
  let crc = -1
  for (let at = 0; at < bytes.length; at++) crc = (crc >>> 8) ^ crcTable[(crc ^ bytes[at]!) & 255]!
  return ~crc >>> 0
}

const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  return crc
})

/** TFRecord turns and shifts its checksums, because a checksum of data that hold their own checksum is weak. */
function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
