import { Worker } from "node:worker_threads"
import { afterEach, describe, expect, test, vi } from "vitest"
import { WorkerPool } from "./worker-pool.ts"

const caller = new URL("../../tests/data/caller.ts", import.meta.url).href // its folder has the workers' modules

const open = (threads: number) =>
  new WorkerPool<number, number>(caller, "sleeping-worker", { threads, data: {}, tasksAtOnce: 2 })

describe("closing", () => {
  afterEach(() => vi.restoreAllMocks())

  /** Which threads had loaded their module (piscina's first message of a thread) when they were ended. */
  function watchEnds() {
    const loaded = new Set<Worker>()
    const ends: boolean[] = []
    const { emit, terminate } = Worker.prototype
    vi.spyOn(Worker.prototype, "emit").mockImplementation(function (this: Worker, ...event) {
      if (event[0] === "message") loaded.add(this)
      return emit.apply(this, event)
    })
    vi.spyOn(Worker.prototype, "terminate").mockImplementation(function (this: Worker) {
      ends.push(loaded.has(this))
      return terminate.call(this)
    })
    return ends
  }

  test("ends no thread that still loads its module", async () => {
    const ends = watchEnds()
    await open(3).close()
    expect(ends).toEqual([true, true, true])
  })

  test("answers first what was asked, of every thread", async () => {
    const pool = open(2)
    const answers = Promise.all([10, 20, 200, 30, 40].map((ms) => pool.run(ms)))
    await pool.close()
    expect(await answers).toEqual([10, 20, 200, 30, 40])
  })

  test("does not wait for threads that could not start", async () => {
    const pool = new WorkerPool(caller, "no-such-module", { threads: 2, data: {} })
    await expect(pool.run(1)).rejects.toThrow("no-such-module")
    await pool.close()
  })
})

test("memory that is transferred is gone here, not copied", async () => {
  const pool = new WorkerPool<Float32Array, number>(caller, "sleeping-worker", { threads: 1, data: {} })
  const values = new Float32Array(100)
  expect(await pool.run(values, [values.buffer])).toBe(100)
  expect(values.length).toBe(0)
  await pool.close()
})
