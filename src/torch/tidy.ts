// Who frees a tensor. Node's garbage collector does not run inside a synchronous loop, so memory is explicit:
// tidy(fn) frees what fn made, except what it returns.
import { Tensor } from "./tensor.ts"

type Scope = Tensor[]
const scopes: Scope[] = []

/** Called for each new tensor: the innermost tidy() owns it. */
export function track(tensor: Tensor): void {
  scopes[scopes.length - 1]?.push(tensor)
}

/**
 * Runs `fn` and frees every tensor made inside, also when it throws. Tensors in its result (nested arrays and plain
 * objects too) move to the enclosing scope.
 * @throws TypeError when `fn` returns a Promise: what it makes after its first await could not be freed
 */
export function tidy<T>(fn: () => T): T {
  const scope: Scope = []
  const depth = scopes.push(scope)
  const survivors = new Set<Tensor>()
  let result: T
  try {
    result = fn()
    if (isPromise(result)) {
      result.then(undefined, () => {}) // its own rejection would be reported as unhandled, hiding ours
      throw new TypeError("tidy() was given an async function; it must be synchronous. Await outside, tidy inside.")
    }
    collect(result, survivors, new Set())
  } catch (error) {
    scopes.length = depth - 1
    free(scope)
    throw error
  }
  scopes.length = depth - 1
  const parent = scopes[depth - 2]
  for (const tensor of scope) {
    if (!survivors.has(tensor)) {
      if (!tensor.isKept) tensor.dispose()
    } else if (parent && !tensor.isKept) parent.push(tensor)
  }
  return result
}

function free(scope: Scope): void {
  for (const tensor of scope) if (!tensor.isKept) tensor.dispose()
}

function collect(value: unknown, found: Set<Tensor>, seen: Set<object>): void {
  if (value instanceof Tensor) {
    found.add(value)
  } else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value) && !seen.has(value)) {
    seen.add(value)
    const children = value instanceof Map || value instanceof Set ? value.values() : Object.values(value)
    for (const child of children) collect(child, found, seen)
  }
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"
}
