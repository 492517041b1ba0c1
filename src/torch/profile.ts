// A profile: what runs when. libtorch notes its operators and autograd's nodes (native/profiler.cc); modules, phases of a step and
// whatever else is worth a name are spans, which their code opens. Nothing is noted, and nothing costs, unless somebody profiles.
import { clock } from "../clock.ts"
import { native } from "./native.ts"

/** One thing that ran on one thread; times in microseconds of `clock()`. */
export interface ProfileSlice {
  readonly name: string
  /** operator: of libtorch; backward: a node of autograd; all others are spans. */
  readonly kind: "operator" | "backward" | "module" | "phase"
  readonly thread: number
  readonly begin: number
  readonly end: number
  /** Of the tensors among an operator's arguments: "[4, 3, 64, 64] [8, 3, 3, 3]". */
  readonly shapes?: string
  /** The same for an operator and for the node that is its derivative. */
  readonly sequence?: number
  /** Of a module: its class. */
  readonly type?: string
}

export interface Profile {
  readonly slices: readonly ProfileSlice[]
  /** The thread that the profile was made on. */
  readonly thread: number
}

type Span = Pick<ProfileSlice, "name" | "kind" | "begin" | "end" | "type">

let spans: Span[] | null = null
let moduleNames: ReadonlyMap<object, string> = new Map()

export const isProfiling = (): boolean => spans !== null

/** Operators, autograd's nodes and spans so far. */
export const profileLength = (): number => (spans === null ? 0 : spans.length + native.profileLength())

/** @param names of the modules, by which their calls are called */
export function startProfile(names: ReadonlyMap<object, string>): void {
  native.startProfile()
  spans = []
  moduleNames = names
}

export function stopProfile(): Profile {
  const found = native.stopProfile()
  const { thread } = found
  const own = (spans ?? []).map((span): ProfileSlice => ({ ...span, thread }))
  spans = null
  moduleNames = new Map()
  const libtorchs = Array.from(found.begin, (begin, k): ProfileSlice => {
    const shapes = found.shapes[found.shape[k]!]!
    const sequence = found.sequence[k]!
    return {
      name: nameOf(found.names[found.name[k]!]!),
      kind: found.isBackward[k] === 1 ? "backward" : "operator",
      thread: found.threads[k]!,
      begin,
      end: found.end[k]!,
      ...(shapes !== "" && { shapes }),
      ...(sequence >= 0 && { sequence }),
    }
  })
  return { slices: [...own, ...libtorchs], thread }
}

/** Runs `fn` as a span, where somebody profiles. */
export function span<T>(name: string, fn: () => T): T {
  return spans === null ? fn() : noted(spans, { name, kind: "phase" }, fn)
}

/** A span that has been: for what is not a function's call. */
export function addSpan(name: string, begin: number, end: number): void {
  spans?.push({ name, kind: "phase", begin, end })
}

/** Runs `fn` as a call of `module`. */
export function profileCall<T>(module: object, fn: () => T): T {
  const type = module.constructor.name
  return spans === null ? fn() : noted(spans, { name: moduleNames.get(module) || type, kind: "module", type }, fn)
}

function noted<T>(into: Span[], what: Omit<Span, "begin" | "end">, fn: () => T): T {
  const begin = clock()
  try {
    return fn()
  } finally {
    into.push({ ...what, begin, end: clock() })
  }
}

/** Of our own operators libtorch names the C++ class: "torch::autograd::CppNode<pixelwise::(anonymous namespace)::BatchNormClamp>". */
const nameOf = (name: string): string => {
  const own = /CppNode<.*?(\w+)>$/.exec(name)
  return own ? `${own[1]}Backward` : name
}
