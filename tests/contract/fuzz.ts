// Starts fuzz-child.ts for many operators and says what went wrong, with the call that did it.
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { findOperator } from "../../src/torch/index.ts"
import { native } from "../../src/torch/native.ts"
import type { Job, Report } from "./fuzz-child.ts"

const child = new URL("fuzz-child.ts", import.meta.url).pathname

/** Operators that can be called, sorted. */
export const callable = (): string[] =>
  native
    .operatorNames()
    .sort()
    .filter((name) => {
      try {
        return findOperator(name)
      } catch {
        return false
      }
    })

export const curated: string[] = readFileSync(new URL("../../scripts/aten-ops.txt", import.meta.url), "utf8")
  .split(/\s+/)
  .filter((name) => name.length > 0)
  .map((name) => `aten::${name}`)

/** All functions of the addon, but for the one that would make a thousand threads. */
export const raw: string[] = Object.keys(native)
  .filter((name) => name !== "setThreads")
  .map((name) => `native.${name}`)

export interface Outcome extends Omit<Report, "slowest"> {
  /** Process ends that no call may cause, each with the call. */
  crashes: string[]
}

const PATIENCE = 40 // seconds for one call; the slowest honest ones fill 4 GB, which takes 16 on a busy machine

/** Calls every operator `calls` times in child processes, two at a time. */
export async function fuzz({ operators, calls, seed }: Omit<Job, "log">): Promise<Outcome> {
  const total: Outcome = { calls: 0, returned: 0, threw: 0, violations: [], leaked: 0, crashes: [] }
  const workers = Math.min(2, availableParallelism())
  await Promise.all(
    Array.from({ length: workers }, async (_, worker) => {
      let rest = operators.filter((_, k) => k % workers === worker)
      while (rest.length > 0) {
        const { report, end, last } = await run({ operators: rest, calls, seed })
        if (report) {
          for (const key of ["calls", "returned", "threw", "leaked"] as const) total[key] += report[key]
          total.violations.push(...report.violations)
          return
        }
        total.crashes.push(`${end} in ${last}`)
        const at = rest.findIndex((name) => last.includes(`${name}(`))
        rest = at < 0 ? [] : rest.slice(at + 1) // go on behind the operator that did it
      }
    }),
  )
  return total
}

async function run(job: Omit<Job, "log">): Promise<{ report?: Report; end: string; last: string }> {
  const folder = mkdtempSync(join(tmpdir(), "pixelwise-fuzz-"))
  const log = join(folder, "last-call")
  const command = [process.execPath, child, JSON.stringify({ ...job, log } satisfies Job)] as const
  // Memory that an operator takes past the allocator must not take the machine down. Linux only; 6 GB.
  const limited =
    process.platform === "linux" ? ["sh", "-c", 'ulimit -d 6000000; exec "$@"', "sh", ...command] : command
  try {
    const process = spawn(limited[0] as string, limited.slice(1), { stdio: ["ignore", "pipe", "pipe"] })
    const started = Date.now()
    let [output, errors] = ["", ""]
    process.stdout.on("data", (text) => {
      output += text
    })
    process.stderr.on("data", (text) => {
      errors = `${errors}${text}`.slice(-2000)
    })
    const timer = setInterval(() => {
      const silent = Date.now() - (statSync(log, { throwIfNoEntry: false })?.mtimeMs ?? started)
      if (silent > PATIENCE * 1000) process.kill("SIGKILL")
    }, 1000)
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
      process.on("close", (...end) => resolve(end)),
    )
    clearInterval(timer)
    if (code === 0) return { report: JSON.parse(output.trim().split("\n").at(-1) as string), end: "", last: "" }
    const reason = signal === "SIGKILL" ? `no end after ${PATIENCE} s` : (signal ?? `exit code ${code}: ${errors}`)
    return { end: reason, last: readFileSync(log, "utf8").trim() }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
