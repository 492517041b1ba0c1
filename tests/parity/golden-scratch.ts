// Reads the golden values that generate.py and train.py wrote with PyTorch, and compares with them.
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect } from "vitest"
import { fromData, type Tensor } from "../../src/torch/index.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"

const path = (file: string): string => fileURLToPath(new URL(`golden/${file}`, import.meta.url))

/** The tensors of one golden file, by name. */
export class Golden {
  readonly tensors: Map<string, Tensor>

  constructor(name: string) {
    this.tensors = loadSafetensors(path(`${name}.safetensors`)).tensors
  }

  get(key: string): Tensor {
    const tensor = this.tensors.get(key)
    if (!tensor) throw new Error(`No golden value "${key}".`)
    return tensor
  }

  /** The entries that start with `prefix`, named without it. */
  under(prefix: string): Map<string, Tensor> {
    const found = [...this.tensors].filter(([key]) => key.startsWith(prefix))
    return new Map(found.map(([key, tensor]) => [key.slice(prefix.length), tensor]))
  }
}

export const goldenJson = (name: string): unknown => JSON.parse(readFileSync(path(`${name}.json`), "utf8"))

/** A copy that autograd does not know. */
export const copyOf = (tensor: Tensor): Tensor => fromData(tensor.data(), tensor.shape, { dtype: tensor.dtype })

/**
 * Expects equal shapes and |actual - expected| <= tolerance * max|expected| for every element. Relative to the largest,
 * because an element near 0 is a difference of large numbers and has their rounding.
 */
export function expectClose(actual: Tensor | null, expected: Tensor, tolerance: number, what: string): void {
  if (!actual) throw new Error(`${what}: no tensor, expected ${expected.signature}.`)
  expect(actual.shape, `${what}: shape`).toEqual(expected.shape)
  const [a, b] = [numbers(actual), numbers(expected)]
  let [worst, largest] = [0, 0]
  for (const [i, value] of b.entries()) {
    const difference = Math.abs((a[i] as number) - value)
    if (!(difference <= worst)) worst = difference // NaN too
    largest = Math.max(largest, Math.abs(value))
  }
  console.log("WORST", worst / largest, what)
  expect(worst, `${what}: largest difference (largest value ${largest})`).toBeLessThanOrEqual(tolerance * largest)
}

const numbers = (tensor: Tensor): number[] => Array.from(tensor.data() as Iterable<number | bigint>, Number)
