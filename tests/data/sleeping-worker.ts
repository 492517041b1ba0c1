// The worker thread of worker-pool.test.ts: answers with the milliseconds it has slept, or with an array's length.
import { setTimeout as sleep } from "node:timers/promises"

export default async function work(task: number | Float32Array): Promise<number> {
  if (typeof task !== "number") return task.length
  await sleep(task)
  return task
}
