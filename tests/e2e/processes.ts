// Runs of several processes, for tests: what they logged, and their processes.
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { expect } from "vitest"
import { RunFolder, type StepRecord } from "../../src/train/run-folder.ts"
import { type Finished, startWith } from "./cli.ts"

export const lossesOf = (out: string) =>
  RunFolder.open(out)
    .records()
    .filter((record): record is StepRecord => record.kind === "step")
    .map(({ loss }) => loss)
export const scoresOf = (out: string) =>
  RunFolder.open(out)
    .records()
    .flatMap((record) => (record.kind === "evaluation" ? [record.scores] : []))

/** Numbers of two runs, step by step. @param tolerance relative */
export function expectClose(actual: number[], expected: number[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length)
  for (const [k, value] of actual.entries()) {
    expect(Math.abs(value - expected[k]!) / expected[k]!, `step ${k + 1}: ${value}, ${expected[k]}`).toBeLessThan(
      tolerance,
    )
  }
}

/** Waits until the run has logged that many steps. */
export async function untilStep(out: string, steps: number, finished: Promise<Finished>): Promise<void> {
  const file = join(out, "metrics.jsonl")
  let ended: Finished | null = null
  void finished.then((result) => {
    ended = result
  })
  while (!(existsSync(file) && readFileSync(file, "utf8").split("\n").length > steps)) {
    if (ended !== null) throw new Error(`it ended before: ${(ended as Finished).stderr}`)
    await sleep(50)
  }
}

/** Process ids of the workers that a launcher has started, by rank. */
export function workersOf(launcher: number): number[] {
  const children = readFileSync(`/proc/${launcher}/task/${launcher}/children`, "utf8").trim().split(" ").map(Number)
  const rankOf = (pid: number) => Number(/\bRANK=(\d+)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1])
  return children.sort((a, b) => rankOf(a) - rankOf(b))
}

/** One process of a group, as torchrun would start it. */
export const member = (rank: number, size: number, port: number, ...args: string[]) =>
  startWith(
    {
      RANK: String(rank),
      WORLD_SIZE: String(size),
      LOCAL_RANK: String(rank),
      LOCAL_WORLD_SIZE: String(size),
      MASTER_ADDR: "127.0.0.1",
      MASTER_PORT: String(port),
    },
    ...args,
  )

/** Whether a process computes; one that has ended may be remembered until somebody asks for its exit code. */
export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}
