import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { RunFolder } from "./run-folder.ts"

const scratch = mkdtempSync(join(tmpdir(), "run-"))
afterAll(() => rmSync(scratch, { recursive: true }))
writeFileSync(join(scratch, "config.json"), "{}")
const run = RunFolder.open(scratch)
const lock = run.file("training.lock")
const lockAs = (owner: object) => writeFileSync(lock, JSON.stringify(owner))

test("one process at a time trains into a run, and the lock goes with it", () => {
  {
    using _ = run.lock()
    expect(() => run.lock()).toThrow(UserError)
    expect(() => run.lock()).toThrow(`is being trained by process ${process.pid} on ${hostname()}. Wait for it`)
  }
  expect(existsSync(lock)).toBe(false)
})

test("the lock of a process that is gone is taken over, as is one that was cut off", () => {
  lockAs({ process: 2 ** 22 + 1, host: hostname() }) // above any process id of Linux
  run.lock()[Symbol.dispose]()
  writeFileSync(lock, '{"proc')
  run.lock()[Symbol.dispose]()
  expect(existsSync(lock)).toBe(false)
})

test("of another machine's process nothing is known: it counts as running, and the file to remove is named", () => {
  lockAs({ process: 1, host: "elsewhere" })
  expect(() => run.lock()).toThrow(
    `process 1 on elsewhere. Wait for it, or stop it; if there is no such process, remove ${lock}.`,
  )
})
