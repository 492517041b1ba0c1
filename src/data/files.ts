// Reading files that the user named: every failure becomes one sentence with the path in it.
import { readFileSync } from "node:fs"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"

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
