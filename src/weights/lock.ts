// One process at a time: a lock is a file that exists. Its owner touches it now and then, so that the lock of a process
// that was killed grows old and is taken away by the next one.
import { open, rm, stat, utimes } from "node:fs/promises"
import { setTimeout as sleep } from "node:timers/promises"

const STALE = 10_000 // milliseconds since it was touched
const LOOK_EVERY = 200 // milliseconds

/**
 * Runs `work` while no other process, and nobody else in this one, runs work under the same lock.
 * After an unlucky race for an old lock two may run all the same: what they write must be checked, not trusted.
 * @param onWait called while another one works
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  { signal, onWait }: { signal?: AbortSignal | undefined; onWait?: () => unknown } = {},
): Promise<T> {
  while (!(await take(path))) {
    await onWait?.()
    await sleep(LOOK_EVERY, undefined, { signal })
  }
  const touch = setInterval(() => utimes(path, new Date(), new Date()).catch(() => {}), STALE / 5)
  try {
    return await work()
  } finally {
    clearInterval(touch)
    await rm(path, { force: true })
  }
}

async function take(path: string): Promise<boolean> {
  try {
    await (await open(path, "wx")).close()
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error
  }
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0, // just freed
  )
  if (age > STALE) await rm(path, { force: true })
  return false
}
