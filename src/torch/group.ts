// The processes that train one model together, as whatever trains sees them. One process by itself is a group too, `alone`, so
// nobody asks whether there are others.
import { type BatchNormState, batchNormClamp } from "./kernels.ts"
import type { Parameter } from "./parameter.ts"
import type { Tensor } from "./tensor.ts"

/**
 * What a method computes together with the other processes, all must call, in the same order.
 * @throws GroupError from each of them when another process is gone, or does not come within the group's timeout
 */
export interface Group {
  /** 0 to size - 1. */
  readonly rank: number
  readonly size: number
  /** Its number among those on this machine, 0 to localSize - 1: which of several GPUs is its own. */
  readonly localRank: number
  /** How many of them are on this machine, and share its cores and memory. */
  readonly localSize: number
  /** Whether this is rank 0, which writes the files and decides what takes time. */
  readonly isMain: boolean

  /** The sum over all ranks of tensors of one shape. Its gradient goes back to all of them. A fresh tensor. */
  sum(x: Tensor): Tensor
  /** Sums over all ranks, number by number. Whole numbers are exact up to 2^53. */
  sumNumbers(values: ArrayLike<number>): Float64Array
  /** What each rank gave, by rank; whatever structuredClone can copy. */
  gather<T>(value: T): T[]
  /** Each tensor gets rank 0's numbers, in place. */
  copyFromMain(tensors: Iterable<Tensor>): void
  /**
   * Batch-norm by the statistics of all ranks' batches together, which moves the running ones.
   * @param x [N, C, H, W]
   */
  batchNorm(x: Tensor, state: BatchNormState): Tensor
  /**
   * Gradients become their means over all ranks.
   * @param parameters in the order in which a forward uses them; those that do not learn are left out
   */
  meanGradients(parameters: readonly Parameter[]): GradientMean

  /** Waits for the others, and ends the group. */
  leave(): Promise<void>
  /**
   * Ends the group because of an error here, which the others hear of.
   * @returns the error to show: where it was the group that failed, one that names the rank whose fault it was
   */
  fail(error: unknown): Promise<unknown>
}

export interface GradientMean extends Disposable {
  /**
   * The next backward() of this loss leaves mean gradients: a bucket is sent as soon as it is full, while backward goes on.
   * Without it gradients stay this rank's own, and add up.
   */
  prepare(loss: Tensor): void
}

/** The group did not hold: a process of it is gone, hangs, or has failed. */
export class GroupError extends Error {
  override name = "GroupError"
}

/** One process by itself. */
export const alone: Group = {
  rank: 0,
  size: 1,
  localRank: 0,
  localSize: 1,
  isMain: true,
  sum: (x) => x.alias(),
  sumNumbers: (values) => Float64Array.from(values),
  gather: (value) => [value],
  copyFromMain: () => {},
  batchNorm: (x, state) => batchNormClamp(x, state, true),
  meanGradients: () => ({ prepare() {}, [Symbol.dispose]() {} }),
  leave: async () => {},
  fail: async (error) => error,
}
