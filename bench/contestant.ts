// A process that measures on request, and what else the machine did meanwhile.
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { sum } from "../src/arrays.ts"

/** A question goes in as one line, the answer comes out as one. */
export class Contestant {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] })
    this.#process.on("error", ({ message }) => {
      console.error(`cannot start ${program}: ${message}. Install python3-torch, or name another Python: --python`)
      process.exit(2)
    })
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]()
  }

  get pid(): number {
    return this.#process.pid!
  }

  async measure(question: string): Promise<number> {
    return Number(await this.ask(question))
  }

  async ask(question: string): Promise<string> {
    this.#process.stdin?.write(`${question}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the process that was asked for ${question} ended; see its message above`)
    return value
  }

  end(): void {
    this.#process.stdin?.end()
  }
}

const TICKS = 100 // a second: what Linux counts processor time in, /proc/stat

/**
 * Cores that processes other than these, and this one, keep busy from now until the function that it returns is called; null
 * where the system does not tell (Linux does). What a hypervisor takes away counts too. It is counted in hundredths of a second.
 */
export function watchOthers(pids: readonly number[]): () => number | null {
  const own = [process.pid, ...pids]
  const others = () => (existsSync("/proc/stat") ? ticksOfAll() - sum(own.map(ticksOf)) : null)
  const [start, before] = [performance.now(), others()]
  return () => {
    const after = others()
    const seconds = (performance.now() - start) / 1000
    return before === null || after === null ? null : Math.max(0, after - before) / TICKS / seconds
  }
}

/** "cpu  user nice system idle iowait irq softirq steal ...": all but idle and iowait. */
function ticksOfAll(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
    .split("\n", 1)[0]!
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return sum([user!, nice!, system!, irq!, softirq!, steal ?? 0])
}

/** "pid (name) state ...": utime and stime are the 14th and 15th. */
function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ")
  return Number(fields[11]) + Number(fields[12])
}
