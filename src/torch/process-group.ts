// Processes that train one model together, on one machine or several: libtorch's process groups (c10d), with gloo on the CPU.
import { deserialize, serialize } from "node:v8"
import { UserError } from "../errors.ts"
import { fromData } from "./create.ts"
import { dispatch, findOperator } from "./dispatch.ts"
import { noGrad } from "./grad-mode.ts"
import { type GradientMean, type Group, GroupError } from "./group.ts"
import type { BatchNormState } from "./kernels.ts"
import { native } from "./native.ts"
import type { Parameter } from "./parameter.ts"
import { type Membership, Rendezvous } from "./rendezvous.ts"
import { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

/** What this build can connect processes with: "gloo" for tensors of the CPU, "nccl" for those of CUDA. */
export const groupBackends = (): readonly string[] => native.groupBackends

/** Of gradients that are sent together, in bytes: PyTorch's, large enough to use a network's rate, small enough to begin early. */
const BUCKET = 25 * 2 ** 20

export interface JoinOptions extends Membership {
  readonly localRank: number
  readonly localSize: number
}

export class ProcessGroup implements Group {
  readonly rank: number
  readonly size: number
  readonly localRank: number
  readonly localSize: number
  readonly #rendezvous: Rendezvous
  readonly #timeout: number
  readonly #id: number

  private constructor({ rank, size, localRank, localSize, timeout }: JoinOptions, rendezvous: Rendezvous, id: number) {
    this.rank = rank
    this.size = size
    this.localRank = localRank
    this.localSize = localSize
    this.#rendezvous = rendezvous
    this.#timeout = timeout
    this.#id = id
  }

  /**
   * Waits until all processes have come and are connected.
   * @throws UserError when this build has no process groups, or not all come within the timeout
   */
  static async join(options: JoinOptions, signal?: AbortSignal): Promise<ProcessGroup> {
    if (groupBackends().length === 0) {
      throw new UserError(
        "This build of the addon cannot connect processes: libtorch's gloo headers were missing when it was made. Install them (Debian: apt-get install libgloo-dev) and run npm run setup.",
      )
    }
    const rendezvous = await Rendezvous.of(options, signal)
    const { rank, size, timeout } = options
    try {
      const address = await rendezvous.address()
      const id = await native.createGroup(rendezvous.store, rank, size, address, Math.ceil(1000 * timeout))
      return new ProcessGroup(options, rendezvous, id)
    } catch (cause) {
      const verdict = await rendezvous.settle({ isLost: true, message: firstLine(cause) })
      await rendezvous.close()
      throw new GroupError(`The processes could not be connected: ${verdict}.`, { cause })
    }
  }

  get isMain(): boolean {
    return this.rank === 0
  }

  sum(x: Tensor): Tensor {
    return dispatch(findOperator("pixelwise::sum_over_ranks"), [x, this.#id]) as Tensor
  }

  sumNumbers(values: ArrayLike<number>): Float64Array {
    return tidy(() => {
      const sums = fromData(Float64Array.from(values))
      this.addUp(sums)
      return sums.data() as Float64Array
    })
  }

  /** Replaces a tensor's numbers by their sums over all ranks, without history. */
  addUp(x: Tensor): void {
    this.#together(() => native.allReduce(this.#id, x.handleFor("addUp")))
  }

  gather<T>(value: T): T[] {
    const bytes = serialize(value)
    // All give equally many bytes, so the longest counts.
    const lengths = this.#gatherData(Float64Array.of(bytes.length)).map((data) => (data as Float64Array)[0]!)
    const padded = new Uint8Array(Math.max(...lengths))
    padded.set(bytes)
    const all = this.#gatherData(padded) as Uint8Array[]
    return all.map((data, rank) => deserialize(data.subarray(0, lengths[rank])) as T)
  }

  #gatherData(data: Float64Array | Uint8Array): NodeJS.TypedArray[] {
    return tidy(() => {
      const own = fromData(data)
      const handles = this.#together(() => native.allGather(this.#id, own.handleFor("gather")))
      return handles.map((handle) => new Tensor(handle).data())
    })
  }

  copyFromMain(tensors: Iterable<Tensor>): void {
    using _ = noGrad()
    const handles = Array.from(tensors, (tensor) => tensor.handleFor("copyFromMain"))
    this.#together(() => native.broadcast(this.#id, handles, 0))
  }

  batchNorm(x: Tensor, { weight, bias, running_mean, running_var, momentum, eps }: BatchNormState): Tensor {
    const args = [x, weight, bias, running_mean, running_var, momentum, eps, this.#id]
    return dispatch(findOperator("pixelwise::sync_batch_norm"), args) as Tensor
  }

  meanGradients(parameters: readonly Parameter[]): GradientMean {
    const learning = parameters.filter(({ requiresGrad }) => requiresGrad)
    const handles = learning.map((parameter) => parameter.handleFor("meanGradients"))
    const reducer = native.createReducer(this.#id, handles, BUCKET)
    return {
      prepare: (loss) => native.prepareReduction(this.#id, reducer, loss.handleFor("meanGradients")),
      [Symbol.dispose]: () => native.releaseReducer(this.#id, reducer),
    }
  }

  async leave(): Promise<void> {
    await native.barrier(this.#id).catch((cause) => {
      throw new GroupError(firstLine(cause), { cause })
    })
    await native.leaveGroup(this.#id)
    await this.#rendezvous.close()
  }

  async fail(error: unknown): Promise<unknown> {
    const isLost = isGroupFailure(error)
    native.abandonGroup(this.#id) // first: who waits for this process learns of it
    const verdict = await this.#rendezvous.settle({ isLost, message: firstLine(error) })
    await this.#rendezvous.close()
    if (!isLost) return error
    const waited = /timed out/i.test(messagesOf(error).join()) ? `; the others waited ${this.#timeout} s for it` : ""
    return new GroupError(`The processes cannot go on together: ${verdict}${waited}.`, { cause: error })
  }

  #together<T>(act: () => T): T {
    try {
      return act()
    } catch (cause) {
      throw new GroupError(firstLine(cause), { cause })
    }
  }
}

const firstLine = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split("\n")[0]!

/** Operators and backward() tell of a lost process, too: by the text of gloo or NCCL, which names its source file. */
export const isGroupFailure = (error: unknown): boolean =>
  error instanceof GroupError ||
  (!(error instanceof UserError) && messagesOf(error).some((message) => /gloo\/|NCCL/.test(message)))

function messagesOf(error: unknown): string[] {
  return error instanceof Error ? [error.message, ...messagesOf(error.cause)] : []
}
