// What libtorch runs on: threads, memory, versions.
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
