// Loads the native addon and gives its functions types. Nothing above src/torch imports this file.
import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { UserError } from "../errors.ts"
import type { DType } from "./dtype.ts"

export type Kind =
  | "Tensor"
  | "int"
  | "float"
  | "bool"
  | "Scalar"
  | "str"
  | "ScalarType"
  | "Layout"
  | "MemoryFormat"
  | "Device"
  | "Generator"
  | "list"
  | "unsupported"

export interface NativeType {
  readonly kind: Kind
  readonly optional: boolean
  /** For lists: what they hold, and the length that one number stands for (`int[2]`), or 0. */
  readonly element?: Kind
  readonly elementOptional?: boolean
  readonly fixedSize?: number
}

export interface NativeArgument extends NativeType {
  readonly name: string
  readonly keywordOnly: boolean
  /** libtorch's spelling of the default value; absent when the argument is required. */
  readonly default?: string
}

export interface NativeReturn extends NativeType {
  readonly name: string
  /** Index of the argument that is written and returned (`add_`), or -1. */
  readonly writtenArgument: number
}

export interface NativeOperator {
  readonly id: number
  readonly name: string
  readonly schema: string
  readonly arguments: readonly NativeArgument[]
  readonly returns: readonly NativeReturn[]
}

export interface MemoryStats {
  /** Bytes held by tensors now. */
  readonly liveBytes: number
  /** Bytes freed by tensors and kept for the next ones. */
  readonly cachedBytes: number
  /** Highest `liveBytes` since the last reset. */
  readonly peakBytes: number
  /** An allocation that would pass this is refused: the machine's (or container's) memory. */
  readonly limitBytes: number
}

export interface BuildInfo {
  readonly libtorch: string
  /** As libtorch reports them. */
  readonly config: string
  readonly parallel: string
  /** Whether our own operators use libtorch's threads; false: the compiler had no OpenMP, and they use one. */
  readonly operatorsShareThreads: boolean
  readonly cudaDevices: number
  /** Whether CUDA graphs can be captured: CUDA's headers were there when the addon was built. */
  readonly cudaGraphs: boolean
  /** The processor's instructions for products of bfloat16, such as "avx512_bf16"; null: it has none. */
  readonly bfloat16: string | null
  /** The processor whose instructions OpenBLAS uses, such as "Haswell"; null: libtorch has another BLAS. */
  readonly openBlasKernels: string | null
}

/** What libtorch did, slice by slice as they ended; times in microseconds of process.hrtime()'s clock. */
export interface NativeProfile {
  readonly names: readonly string[]
  readonly shapes: readonly string[]
  /** That began the profile. */
  readonly thread: number
  /** Of each slice: places in `names` and `shapes`, and the rest itself. */
  readonly name: Float64Array
  readonly shape: Float64Array
  readonly threads: Float64Array
  readonly isBackward: Float64Array
  readonly sequence: Float64Array
  readonly begin: Float64Array
  readonly end: Float64Array
}

type Bytes = NodeJS.TypedArray
/** The number of a slot in the addon's table of tensors. */
type Handle = number

