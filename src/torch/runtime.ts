// What libtorch runs on: threads, memory, versions.
import { UserError } from "../errors.ts"
import { type MemoryStats, native } from "./native.ts"

export type { MemoryStats }

/** Threads that one operator may use. Set to the available cores at load, unless OMP_NUM_THREADS is set. */
export const threads = (): number => native.threads()
export const setThreads = (count: number): void => native.setThreads(count)

/** Handles that JavaScript holds now: flat over a training loop, or something leaks. */
export const liveTensors = (): number => native.liveTensors()

/** Bytes of tensors in the CPU's memory. */
export const memory = (): MemoryStats => native.memory()
export const resetPeakMemory = (): void => native.resetPeakMemory()
/** Gives freed memory that is kept for the next tensors back to the system. */
export const releaseCachedMemory = (): void => native.releaseCachedMemory()

/** What libtorch is, and what it found. */
export const buildInfo = () => native.buildInfo()

/** Whether the processor has AVX-512 and OpenBLAS does not use it, see levers.ts. */
export const areProductsNarrow = (): boolean => native.narrowProducts()

/**
 * That tensors can be on a device: "cpu", "cuda" (the first), "cuda:1".
 * @throws UserError where they cannot
 */
export function checkDevice(device: string): void {
  if (device === "cpu") return
  const { libtorch, cudaDevices } = buildInfo()
  if (Number(device.split(":")[1] ?? 0) < cudaDevices) return
  throw new UserError(
    `device is ${device}, but libtorch ${libtorch} finds ${cudaDevices === 0 ? "no CUDA device" : `${cudaDevices} CUDA device${cudaDevices === 1 ? "" : "s"}, counted from 0`}; expected cpu${cudaDevices === 0 ? ", or a libtorch with CUDA and its driver (pixelwise doctor shows what is found)" : " or one of those"}.`,
  )
}

/** Lets cuDNN try its algorithms on the first batch of each shape, and take the fastest: for training, where shapes repeat. */
export const setCudnnBenchmark = (enabled: boolean): void => native.setCudnnBenchmark(enabled)
