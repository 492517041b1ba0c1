// Element types, and the JavaScript arrays that hold them.

export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint8"
  | "bool"
  | "complex64"
  | "complex128"

export type Layout = "strided" | "sparse_coo"
export type MemoryFormat = "contiguous" | "channels_last" | "preserve"

/** The typed array that a tensor's elements are read into. float16 and bfloat16 come as their raw 16 bits. */
export type TensorData =
  | Float32Array
  | Float64Array
  | Uint16Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array

const arrayTypes = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const satisfies Partial<Record<DType, new (length: number) => TensorData>>

/** A fresh array for `count` elements of `dtype`. */
export function allocate(dtype: DType, count: number): TensorData {
  const type = arrayTypes[dtype as keyof typeof arrayTypes]
  if (!type) throw new TypeError(`${dtype} elements cannot be read into a typed array; convert with to() first.`)
  return new type(count)
}

/** The dtype a typed array's elements have without conversion. */
export function dtypeOf(data: NodeJS.TypedArray): DType {
  for (const dtype of ["float32", "float64", "int64", "int32", "int16", "int8", "uint8"] as const) {
    if (data instanceof arrayTypes[dtype]) return dtype
  }
  if (data instanceof Uint8ClampedArray) return "uint8"
  throw new TypeError(
    `${data.constructor.name} has no tensor dtype; expected Float32Array, Int32Array, Uint8Array, ...`,
  )
}

export const bytesPerElement: Readonly<Record<DType, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
  complex64: 8,
  complex128: 16,
}

export const isFloating = (dtype: DType): boolean => /^(float|bfloat|complex)/.test(dtype)
