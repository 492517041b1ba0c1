// Several processes of one command on this machine: `pixelwise train --nproc 2` starts itself twice, each with its rank in the
// environment, as torchrun would.
import { type ChildProcess, spawn } from "node:child_process"
import { createServer } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { GROUP_TIMEOUT } from "../train/distributed.ts"
import { GROUP_FAILED } from "./exit-codes.ts"

interface Worker {
  readonly rank: number
  readonly child: ChildProcess
  /** Its last words on standard error, where they are not passed on. */
  words: string
  readonly ended: Promise<Ending>
}

interface Ending {
  readonly rank: number
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

const GRACE = 15_000 // milliseconds for the last words of those that the group's timeout has ended
const KEPT_WORDS = 4000 // characters
const SAME_KEYPRESS = 1000 // milliseconds, as in interrupt.ts

/**
 * Runs this program's command in several processes that train together. Rank 0's output is passed on. When one ends before its
 * time the others end by themselves, rank 0 after it has saved; those that hang are ended. Standard error tells which it was,
 * unless it was rank 0 and has said so itself.
 * @param args of the command, without those that say how many processes there are
 * @param options.groupTimeout seconds after which those who wait for a process give up on it
 * @returns exit code
 */
export async function launch(
  count: number,
  args: readonly string[],
  { groupTimeout = GROUP_TIMEOUT }: { groupTimeout?: number },
): Promise<number> {
  const port = await freePort()
  const workers = Array.from({ length: count }, (_, rank) => startWorker(rank, count, port, args))
  const living = new Set(workers)
  const endAll = (signal: NodeJS.Signals) => {
    for (const { child } of living) child.kill(signal)
  }
  const interrupts = passOnInterrupts(endAll)
  const grace = 1000 * groupTimeout + GRACE
  const endings: Ending[] = [] // in their order
  for (const worker of workers) {
    void worker.ended.then((ending) => {
      living.delete(worker)
      endings.push(ending)
      if (!isOrderly(ending) && living.size > 0) void sleep(grace, null, { ref: false }).then(() => endAll("SIGKILL"))
    })
  }
  const [main] = await Promise.all(workers.map(({ ended }) => ended))
  interrupts.stop()
  if (interrupts.isForced) return 130
  const wrong = endings.filter((ending) => !isOrderly(ending) && ending.code !== GROUP_FAILED)
  const hasSaidSo = ({ rank, signal }: Ending) => rank === 0 && signal === null
  const guilty = wrong.find(hasSaidSo) ?? wrong[0]
  if (guilty && !hasSaidSo(guilty)) console.error(`pixelwise: ${describe(guilty, workers[guilty.rank]!)}`)
  return guilty ? (guilty.code ?? 1) : (main!.code ?? 1)
}

function startWorker(rank: number, count: number, port: number, args: readonly string[]): Worker {
  const env = {
    ...process.env,
    RANK: String(rank),
    LOCAL_RANK: String(rank),
    WORLD_SIZE: String(count),
    LOCAL_WORLD_SIZE: String(count),
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: String(port),
  }
  // The channel between them is closed when this process is gone: then the workers end, too.
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...args], {
    env,
    stdio: rank === 0 ? ["ignore", "inherit", "inherit", "ipc"] : ["ignore", "ignore", "pipe", "ipc"],
  })
  const worker: Worker = {
    rank,
    child,
    words: "",
    ended: new Promise((done) => child.on("close", (code, signal) => done({ rank, code, signal }))),
  }
  child.stderr?.on("data", (chunk) => {
    worker.words = (worker.words + chunk).slice(-KEPT_WORDS)
  })
  return worker
}

/** Ended as it should, or because the user wished it. */
const isOrderly = ({ code }: Ending): boolean => code === 0 || code === 130

function describe({ rank, code, signal }: Ending, { child, words }: Worker): string {
  const said = words.trim().split("\n").at(-1) ?? ""
  const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`
  return `Rank ${rank} (process ${child.pid}) ${how}${said ? `: ${said.replace(/^pixelwise: /, "")}` : "."}`
}

/** The first is passed on; a terminal gives it to all processes itself, and they know the same keypress. After a second all end at once. */
function passOnInterrupts(endAll: (signal: NodeJS.Signals) => void) {
  let first = Number.NaN
  const interrupts = {
    /** Whether the user did not want to wait. */
    isForced: false,
    stop() {
      process.off("SIGINT", pass)
      process.off("SIGTERM", pass)
    },
  }
  const pass = (signal: NodeJS.Signals) => {
    if (performance.now() - first > SAME_KEYPRESS) interrupts.isForced = true
    endAll(interrupts.isForced ? "SIGKILL" : signal)
    if (Number.isNaN(first)) first = performance.now()
  }
  process.on("SIGINT", pass)
  process.on("SIGTERM", pass)
  return interrupts
}

const freePort = (): Promise<number> =>
  new Promise((done, fail) => {
    const server = createServer()
    server.once("error", fail)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
