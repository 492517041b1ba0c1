// A process that measures on request, and what else the machine did meanwhile.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { sum } from "../src/arrays.ts"
import { givenEnvironment } from "../src/torch/native.ts"

/** A question goes in as one line, the answer comes out as one. */
export class Contestant {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"], env: givenEnvironment() })
    this.#process.on("error", ({ message }) => {
      console.error(`cannot start ${program}: ${message}. Install python3-torch, or name another Python: --python`)
      process.exit(2)
    })
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]()
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

  /** Lets it end, and waits for that. */
  async end(): Promise<void> {
    this.#process.stdin?.end()
    if (this.#process.exitCode === null) await once(this.#process, "exit")
  }
}

const TICKS = 100 // a second: what Linux counts processor time in, /proc/stat

/**
 * Cores that others than this process and those it has started keep busy, from now until the function that it returns is called; null
 * where the system does not tell (Linux does). What a hypervisor takes away counts too. It is counted in hundredths of a second.
 */
export function watchOthers(): () => number | null {
  const others = () => (existsSync("/proc/stat") ? ticksOfAll() - ticksOfOurs() : null)
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

/** Of this process and its descendants. A process that has ended counts among its parent's. */
function ticksOfOurs(): number {
  const processes = new Map(readdirSync("/proc").flatMap(readProcess))
  const isOurs = (pid: number): boolean => {
    const parent = processes.get(pid)?.parent
    return pid === process.pid || (parent !== undefined && isOurs(parent))
  }
  return sum([...processes].map(([pid, { ticks }]) => (isOurs(pid) ? ticks : 0)))
}

/** "pid (name) state parent ...": utime, stime and those of ended children are the 14th to 17th. */
function readProcess(name: string): [pid: number, { parent: number; ticks: number }][] {
  if (!/^\d+$/.test(name)) return []
  try {
    const fields = readFileSync(`/proc/${name}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
    return [[Number(name), { parent: Number(fields[1]), ticks: sum(fields.slice(11, 15).map(Number)) }]]
  } catch {
    return [] // it has ended meanwhile
  }
}
