// Reading files that the user named: every failure becomes one sentence with the path in it.
import { readFileSync } from "node:fs"
import { UserError } from "../errors.ts"

const reasons: Record<string, string> = {
  ENOENT: "it does not exist",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder, not a file",
  ENOTDIR: "a part of its path is a file, not a folder",
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
 * The bytes of a file. Synchronous on purpose: it runs in loader workers, where one call is cheaper than a trip
 * through libuv's thread pool.
 * @param what how to name the file to the user: "mask", "split list"
 */
export function readBytes(file: string, what: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new UserError(`Cannot read ${what} ${file}: ${fileProblem(error)}.`, { cause: error })
  }
}

/** A file as text, without a byte order mark. */
export function readText(file: string, what: string): string {
  return readBytes(file, what)
    .toString("utf8")
    .replace(/^\uFEFF/, "")
}
