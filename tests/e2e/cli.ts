// Runs the command line as a user does, in a process of its own.
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll } from "vitest"

const main = resolve(import.meta.dirname, "../../src/cli/main.ts")

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Starts `pixelwise ...args`; the promise is fulfilled when it ends. */
export const start = (...args: string[]) => startWith({}, ...args)

/** The same with more in its environment. */
export function startWith(
  env: Record<string, string>,
  ...args: string[]
): { child: ChildProcess; finished: Promise<Finished> } {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, NO_COLOR: "1", ...env } })
  let [stdout, stderr] = ["", ""]
  child.stdout.on("data", (chunk) => {
    stdout += chunk
  })
  child.stderr.on("data", (chunk) => {
    stderr += chunk
  })
  const finished = new Promise<Finished>((done) => child.on("close", (code) => done({ code, stdout, stderr })))
  return { child, finished }
}

export const pixelwise = (...args: string[]): Promise<Finished> => start(...args).finished

/** A temporary folder that goes after the tests of this file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "pixelwise-"))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
