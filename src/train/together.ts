// What the processes of a group decide together while they train, so that all do the same after the same step.
import { UserError } from "../errors.ts"
import type { Group } from "../torch/index.ts"
import type { TrainConfig } from "./config.ts"

/** Whether any of the processes has been asked to stop. */
export const isStopped = (group: Group, signal: AbortSignal | undefined): boolean =>
  group.sumNumbers([signal?.aborted ? 1 : 0])[0]! > 0

/** @throws AbortError in all processes when any has been asked to stop */
export function throwIfStopped(group: Group, signal: AbortSignal | undefined): void {
  if (!isStopped(group, signal)) return
  signal?.throwIfAborted()
  throw new DOMException("Another process of the group was asked to stop.", "AbortError")
}

/** Rank 0's number: its clock counts. */
export const ofMain = (group: Group, value: number): number => group.sumNumbers([group.isMain ? value : 0])[0]!

export const isFiniteInAll = (group: Group, value: number): boolean => Number.isFinite(group.sumNumbers([value])[0])

/**
 * This process's items, while the others have theirs: after each it is asked whether to stop.
 * @param rounds as many as the process with the most items has
 * @throws AbortError in all processes when any has been asked to stop
 */
export async function* inStep<T>(
  group: Group,
  items: AsyncIterable<T>,
  { rounds, signal }: { rounds: number; signal: AbortSignal | undefined },
): AsyncGenerator<T> {
  let round = 0
  for await (const item of items) {
    yield item
    throwIfStopped(group, signal)
    round++
  }
  for (; round < rounds; round++) throwIfStopped(group, signal)
}

/** What may differ between processes, and when a run is resumed: where they find the data, and what of their machines they use. */
export const ownMatters: readonly string[] = [
  "data",
  "device",
  "cudaGraph",
  "threads",
  "workers",
  "cache",
] satisfies (keyof TrainConfig)[]

/**
 * Every process must train the same model in the same way on the same images.
 * @param images names of all that are trained and evaluated on
 * @throws UserError in all processes, which names an option or a rank that differs
 */
export function checkAgreement(group: Group, config: TrainConfig, images: readonly string[]): void {
  const all = group.gather({ config: JSON.stringify(config), images })
  const first = JSON.parse(all[0]!.config) as Record<string, unknown>
  for (const [rank, other] of all.entries()) {
    const theirs = JSON.parse(other.config) as Record<string, unknown>
    for (const key of Object.keys(first)) {
      const [ours, given] = [first, theirs].map((config) => JSON.stringify(config[key]))
      if (ours === given || ownMatters.includes(key)) continue
      throw new UserError(
        `Rank ${rank} was started with ${key} ${given}, and rank 0 with ${ours}. Give all processes the same options.`,
      )
    }
    if (String(other.images) !== String(all[0]!.images)) {
      throw new UserError(
        `Rank ${rank} has other images (${other.images.length}) than rank 0 (${all[0]!.images.length}) under ${theirs.data}. Give all machines the same data set.`,
      )
    }
  }
}

/** @throws UserError in all processes when they have read different states of a run that goes on */
export function checkProgress(group: Group, step: number): void {
  const steps = group.gather(step)
  const rank = steps.findIndex((other) => other !== steps[0])
  if (rank < 0) return
  throw new UserError(
    `Rank ${rank} goes on from step ${steps[rank]}, and rank 0 from step ${steps[0]}. Give all machines the same run folder, on a disk that they share.`,
  )
}
