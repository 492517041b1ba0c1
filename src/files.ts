// Writing files that are either complete or not there, and the file system's refusals in words.
import { createHash, randomUUID } from "node:crypto"
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs"
import { basename, dirname, join } from "node:path"
import { UserError } from "./errors.ts"

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder, not a file",
  ENOTDIR: "a part of its path is a file, not a folder",
  ENAMETOOLONG: "its name is too long",
  ENOSPC: "the disk is full",
  EROFS: "the disk is read-only",
  EMFILE: "too many files are open",
}

/** Why the file system refused, in words: "permission denied". */
export function fileProblem(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return reasons[code ?? ""] ?? message
}

/**
 * Writes a file under a temporary name in the same folder, syncs it and renames it: whoever opens `path` sees the old
 * file or the whole new one, also after a crash or a power cut. When anything fails, nothing new remains.
 * @param content chunks are written one after the other, so that a large file never stands in memory as a whole
 * @throws UserError when the file system refuses; what a generator of chunks throws passes through
 */
export function writeFileAtomic(path: string, content: string | Uint8Array | Iterable<Uint8Array>): void {
  const temporary = join(dirname(path), `.${basename(path).slice(0, 100)}.${randomUUID()}.tmp`)
  const refused = (cause: unknown) => {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT"
    const reason = missing ? `the folder ${dirname(path)} does not exist` : fileProblem(cause)
    return new UserError(`Cannot write ${path}: ${reason}.`, { cause })
  }
  const attempt = <T>(step: () => T): T => {
    try {
      return step()
    } catch (cause) {
      throw refused(cause)
    }
  }
  const chunks =
    typeof content === "string" ? [Buffer.from(content)] : ArrayBuffer.isView(content) ? [content] : content

  const file = attempt(() => openSync(temporary, "wx"))
  try {
    try {
      for (const chunk of chunks) attempt(() => writeAll(file, chunk))
      attempt(() => fsyncSync(file))
    } finally {
      closeSync(file)
    }
    attempt(() => renameSync(temporary, path))
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncFolder(dirname(path))
}

/**
 * Copies a file; `to` is the old one or the whole copy, and `from` stays where it is meanwhile.
 * @throws UserError when the file system refuses
 */
export function copyFileAtomic(from: string, to: string): void {
  const temporary = join(dirname(to), `.${basename(to).slice(0, 100)}.${randomUUID()}.tmp`)
  try {
    copyFileSync(from, temporary)
    renameSync(temporary, to)
  } catch (cause) {
    rmSync(temporary, { force: true })
    throw new UserError(`Cannot copy ${from} to ${to}: ${fileProblem(cause)}.`, { cause })
  }
  syncFolder(dirname(to))
}

/**
 * The SHA-256 of a file's bytes, in hexadecimal: what tells two files apart whatever their names and times.
 * @throws UserError when the file system refuses
 */
export function fileDigest(path: string): string {
  const hash = createHash("sha256")
  const chunk = Buffer.alloc(2 ** 20)
  try {
    const file = openSync(path, "r")
    try {
      for (let read = readSync(file, chunk); read > 0; read = readSync(file, chunk))
        hash.update(chunk.subarray(0, read))
    } finally {
      closeSync(file)
    }
  } catch (cause) {
    throw new UserError(`Cannot read ${path}: ${fileProblem(cause)}.`, { cause })
  }
  return hash.digest("hex")
}

/**
 * Makes a folder and those above it, where they are missing.
 * @returns its path
 * @throws UserError when the file system refuses
 */
export function makeFolder(path: string, what = "folder"): string {
  try {
    mkdirSync(path, { recursive: true })
    return path
  } catch (cause) {
    throw new UserError(`Cannot make the ${what} ${path}: ${fileProblem(cause)}.`, { cause })
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  // writeSync throws from 2^31 bytes on
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, Math.min(bytes.length - done, 2 ** 30))
}

/** The new name itself is safe only once its folder is on the disk. Windows and some network disks cannot sync a folder. */
function syncFolder(path: string): void {
  try {
    const folder = openSync(path, "r")
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  } catch {}
}
