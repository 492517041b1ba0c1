// Recording: the operators that a function called, as a graph of plain data. Model summaries and receptive fields are
// read off it; so is whatever else wants to know what a model computes.
//
//   v0 = input ------+
//   v1 = parameter --+-- aten::conv2d --> v2 -- aten::relu --> v3 = output "logits"
//
// A value is a tensor as JavaScript sees it: an in-place operator returns the value that it wrote, and a view is a value
// of its own that names the one it looks into. The backward pass is not here: autograd runs it inside libtorch. Nor is
// what reaches libtorch past its operators: numbers that come in (a constant), numbers that go out.
import { call, type Interceptor, intercept, type Operator } from "./dispatch.ts"
import type { DType, TensorData } from "./dtype.ts"
import { noGrad } from "./grad-mode.ts"
import type { NativeArgument } from "./native.ts"
import { Parameter, StateBuffer } from "./parameter.ts"
import { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

/** A value as one operator saw it; in-place operators may change a value's shape. */
export interface TensorRef {
  /** Index in `Recording.values`. */
  readonly value: number
  readonly shape: readonly number[]
  readonly dtype: DType
}

export interface NamedRef extends TensorRef {
  /** Where it stood in the result: "logits", "0", "" for the result itself. */
  readonly name: string
}

type Plain = number | boolean | string | null | readonly Plain[]
export type RecordedArgument = TensorRef | readonly (TensorRef | null)[] | Plain

export interface RecordedValue {
  /** When it was first seen. */
  readonly shape: readonly number[]
  readonly dtype: DType
  /** "constant": any other tensor that `fn` found or made of numbers. */
  readonly source: "input" | "parameter" | "buffer" | "constant" | "operator"
  /** Index of the operator that made it. */
  readonly operator?: number
  /** The value whose memory it shares. */
  readonly viewOf?: number
  /** Of a constant: its elements, row by row, before the first operator used it. (Of complex ones: none.) */
  readonly data?: TensorData
}

export interface RecordedOperator {
  /** "aten::conv2d" */
  readonly name: string
  readonly schema: string
  /** In schema order, defaults filled in; `int[2]` always has two entries. A generator is the string "generator". */
  readonly arguments: Readonly<Record<string, RecordedArgument>>
  /** One per return value of the schema. */
  readonly outputs: readonly RecordedArgument[]
  /** The innermost call it ran in, an index in `Recording.calls`; -1: none. */
  readonly call: number
}

/** One pass through Module.call. */
export interface RecordedCall {
  /** Name of the class. */
  readonly type: string
  /** The call it was made in; -1: none. */
  readonly parent: number
  readonly outputs: readonly NamedRef[]
}

export interface Recording {
  readonly inputs: readonly TensorRef[]
  readonly outputs: readonly NamedRef[]
  readonly values: readonly RecordedValue[]
  /** In the order they ran. */
  readonly operators: readonly RecordedOperator[]
  /** Each before those inside it. */
  readonly calls: readonly RecordedCall[]
  /** The value that a tensor was: how to find a parameter's. Undefined when no operator used it. */
  idOf(tensor: Tensor): number | undefined
  /** The calls of a module. */
  callsOf(module: object): readonly number[]
}

export interface RecordOptions {
  /** The tensors that stand for the input; others that `fn` only finds are parameters, buffers or constants. */
  inputs?: readonly Tensor[]
  /** Shown what each Module.call returned, innermost calls first, while its tensors are there. Not recorded. */
  onReturn?: (module: object, result: unknown) => void
}

/**
 * Runs `fn` and notes every operator that it calls. The recording is plain data: it keeps no tensor alive, and all that
 * `fn` made is freed, its result too. Recordings may be nested: the outer one has the inner one's operators as well.
 * An operator that throws is not in it; when `fn` throws, recording ends and there is none.
 * @throws TypeError when `fn` returns a Promise
 */
export function record(fn: () => unknown, { inputs = [], onReturn }: RecordOptions = {}): Recording {
  const recorder = new Recorder(inputs, onReturn)
  recorders.push(recorder)
  const before = intercept(note)
  try {
    tidy(() => recorder.end(tidy(fn)))
  } finally {
    recorders.pop()
    intercept(before)
  }
  return recorder
}

export const isRecording = (): boolean => recorders.length > 0

/** Runs `fn` as a call of `module`: operators in it are recorded as the module's. */
export function recordCall<T>(module: object, fn: () => T): T {
  const running = [...recorders]
  for (const recorder of running) recorder.enter(module)
  let result: T | undefined
  try {
    result = fn()
    unrecorded(() => {
      for (const { onReturn } of running) onReturn?.(module, result)
    })
    return result
  } finally {
    for (const recorder of running) recorder.leave(result)
  }
}

function unrecorded(fn: () => void): void {
  const before = intercept(undefined)
  try {
    fn()
  } finally {
    intercept(before)
  }
}

/** The tensors among an operator's arguments, or outputs. */
export const tensorRefs = (values: Iterable<RecordedArgument>): TensorRef[] =>
  [...values]
    .flat()
    .filter((value): value is TensorRef => typeof value === "object" && value !== null && "value" in value)

const recorders: Recorder[] = []

/** While it notes, and while the operator runs, nothing else is noted: guards call operators too. */
const note: Interceptor = (op, args, run) => {
  intercept(undefined)
  try {
    const noted = recorders.map((recorder) => recorder.arguments(op, args))
    const result = run(op, args)
    for (const [k, recorder] of recorders.entries()) recorder.operator(op, args, noted[k] as Arguments, result)
    return result
  } finally {
    intercept(note)
  }
}

type Arguments = Record<string, RecordedArgument>
type Origin = Omit<RecordedValue, "shape" | "dtype">
type Mutable<T> = { -readonly [K in keyof T]: T[K] }

class Recorder implements Recording {
  readonly inputs: readonly TensorRef[]
  readonly onReturn: RecordOptions["onReturn"]
  outputs: readonly NamedRef[] = []
  readonly values: RecordedValue[] = []
  readonly operators: RecordedOperator[] = []
  readonly calls: Mutable<RecordedCall>[] = []
  // By identity, and weak: a recording must not keep what it describes.
  readonly #ids = new WeakMap<Tensor, number>()
  readonly #callsOf = new WeakMap<object, number[]>()
  #call = -1 // the innermost one that is running

  constructor(inputs: readonly Tensor[], onReturn: RecordOptions["onReturn"]) {
    this.onReturn = onReturn
    this.inputs = inputs.map((tensor) => this.#ref(tensor, () => ({ source: "input" })))
  }

  idOf(tensor: Tensor): number | undefined {
    return this.#ids.get(tensor)
  }

  callsOf(module: object): readonly number[] {
    return this.#callsOf.get(module) ?? []
  }

  end(result: unknown): void {
    this.outputs = this.#named(result)
  }

  enter(module: object): void {
    const calls = this.#callsOf.get(module)
    if (calls) calls.push(this.calls.length)
    else this.#callsOf.set(module, [this.calls.length])
    this.calls.push({ type: module.constructor.name, parent: this.#call, outputs: [] })
    this.#call = this.calls.length - 1
  }

  leave(result: unknown): void {
    const call = this.calls[this.#call] as Mutable<RecordedCall>
    call.outputs = this.#named(result)
    this.#call = call.parent
  }

  arguments(op: Operator, args: readonly unknown[]): Arguments {
    return Object.fromEntries(op.arguments.map((type, k) => [type.name, this.#argument(type, args[k])]))
  }

  operator(op: Operator, args: readonly unknown[], noted: Arguments, result: unknown): void {
    const operator = this.operators.length
    const results = op.returns.length === 1 ? [result] : ((result ?? []) as unknown[])
    const outputs = results.map((value, k) => {
      const sources = aliased(op, k).map((argument) => args[argument])
      const make = (tensor: Tensor): Origin => {
        const base = sources.find(
          (source): source is Tensor => source instanceof Tensor && sharesMemory(source, tensor),
        )
        return { source: "operator", operator, viewOf: base && this.#ids.get(base) }
      }
      return this.#plain(value, make)
    })
    this.operators.push({ name: op.name, schema: op.schema, arguments: noted, outputs, call: this.#call })
  }

  #argument(type: NativeArgument, value: unknown): RecordedArgument {
    const plain = value === undefined ? defaultOf(type) : this.#plain(value, found)
    if (type.kind !== "list" || !type.fixedSize || plain === null) return plain
    // PyTorch's rule: for int[2] one number stands for two
    const list = Array.isArray(plain) ? plain : [plain]
    return list.length === 1 ? Array.from({ length: type.fixedSize }, () => list[0] as Plain) : list
  }

  #plain(value: unknown, make: (tensor: Tensor) => Origin): RecordedArgument {
    if (value instanceof Tensor) return value.isDisposed ? null : this.#ref(value, make) // the call will throw
    if (Array.isArray(value)) {
      return value.length > MAX_LIST ? null : (value.map((entry) => this.#plain(entry, make)) as Plain[])
    }
    if (typeof value === "number" || typeof value === "boolean" || typeof value === "string") return value
    return value instanceof Object ? "generator" : null
  }

  #ref(tensor: Tensor, make: (tensor: Tensor) => Origin): TensorRef {
    const { shape, dtype } = tensor
    let value = this.#ids.get(tensor)
    if (value === undefined) {
      value = this.values.push({ shape, dtype, ...make(tensor) }) - 1
      this.#ids.set(tensor, value)
    }
    return { value, shape, dtype }
  }

  /** The tensors in a result, each with its place there. */
  #named(result: unknown, name = "", seen = new Set<object>()): NamedRef[] {
    if (result instanceof Tensor) return result.isDisposed ? [] : [{ name, ...this.#ref(result, found) }]
    if (typeof result !== "object" || result === null || ArrayBuffer.isView(result) || seen.has(result)) return []
    seen.add(result)
    const entries = result instanceof Map ? result : Object.entries(result instanceof Set ? [...result] : result)
    return [...entries].flatMap(([key, child]) => this.#named(child, name ? `${name}.${key}` : String(key), seen))
  }
}

const MAX_LIST = 1_000_000 // entries; longer ones are refused by dispatch

/** A tensor that no recorded operator made. */
function found(tensor: Tensor): Origin {
  if (tensor instanceof Parameter) return { source: "parameter" }
  if (tensor instanceof StateBuffer) return { source: "buffer" }
  return { source: "constant", data: tensor.dtype.startsWith("complex") ? undefined : tensor.data() }
}

// --- what a schema says --------------------------------------------------------------------------------------------------

const dtypes = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"] // c10::ScalarType 0, 1, ...

/** libtorch's spelling of a default value ("None", "[]", "1.0000000000000001e-05") as the value. */
function defaultOf({ kind, element, default: text }: NativeArgument): Plain {
  if (text === undefined || text === "None") return null
  if (kind === "str" || element === "str") return text
  if (kind === "ScalarType") return dtypes[Number(text)] as string
  if (kind === "MemoryFormat") return "contiguous" // the only default there is
  return JSON.parse(text.replace(/\.(?!\d)/g, "").toLowerCase()) as Plain // "1." and "True" are no JSON
}

/**
 * The arguments into which return value `k` may be a view: those with its letter in
 * "aten::reshape(Tensor(a) self, SymInt[] shape) -> Tensor(a)".
 */
function aliased(op: Operator, k: number): number[] {
  const [takes = "", gives = ""] = op.schema.split(") -> ")
  const letter = /Tensor\((\w)/.exec(gives.split(", ")[k] ?? "")?.[1]
  if (letter === undefined) return []
  const names = Array.from(takes.matchAll(/Tensor\((\w)[^)]*\)[[\]?]* (\w+)/g), ([, a, name]) =>
    a === letter ? name : "",
  )
  return op.arguments.flatMap(({ name }, at) => (names.includes(name) ? [at] : []))
}

/** Asked of libtorch: reshape(), contiguous() and to() give a view only where they can. */
function sharesMemory(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || a.device !== b.device || a.numel === 0 || b.numel === 0) return false
  return tidy(() => {
    using _ = noGrad()
    const first = (tensor: Tensor) => call("aten::as_strided", tensor, [], [], 0) // of the memory, wherever the view begins
    return call("aten::is_set_to", first(a), first(b)) as boolean
  })
}
