// Random number generators of libtorch (Mersenne Twister, the same numbers as PyTorch's for the same seed).
import { native } from "./native.ts"
import { Tensor } from "./tensor.ts"

const abandoned = new FinalizationRegistry<number>((handle) => native.releaseGenerator(handle))

/** A stream of its own for `randn(shape, { generator })`, independent of the default one. @param seed integer, 0 to 2^53 - 1 */
export class Generator {
  readonly handle: number

  constructor(seed: number) {
    this.handle = native.createGenerator(seed)
    abandoned.register(this, this.handle)
  }
}

/** Seeds the default generators of all devices, as `torch.manual_seed`. */
export const manualSeed = (seed: number): void => native.manualSeed(seed)

/**
 * The state, uint8, of the default generators that operators on a device draw from: the CPU's, then that of a GPU ("cuda:0") itself.
 * With `setRngState` a stopped run goes on with the same numbers.
 */
export const rngState = (device = "cpu"): Tensor => new Tensor(native.rngState(device))

/** @param state of any device: what it says of a generator that `device` has not is left out, one of which it says nothing stays */
export const setRngState = (state: Tensor, device = "cpu"): void =>
  native.setRngState(state.handleFor("setRngState"), device)
