// Tensors from JavaScript's numbers and typed arrays, and the usual factories. Factories default to float32.
import * as aten from "./aten.generated.ts"
import { call } from "./dispatch.ts"
import { type DType, dtypeOf } from "./dtype.ts"
import { ShapeError } from "./errors.ts"
import type { Generator } from "./generator.ts"
import { native } from "./native.ts"
import { type NestedNumbers, type Shape, Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

interface FactoryOptions {
  dtype?: DType
  device?: string
  requiresGrad?: boolean
}

/**
 * A tensor of the given numbers: `tensor([[1, 2], [3, 4]])`.
 * @param values nested arrays of equal lengths, or one number
 * @throws ShapeError when nested arrays have different lengths
 */
export function tensor(
  values: NestedNumbers,
  { dtype = "float32", device, requiresGrad }: FactoryOptions = {},
): Tensor {
  const shape: number[] = []
  for (let level: NestedNumbers | undefined = values; Array.isArray(level); level = level[0]) shape.push(level.length)
  const flat: number[] = []
  const visit = (value: NestedNumbers, dim: number): void => {
    if (!Array.isArray(value)) {
      if (dim !== shape.length)
        throw new ShapeError(`tensor(): a number stands at depth ${dim}, expected depth ${shape.length}.`)
      if (typeof value !== "number")
        throw new TypeError(`tensor(): expected numbers, got ${value === null ? "null" : typeof value}.`)
      flat.push(value)
      return
    }
    if (value.length !== shape[dim])
      throw new ShapeError(`tensor(): axis ${dim} has rows of ${shape[dim] ?? 0} and of ${value.length} entries.`)
    for (const child of value) visit(child, dim + 1)
  }
  visit(values, 0)
  // float64 carries every safe integer exactly on its way to dtype
  return tidy(() => finish(fromData(Float64Array.from(flat), shape), { dtype, device, requiresGrad }))
}

/**
 * A tensor that owns a copy (one memcpy) of a typed array.
 * @param shape product of sizes = number of elements; the default is one axis
 * @param dtype how to read the bytes when it is not the array's own type: "bool" over Uint8Array, "float16" over Uint16Array
 * @param device where the copy goes; to CUDA by way of pinned memory, so that nobody waits for it
 */
export function fromData(
  data: NodeJS.TypedArray,
  shape: Shape = [data.length],
  { dtype = dtypeOf(data), device = "cpu" }: { dtype?: DType; device?: string } = {},
): Tensor {
  const made = new Tensor(native.fromData(data, shape, dtype))
  if (device === "cpu") return made
  using onCpu = made
  using pinned = call("aten::pin_memory", onCpu, null) as Tensor
  return aten.to_dtype_layout(pinned, { device, nonBlocking: true })
}

const finish = (made: Tensor, { dtype, device, requiresGrad = false }: FactoryOptions): Tensor => {
  const placed = dtype || device ? made.to({ dtype, device }) : made
  return requiresGrad ? placed.requiresGrad_() : placed
}

export const zeros = (shape: Shape, { requiresGrad = false, ...options }: FactoryOptions = {}): Tensor =>
  finish(aten.zeros(shape, options), { requiresGrad })

export const ones = (shape: Shape, { requiresGrad = false, ...options }: FactoryOptions = {}): Tensor =>
  finish(aten.ones(shape, options), { requiresGrad })

export const full = (shape: Shape, value: number, { requiresGrad = false, ...options }: FactoryOptions = {}): Tensor =>
  finish(aten.full(shape, value, options), { requiresGrad })

/** 0, 1, ... below `end`. */
export const arange = (
  end: number,
  { start = 0, step = 1, requiresGrad = false, ...options }: FactoryOptions & { start?: number; step?: number } = {},
): Tensor => finish(aten.arange_start_step(start, end, { step, ...options }), { requiresGrad })

interface RandomOptions extends FactoryOptions {
  generator?: Generator
}

/** Uniform in [0, 1). */
export const rand = (shape: Shape, { requiresGrad = false, ...options }: RandomOptions = {}): Tensor =>
  finish(aten.rand_generator(shape, { generator: null, ...options }), { requiresGrad })

/** Normal, mean 0, variance 1. */
export const randn = (shape: Shape, { requiresGrad = false, ...options }: RandomOptions = {}): Tensor =>
  finish(aten.randn_generator(shape, { generator: null, ...options }), { requiresGrad })

/** Integers from `low` (included) to `high` (excluded), int64. */
export const randint = (
  low: number,
  high: number,
  shape: Shape,
  { generator, dtype = "int64", device }: Omit<RandomOptions, "requiresGrad"> = {},
): Tensor => aten.randint_low_generator(low, high, shape, { generator: generator ?? null, dtype, device })