export interface Native {
  operatorNames(): string[]
  findOperator(name: string, overload: string): NativeOperator
  call(id: number, ...values: unknown[]): unknown
  /** "float32[2, 3]" */
  signature(tensor: Handle): string
  /** Returns the signature of what it freed, or null when there was nothing. */
  release(tensor: Handle): string | null
  liveTensors(): number
  shape(tensor: Handle): number[]
  strides(tensor: Handle): number[]
  dtype(tensor: Handle): DType
  device(tensor: Handle): string
  requiresGrad(tensor: Handle): boolean
  isLeaf(tensor: Handle): boolean
  gradient(tensor: Handle): Handle | null
  setGradient(tensor: Handle, gradient: Handle | null): void
  fromData(data: Bytes, shape: readonly number[], dtype: DType): Handle
  read(tensor: Handle, into: Bytes): void
  backward(outputs: Handle[], gradients: (Handle | null)[], retainGraph: boolean, createGraph: boolean): void
  gradients(
    outputs: Handle[],
    inputs: Handle[],
    gradients: (Handle | null)[],
    retainGraph: boolean,
    createGraph: boolean,
  ): (Handle | null)[]
  gradEnabled(): boolean
  setGradEnabled(enabled: boolean): void
  enterAutocast(device: string, dtype: DType): void
  leaveAutocast(): void
  startProfile(): void
  /** Slices so far. */
  profileLength(): number
  stopProfile(): NativeProfile
  createGenerator(seed: number): number
  releaseGenerator(generator: number): boolean
  manualSeed(seed: number): void
  rngState(device: string): Handle
  setRngState(state: Handle, device: string): void
  threads(): number
  setThreads(count: number): void
  setCudnnBenchmark(enabled: boolean): void
  memory(): MemoryStats
  resetPeakMemory(): void
  releaseCachedMemory(): void
  // native/cuda-graph.cc; in a build without CUDA they refuse
  beginCapture(device: string): number
  endCapture(graph: number): void
  replayGraph(graph: number): void
  releaseGraph(graph: number): boolean
  // native/process-group.cc; in a build without process groups the list is empty and the functions are not there
  groupBackends: string[]
  openStore(host: string, port: number, isServer: boolean, timeout: number, prefix: string): Promise<number>
  storeSet(store: number, key: string, text: string): Promise<void>
  storeGet(store: number, key: string): Promise<string | null>
  storeAdd(store: number, key: string, value: number): Promise<number>
  closeStore(store: number): Promise<void>
  createGroup(store: number, rank: number, size: number, address: string, timeout: number): Promise<number>
  leaveGroup(group: number): Promise<void>
  abandonGroup(group: number): void
  allReduce(group: number, tensor: Handle): void
  broadcast(group: number, tensors: Handle[], root: number): void
  allGather(group: number, tensor: Handle): Handle[]
  barrier(group: number): Promise<void>
  createReducer(group: number, parameters: Handle[], bucketBytes: number): number
  prepareReduction(group: number, reducer: number, loss: Handle): void
  releaseReducer(group: number, reducer: number): void
  buildInfo(): BuildInfo
  /** Whether the processor has AVX-512 and OpenBLAS does not use it, so that most convolutions as products do not pay. */
  narrowProducts(): boolean
}

/** Where set-up builds the addon: from src/torch and from dist/torch alike. */
export const addonPath = fileURLToPath(new URL("../../build/native/pixelwise.node", import.meta.url))

// How long OpenMP's threads spin between two operators before they sleep (GOMP_SPINCOUNT, in turns of libgomp's loop). Spinning
// threads keep others (image loaders, a browser) off the cores; sleeping ones must be woken for every operator. A training step
// of LR-ASPP at 8x192x192, two cores, in ms, the machine quiet / with one other busy process:
//   0: 465 / 380   1000: 320 / 400   5000: 210 / 530   20000: 200 / 1120   libgomp's own 300000: 240 / up to ten times as much
// Read by libgomp when it is loaded, so set before.
const openMp = { OMP_WAIT_POLICY: "passive", GOMP_SPINCOUNT: "5000" } as const
const chosen = Object.keys(openMp).filter((name) => process.env[name] === undefined) as (keyof typeof openMp)[]
for (const name of chosen) process.env[name] = openMp[name]

/** The environment as it was given to this process: for another program, whose OpenMP is its own affair. */
export const givenEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !chosen.some((ours) => ours === name)))

// What c10d logs on its way to an exception (a port that is taken, a process that is gone) is told by the exception.
process.env.GLOG_minloglevel ??= "3"
process.env.TORCH_CPP_LOG_LEVEL ??= "FATAL"

function load(): Native {
  let addon: Native
  try {
    addon = createRequire(import.meta.url)(addonPath) as Native
  } catch (cause) {
    const { message } = cause as Error
    throw new UserError(
      existsSync(addonPath)
        ? `The native addon ${addonPath} cannot be loaded: ${message}. Run "npm run setup" in pixelwise's folder.`
        : `The native addon ${addonPath} is not built. Run "npm run setup" in pixelwise's folder.`,
      { cause },
    )
  }
  // Debian's libtorch starts with one thread. A user's own OMP_NUM_THREADS stands.
  if (!process.env.OMP_NUM_THREADS) addon.setThreads(availableParallelism())
  return addon
}

export const native = load()
