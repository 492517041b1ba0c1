// Several processes of one group, for tests: each runs a scenario of scenarios.ts.
import { type ChildProcess, spawn } from "node:child_process"
import { createServer } from "node:net"
import { join } from "node:path"
import { onTestFinished } from "vitest"

const script = join(import.meta.dirname, "scenarios.ts")

export interface Ended {
  readonly rank: number
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** What the scenario returned; undefined where it threw. */
  // biome-ignore lint/suspicious/noExplicitAny: each scenario has its own
  readonly value: any
  readonly error: string | undefined
  readonly stderr: string
  /** Seconds from its start. */
  readonly seconds: number
}

export interface Member {
  readonly child: ChildProcess
  /** It is in the group, or has ended. */
  readonly joined: Promise<unknown>
  readonly ended: Promise<Ended>
}

export interface StartOptions {
  readonly size: number
  readonly port: number
  readonly host?: string
  /** Seconds. */
  readonly timeout?: number
  /** Whether this test keeps the store. */
  readonly hasStore?: boolean
  /** Handed to the scenario. */
  readonly data?: unknown
  /** Words before the command, such as "ip netns exec a". */
  readonly within?: readonly string[]
}

/** Starts one process. It prints that it has joined, and last its result. */
export function startMember(scenario: string, rank: number, options: StartOptions): Member {
  const { size, port, host = "127.0.0.1", timeout = 20, hasStore, data = null, within = [] } = options
  const [command, ...args] = [...within, process.execPath, script, scenario]
  const env = {
    ...process.env,
    OMP_NUM_THREADS: "1",
    MEMBER: JSON.stringify({ rank, size, port, host, timeout, hasStore, data }),
  }
  const begin = performance.now()
  const child = spawn(command!, args, { env, stdio: ["ignore", "pipe", "pipe"] })
  onTestFinished(() => void child.kill("SIGKILL")) // one that failed may have left it at work
  let [stdout, stderr] = ["", ""]
  child.stdout!.on("data", (chunk) => {
    stdout += chunk
  })
  child.stderr!.on("data", (chunk) => {
    stderr += chunk
  })
  const joined = new Promise((done) => child.stdout!.once("data", done).once("close", done))
  const ended = new Promise<Ended>((done) =>
    child.on("close", (code, signal) => {
      const last = stdout.trim().split("\n").at(-1)
      const { value, error } = last?.startsWith("{") ? JSON.parse(last) : {}
      done({ rank, code, signal, value, error, stderr, seconds: (performance.now() - begin) / 1000 })
    }),
  )
  return { child, joined, ended }
}

/** Runs a scenario in `size` processes. */
export async function together(
  scenario: string,
  size: number,
  options: Omit<StartOptions, "size" | "port"> = {},
): Promise<Ended[]> {
  const port = await freePort()
  const members = Array.from({ length: size }, (_, rank) => startMember(scenario, rank, { size, port, ...options }))
  return await Promise.all(members.map(({ ended }) => ended))
}

export const freePort = (): Promise<number> =>
  new Promise((done) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
