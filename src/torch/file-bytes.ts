// Bytes of a file that may be damaged or hostile: read from where they are asked for, never the file as a whole.
import { closeSync, fstatSync, openSync, readSync } from "node:fs"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"

/** What is wrong with a file, as the end of a sentence: "it is truncated". `readingWeights` says which file. */
export class Unreadable extends Error {}

export interface OpenFile {
  readonly descriptor: number
  /** Bytes. */
  readonly size: number
}

/**
 * Opens a file of weights, runs `read` and closes it.
 * @throws UserError "Cannot read weights PATH: ..." for what `read` finds Unreadable and for what the file system refuses
 */
export function readingWeights<T>(path: string, read: (file: OpenFile) => T): T {
  let descriptor: number | undefined
  try {
    descriptor = openSync(path, "r")
    return read({ descriptor, size: fstatSync(descriptor).size })
  } catch (cause) {
    const expected = cause instanceof Unreadable || (cause instanceof Error && "syscall" in cause)
    if (!expected) throw cause
    const reason = fileProblem(cause)
    throw new UserError(`Cannot read weights ${path}: ${reason}${reason.endsWith("?") ? "" : "."}`, { cause })
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

/** `length` bytes from `position`; both lie inside the file. */
export function readBytes({ descriptor }: OpenFile, position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let done = 0; done < length; ) {
    const most = Math.min(length - done, 2 ** 30) // readSync throws from 2^31 bytes on
    const count = readSync(descriptor, bytes, done, most, position + done)
    if (count === 0) throw new Unreadable("it became shorter while it was read")
    done += count
  }
  return bytes
}

/** Reads forward through a window of 64 KiB. What would go past `end` is refused before anything is allocated for it. */
export class ByteReader {
  readonly #read: (position: number, length: number) => Buffer
  readonly #end: number
  #window: Buffer = Buffer.alloc(0)
  #at = 0 // in the window
  #next: number // where the window ends in the file

  constructor(read: (position: number, length: number) => Buffer, start: number, end: number) {
    this.#read = read
    this.#next = start
    this.#end = end
  }

  get position(): number {
    return this.#next - (this.#window.length - this.#at)
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#window.length) this.#refill(length)
    this.#at += length
    return this.#window.subarray(this.#at - length, this.#at)
  }

  byte(): number {
    if (this.#at === this.#window.length) this.#refill(1)
    return this.#window[this.#at++]!
  }

  #refill(length: number): void {
    const rest = this.#window.subarray(this.#at)
    const left = this.#end - this.#next
    if (length - rest.length > left)
      throw new Unreadable(`it is truncated or damaged: what it describes goes on after byte ${this.#end}`)
    const more = Math.min(left, Math.max(length - rest.length, 2 ** 16))
    this.#window = Buffer.concat([rest, this.#read(this.#next, more)])
    this.#next += more
    this.#at = 0
  }
}

/** A value from a file, for a message: what a terminal would obey or hide is escaped, what is long is cut. */
export function show(value: unknown): string {
  if (Array.isArray(value))
    return value.every((item) => typeof item === "number") ? `[${cut(value.join(", "))}]` : "a list"
  if (typeof value === "object" && value !== null) return "an object"
  if (typeof value !== "string") return cut(String(value))
  const text = JSON.stringify(value.slice(0, 80)).replace(unprintable, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`)
  return value.length > 80 ? `${text.slice(0, 100)}...` : cut(text)
}

/** A name from a file, for a message: as it is where it looks like one. */
export const showName = (name: string): string => (/^[\w.]{1,100}$/.test(name) ? name : show(name))

/** What JSON leaves as it is: C1 controls, marks that turn the direction of writing, zero-width letters, line separators. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const cut = (text: string): string => (text.length > 100 ? `${text.slice(0, 100)}...` : text)

export const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1)
