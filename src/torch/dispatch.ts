// The one way into libtorch: dispatch(operator, arguments). Every operator call of the whole system passes here.
import { OpError } from "./errors.ts"
import { Generator } from "./generator.ts"
import { type NativeOperator, native } from "./native.ts"
import { Tensor } from "./tensor.ts"
import { type Guard, guardOf } from "./unsafe-operators.ts"

export interface Operator extends NativeOperator {
  /** Finds the arguments that would crash libtorch; most operators need none. */
  readonly guard?: Guard
}

const operators = new Map<string, Operator>()

const MAX_LIST = 1_000_000 // entries; `new Array(4e9)` is legal JavaScript, and walking it takes minutes

/**
 * Looks an operator up by its full name, "aten::add.Tensor".
 * @throws OpError when this libtorch has none of that name, or one that no guard makes safe
 */
export function findOperator(fullName: string): Operator {
  let op = operators.get(fullName)
  if (!op) {
    const dot = fullName.indexOf(".", fullName.indexOf("::"))
    const [name, overload] = dot < 0 ? [fullName, ""] : [fullName.slice(0, dot), fullName.slice(dot + 1)]
    try {
      const found = native.findOperator(name, overload)
      op = { ...found, guard: guardOf(found) }
    } catch (cause) {
      throw new OpError((cause as Error).message, { cause })
    }
    operators.set(fullName, op)
  }
  return op
}

type Run = (op: Operator, args: readonly unknown[]) => unknown

/** Stands around every call: must `run` the operator once and return what it returned. */
export type Interceptor = (op: Operator, args: readonly unknown[], run: Run) => unknown

let interceptor: Interceptor | undefined

/** Sets the interceptor (recording.ts has the only one); returns the one before. */
export function intercept(next: Interceptor | undefined): Interceptor | undefined {
  const before = interceptor
  interceptor = next
  return before
}

/**
 * Calls an operator with its arguments in schema order; `undefined` takes the schema's default.
 * Tensors that come back are fresh handles owned by the current tidy() scope; in-place operators return the very
 * argument they wrote.
 * @throws OpError with the operator, its arguments' shapes and dtypes, and libtorch's reason
 * @throws DisposedError when an argument was disposed
 */
export function dispatch(op: Operator, args: readonly unknown[]): unknown {
  return interceptor ? interceptor(op, args, run) : run(op, args)
}

function run(op: Operator, args: readonly unknown[]): unknown {
  if (op.guard) {
    args = args.map(snapshot)
    const danger = op.guard(args)
    if (danger) throw explain(op, args, new Error(danger))
  }
  const values: unknown[] = [op.id]
  for (let k = 0; k < args.length; k++) values.push(toNative(op, k, args[k]))
  let result: unknown
  try {
    result = native.call.apply(native, values as [number])
  } catch (cause) {
    throw explain(op, args, cause)
  }
  const { returns } = op
  if (returns.length === 0) return undefined
  if (returns.length === 1) return fromNative(op, 0, result, args)
  return returns.map((_, k) => fromNative(op, k, (result as unknown[])[k], args))
}

/** Any operator that has no typed function: `call("aten::hypot", a, b)`. Arguments in schema order, checked at run time. */
export function call(fullName: string, ...args: unknown[]): unknown {
  if (typeof fullName !== "string") throw new OpError(`An operator is named by a string, got ${typeof fullName}.`)
  return dispatch(findOperator(fullName), args)
}

// Handles are numbers, and so are scalars: only here is it known which is which.
function toNative(op: NativeOperator, k: number, value: unknown): unknown {
  if (value instanceof Tensor) {
    const type = op.arguments[k]
    if (type && type.kind !== "Tensor") throw refuse(op, k, `expected ${type.kind}, got a tensor`)
    return value.handleFor(op.name)
  }
  if (value === undefined || value === null) return value
  const type = op.arguments[k]
  if (!type) return value // too many arguments: the addon says so
  if (type.kind === "Tensor") throw refuse(op, k, `expected a tensor, got ${describe(value)}`)
  if (type.kind === "Generator") {
    if (!(value instanceof Generator)) throw refuse(op, k, `expected a Generator, got ${describe(value)}`)
    return value.handle
  }
  if (type.kind === "list" && type.element === "Tensor") {
    if (!Array.isArray(value)) throw refuse(op, k, `expected an array of tensors, got ${describe(value)}`)
    return entries(value).map((element) => {
      if (element instanceof Tensor) return element.handleFor(op.name)
      if (element == null && type.elementOptional) return null
      throw refuse(op, k, `expected an array of tensors, got one with ${describe(element)}`)
    })
  }
  return value
}

/** A list whose entries cannot change between the guard's look and the call. */
const snapshot = (value: unknown): unknown => (Array.isArray(value) ? [...entries(value)] : value)

function entries(list: unknown[]): unknown[] {
  if (list.length > MAX_LIST) throw new OpError(`A list of ${list.length} entries is too long.`)
  return list
}

function fromNative(op: NativeOperator, k: number, value: unknown, args: readonly unknown[]): unknown {
  const { kind, element, writtenArgument } = op.returns[k]!
  if (writtenArgument >= 0) return args[writtenArgument]
  if (value === null) return null
  if (kind === "Tensor") return new Tensor(value as number)
  if (kind === "list" && element === "Tensor") {
    return (value as (number | null)[]).map((handle) => (handle === null ? null : new Tensor(handle)))
  }
  return value
}

function refuse(op: NativeOperator, k: number, reason: string): OpError {
  return new OpError(`${op.name}: argument ${k} (${op.arguments[k]?.name}): ${reason}.`)
}

function explain(op: NativeOperator, args: readonly unknown[], cause: unknown): OpError {
  const shown = args.flatMap((value, k) => {
    const name = op.arguments[k]?.name ?? `argument ${k}`
    return value === undefined ? [] : [`${name}: ${describe(value)}`]
  })
  // What a getter of the caller's throws need not be an Error.
  const reason = cause instanceof Error ? cause.message.split("\nException raised")[0]?.trim() : describe(cause)
  return new OpError(`${op.name}(${shown.join(", ")}): ${reason}`, { cause })
}

function describe(value: unknown, depth = 0): string {
  try {
    if (value instanceof Tensor) return value.isDisposed ? "a disposed tensor" : value.signature
    if (Array.isArray(value)) {
      if (depth > 2) return "[...]"
      const shown = Array.from({ length: Math.min(value.length, 8) }, (_, k) => describe(value[k], depth + 1))
      return `[${shown.join(", ")}${value.length > 8 ? `, ... ${value.length} in all` : ""}]`
    }
  } catch {
    return "an object" // a getter threw, or it only looks like a tensor
  }
  if (typeof value === "string") return JSON.stringify(value.slice(0, 60))
  if (typeof value === "object" && value !== null) return "an object"
  if (typeof value === "function") return "a function"
  return String(value)
}
