// Worker threads that all run one module.
import { extname } from "node:path"
import type { Worker } from "node:worker_threads"
import { Piscina } from "piscina"

type PoolOptions = {
  readonly threads: number
  /** What each worker finds as `workerData`. */
  readonly data: object
  /** How many tasks a worker is given at once; default: one. */
  readonly tasksAtOnce?: number
}

/**
 * Worker threads, ended only where that is harmless: Node 24 aborts the whole process where a thread is ended while it loads
 * a module, or while it makes a decompressor. Piscina's own `close` waits for neither where it has several threads.
 */
export class WorkerPool<Task, Answer> {
  readonly #pool: Piscina<Task, Answer>
  readonly #threads: readonly Worker[]
  readonly #started: Promise<unknown>
  readonly #underWay = new Set<Promise<Answer>>()

  /**
   * @param caller `import.meta.url` of the module beside which the workers' module stands
   * @param name of that module, without its ending: the checkout and the tests run .ts, the published package .js
   */
  constructor(caller: string, name: string, { threads, data, tasksAtOnce = 1 }: PoolOptions) {
    this.#pool = new Piscina({
      filename: new URL(`./${name}${extname(caller)}`, caller).href,
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: tasksAtOnce,
      recordTiming: false,
      workerData: data,
    })
    this.#pool.on("error", () => {}) // an idle worker died: the pool has replaced it, and a task that fails says so itself
    this.#threads = this.#pool.threads
    this.#started = Promise.all(this.#threads.map(hasStarted))
  }

  /** @param transferList memory that the worker takes over instead of a copy */
  run(task: Task, transferList: ArrayBuffer[] = []): Promise<Answer> {
    const answer = this.#pool.run(task, { transferList })
    this.#underWay.add(answer)
    const isDone = () => this.#underWay.delete(answer)
    answer.then(isDone, isDone)
    return answer
  }

  /** Ends the threads, once they have answered what they were asked. */
  async close(): Promise<void> {
    for (const thread of this.#threads) thread.ref() // or a process with nothing else to do would end before they do
    await this.#started
    await Promise.allSettled(this.#underWay)
    await this.#pool.destroy()
  }
}

/** A thread's first message says that its module is loaded. */
function hasStarted(thread: Worker): Promise<void> {
  return new Promise((resolve) => {
    thread.once("message", () => resolve())
    thread.once("exit", () => resolve())
  })
}
