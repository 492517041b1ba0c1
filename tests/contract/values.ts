// Random arguments for the fuzz tests: plausible ones by an operator's schema, valid ones for what people use, hostile ones.
import {
  arange,
  aten,
  type DType,
  fromData,
  Generator,
  ones,
  rand,
  randint,
  randn,
  Tensor,
  tensor,
  zeros,
} from "../../src/torch/index.ts"

/** What the schema says of one argument. */
export interface ArgumentType {
  readonly name: string
  readonly kind: string
  readonly optional: boolean
  readonly element?: string
  readonly elementOptional?: boolean
  readonly fixedSize?: number
  readonly default?: string
}

/** Mulberry32: small, seeded, good enough to pick arguments. */
export class Random {
  #state: number
  constructor(seed: number) {
    this.#state = seed | 0
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  chance(probability: number): boolean {
    return this.next() < probability
  }
  below(n: number): number {
    return Math.floor(this.next() * n)
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
}

const shapes = [
  [], [0], [1], [3], [4], [2, 3], [3, 2], [4, 4], [2, 0], [0, 3], [1, 1], [2, 3, 4], [2, 4, 5], [1, 3, 4, 4], [2, 4, 6, 6],
  [2, 3, 0, 4], [0, 3, 4, 4], [5, 3, 2, 2], [3, 3, 1, 1], [1, 2, 3, 4, 4], [2, 4, 4, 4, 4], [16], [1, 2, 2, 2, 2, 2],
] // biome-ignore format: a table
const dtypes: DType[] = [
  "float32", "float32", "float32", "float32", "float64", "int64", "int64", "int32", "bool", "uint8", "float16", "bfloat16",
  "complex64", "int8", "int16", "complex128",
] // biome-ignore format: a table
const strings = ["mean", "sum", "none", "", "same", "valid", "constant", "reflect", "bilinear", "ij", "xy", "floor", "trunc",
  "linear", "ij,jk->ik", "ii->i", "...i->i", "fro", "nuc", "reduced", "L", "tanh", "prod", "amax", "a\0b", "\ud800", "x".repeat(1000),
] // biome-ignore format: a table
const smallInts = [0, 1, 1, 1, 2, 2, 3, 4, -1, -1, -2, 5, 8]
const bigInts = [
  2 ** 31,
  2 ** 31 - 1,
  -(2 ** 31),
  2 ** 53 - 1,
  -(2 ** 53) + 1,
  2 ** 32,
  2 ** 40,
  1e6,
  -1e6,
  65536,
  1000,
  100,
]
const reals = [
  0,
  1,
  0.5,
  -1,
  1e-5,
  2,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  1e300,
  -1e300,
  1e-310,
  100,
]

/** Plausible arguments for one call: its tensors share a shape and a dtype more often than not. */
export class Plausible {
  readonly #r: Random
  readonly #shape: number[]
  readonly #dtype: DType

  constructor(r: Random) {
    this.#r = r
    this.#shape = r.pick(shapes)
    this.#dtype = r.pick(dtypes)
  }

  argument(type: ArgumentType): unknown {
    const r = this.#r
    if (type.default !== undefined && r.chance(0.4)) return undefined
    if (type.optional && r.chance(0.4)) return null
    if (type.kind !== "list") return this.#single(type.kind, type.name)
    const length =
      type.fixedSize && type.fixedSize > 1 && r.chance(0.9) ? type.fixedSize : r.below(r.chance(0.9) ? 5 : 9)
    const small = r.chance(0.5)
    return Array.from({ length }, () => {
      if (type.elementOptional && r.chance(0.3)) return null
      return small && type.element === "int" ? 1 + r.below(3) : this.#single(type.element ?? "", type.name)
    })
  }

  #single(kind: string, name: string): unknown {
    const r = this.#r
    switch (kind) {
      case "Tensor":
        return this.tensor(name)
      case "int":
        return this.#integer()
      case "float":
        return r.pick(reals)
      case "Scalar":
        return r.chance(0.5) ? this.#integer() : r.chance(0.1) ? true : r.pick(reals)
      case "bool":
        return r.chance(0.5)
      case "str":
        return r.pick(strings)
      case "ScalarType":
        return r.pick(dtypes)
      case "Layout":
        return r.pick(["strided", "strided", "sparse_coo"])
      case "MemoryFormat":
        return r.pick(["contiguous", "channels_last", "preserve"])
      case "Device":
        return r.pick(["cpu", "cpu", "meta", "cuda", "lazy", "cpu:1"])
      case "Generator":
        return new Generator(r.below(100))
      default:
        return null
    }
  }

  #integer(): number {
    const r = this.#r
    return r.chance(0.75) ? r.pick(smallInts) : r.chance(0.4) ? r.below(40) - 20 : r.pick(bigInts)
  }

  tensor(name = ""): Tensor {
    const r = this.#r
    const shape = r.chance(0.6) ? this.#shape : r.pick(shapes)
    const wantsInts = /ind|target|offsets|repeats|lengths/.test(name) && r.chance(0.7)
    const dtype = wantsInts ? "int64" : r.chance(0.6) ? this.#dtype : r.pick(dtypes)
    return odd(r, filled(r, shape, dtype))
  }
}

function filled(r: Random, shape: readonly number[], dtype: DType): Tensor {
  if (!/^(int|uint|bool)/.test(dtype)) {
    const x = randn(shape).to({ dtype })
    return r.chance(0.1) && !dtype.startsWith("complex")
      ? x.fill_(r.pick([0, 1e4, Number.NaN, Number.POSITIVE_INFINITY]))
      : x
  }
  if (dtype === "bool" || dtype === "uint8" || r.chance(0.6)) return randint(0, 3, shape).to({ dtype })
  if (dtype === "int64" && r.chance(0.3))
    return fromData(BigInt64Array.of(-(2n ** 63n)), [])
      .expand(shape)
      .clone()
  return randint(0, 3, shape)
    .to({ dtype })
    .fill_(r.pick([-1, -2, 100, dtype === "int32" ? -(2 ** 31) : -128]))
}

/** The same tensor as a view with unusual strides, or one that wants a gradient. */
function odd(r: Random, x: Tensor): Tensor {
  if (r.chance(0.1) && x.ndim >= 2) return x.transpose(0, 1)
  if (r.chance(0.05) && x.ndim >= 1 && x.size(0) > 0) return x.narrow(0, 0, 1).expand(x.shape)
  if (r.chance(0.03))
    return zeros([1])
      .to({ dtype: x.dtype })
      .expand([2 ** (10 + r.below(8))])
  if (r.chance(0.02)) return zeros([2 ** r.below(24), 0]).to({ dtype: x.dtype })
  return /^(float|bfloat)/.test(x.dtype) && r.chance(0.25) ? x.clone().requiresGrad_() : x
}

// --- what no caller should pass ------------------------------------------------------------------------------------------

/** Any value at all, for any place. Several do something while they are looked at. */
export function hostile(r: Random): unknown {
  const victim = ones([2])
  const disposed = zeros([3])
  disposed.dispose()
  const detached = new Float32Array(4)
  structuredClone(detached.buffer, { transfer: [detached.buffer] })
  const resizable = new ArrayBuffer(64, { maxByteLength: 128 })
  const shrunk = new Float32Array(resizable, 32)
  resizable.resize(16)
  const trap = () => {
    throw r.pick([new Error("trap"), "trap", undefined, 5])
  }
  const element = (get: () => unknown) => Object.defineProperty([1, 2], 1, { get, enumerable: true })
  const circle: unknown[] = []
  circle.push(circle)
  return r.pick<() => unknown>([
    () => undefined, () => null, () => true, () => 0, () => -0, () => -1, () => 1.5, () => Number.NaN,
    () => Number.POSITIVE_INFINITY, () => 2 ** 31, () => 2 ** 53, () => -(2 ** 63), () => 1e308, () => 12345n, () => -(2n ** 63n), () => 2n ** 200n,
    () => "", () => "a\0b", () => "\udfff", () => "float32", () => "x".repeat(1e5), () => Symbol("s"), () => () => 1, () => ({}), () => /x/,
    () => [], () => [[]], () => [null], () => [undefined], () => [1, "2"], () => circle, () => new Array(2 ** 32 - 1), () => new Array(3),
    () => [Number.NaN], () => [2 ** 31, 2 ** 31, 2 ** 31], () => [0, 2 ** 53 - 1], () => Array(65).fill(1), () => Array(1e5).fill(1), () => [-1, -1],
    () => disposed, () => [disposed], () => new Tensor(2 ** 40), () => new Tensor(Number.NaN), () => new Tensor(-1),
    () => Object.create(Tensor.prototype), () => ({ handleFor: () => 0, signature: "x" }), () => new Proxy(ones([1]), {}),
    () => new Proxy([1, 2], { get: trap }), () => new Proxy([1], {}), () => element(trap),
    () => element(() => { victim.dispose(); return 2 }), () => element(() => zeros([1]).shape[0]), () => [victim, element(() => victim.dispose())],
    () => ({ get length() { return trap() } }), () => ({ valueOf: trap, toString: trap, [Symbol.toPrimitive]: trap }),
    () => detached, () => shrunk, () => new Float32Array(new SharedArrayBuffer(8)), () => new DataView(new ArrayBuffer(8)),
    () => new ArrayBuffer(8), () => new Float32Array(3), () => new BigInt64Array(2), () => Buffer.from("abc").subarray(1),
    () => "Float16Array" in globalThis ? new (globalThis as unknown as { Float16Array: new (n: number) => unknown }).Float16Array(3) : 0,
    () => new Date(Number.NaN), () => new Map([[1, 2]]), () => Promise.resolve(1), () => globalThis, () => new WeakRef({}), () => new Generator(1),
  ])() // biome-ignore format: a table
}

// --- valid calls of what people use: random changes to these reach deeper than random arguments ---------------------------

const f = (...shape: number[]) => randn(shape)
const i64 = (high: number, ...shape: number[]) => randint(0, high, shape)
const image = () => f(2, 4, 6, 6)
const lists = () => [f(2, 3), f(4)]

/** Valid arguments in schema order. Operators without an entry get plausible ones, which is enough for elementwise operators. */
export const recipes: Readonly<Record<string, () => unknown[]>> = {
  addbmm: () => [f(3, 5), f(2, 3, 4), f(2, 4, 5)],
  addmm: () => [f(3, 5), f(3, 4), f(4, 5)],
  affine_grid_generator: () => [f(2, 2, 3), [2, 4, 5, 5], false],
  avg_pool2d: () => [image(), [2, 2], [2, 2], [1, 1], false, true, null],
  adaptive_avg_pool2d: () => [image(), [3, 3]],
  adaptive_max_pool2d: () => [image(), [3, 3]],
  baddbmm: () => [f(2, 3, 5), f(2, 3, 4), f(2, 4, 5)],
  batch_norm: () => [image(), f(4), f(4), zeros([4]), ones([4]), true, 0.1, 1e-5, false],
  binary_cross_entropy: () => [rand([3]), rand([3]), null, 1],
  bincount: () => [i64(5, 9), f(9), 3],
  bmm: () => [f(2, 3, 4), f(2, 4, 5)],
  cat: () => [[f(2, 3), f(2, 3)], 1],
  channel_shuffle: () => [image(), 2],
  chunk: () => [image(), 3, 1],
  col2im: () => [f(2, 16, 25), [6, 6], [2, 2], [1, 1], [0, 0], [1, 1]],
  constant_pad_nd: () => [image(), [1, 1, 2, 0], 3],
  conv1d: () => [f(2, 4, 6), f(4, 4, 2), f(4), [1], [1], [1], 1],
  conv2d: () => [image(), f(4, 2, 3, 3), f(4), [1, 1], [1, 1], [1, 1], 2],
  "conv2d.padding": () => [image(), f(4, 4, 3, 3), f(4), [1, 1], "same", [2, 2], 1],
  conv3d: () => [f(2, 4, 4, 4, 4), f(4, 4, 2, 2, 2), f(4), [1, 1, 1], [0, 0, 0], [1, 1, 1], 1],
  "conv_transpose2d.input": () => [image(), f(4, 4, 2, 2), f(4), [2, 2], [0, 0], [1, 1], 1, [1, 1]],
  convolution: () => [image(), f(4, 4, 3, 3), f(4), [1, 1], [1, 1], [1, 1], false, [0, 0], 1],
  cross_entropy_loss: () => [image(), i64(4, 2, 6, 6), f(4).abs(), 1, 255, 0.1],
  dot: () => [f(4), f(4)],
  einsum: () => ["ij,jk->ik", [f(2, 3), f(3, 4)], null],
  embedding: () => [f(5, 3), i64(5, 4), -1, false, false],
  gather: () => [f(3, 4), 1, i64(4, 3, 2), false],
  grid_sampler: () => [image(), rand([2, 3, 3, 2]), 0, 0, false],
  group_norm: () => [image(), 2, f(4), f(4), 1e-5, true],
  histc: () => [f(20), 5, -1, 1],
  im2col: () => [image(), [2, 2], [1, 1], [0, 0], [1, 1]],
  "index.Tensor": () => [f(3, 4), [i64(3, 2), i64(4, 2)]],
  index_add_: () => [f(3, 4), 0, i64(3, 2), f(2, 4), 1],
  "index_fill_.int_Scalar": () => [f(3, 4), 0, i64(3, 2), 1],
  index_put: () => [f(3, 4), [i64(3, 2), i64(4, 2)], f(2), true],
  index_put_: () => [f(3, 4), [i64(3, 2), i64(4, 2)], f(2), false],
  index_select: () => [f(3, 4), 1, i64(4, 2)],
  instance_norm: () => [image(), f(4), f(4), zeros([4]), ones([4]), true, 0.1, 1e-5, false],
  kthvalue: () => [f(3, 4), 2, 1, false],
  layer_norm: () => [image(), [6, 6], f(6, 6), f(6, 6), 1e-5, false],
  linear: () => [f(2, 3), f(4, 3), f(4)],
  "masked_fill.Scalar": () => [f(3, 4), f(3, 4).gt(0), 2],
  masked_scatter: () => [f(3, 4), f(3, 4).gt(0), f(12)],
  masked_select: () => [f(3, 4), f(3, 4).gt(0)],
  matmul: () => [f(2, 3, 4), f(4, 5)],
  max_pool2d: () => [image(), [2, 2], [2, 2], [1, 1], [1, 1], false],
  max_pool2d_with_indices: () => [image(), [2, 2], [2, 2], [0, 0], [1, 1], true],
  max_unpool2d: () => [...aten.max_pool2d_with_indices(image(), [2, 2]), [6, 6]],
  "meshgrid.indexing": () => [[arange(3), arange(4)], "ij"],
  mm: () => [f(3, 4), f(4, 5)],
  native_batch_norm: () => [image(), f(4), f(4), zeros([4]), ones([4]), false, 0.1, 1e-5],
  native_group_norm: () => [image(), f(4), f(4), 2, 4, 36, 2, 1e-5],
  nll_loss2d: () => [image(), i64(4, 2, 6, 6), f(4).abs(), 1, 255],
  nll_loss2d_forward: () => [image(), i64(4, 2, 6, 6), f(4).abs(), 1, 255],
  nll_loss_forward: () => [f(3, 4), i64(4, 3), f(4).abs(), 1, 2],
  nll_loss_nd: () => [image(), i64(4, 2, 6, 6), f(4).abs(), 1, 255],
  one_hot: () => [i64(4, 5), 4],
  outer: () => [f(4), f(3)],
  pad: () => [image(), [1, 1, 1, 1], "reflect", null],
  pixel_shuffle: () => [image(), 2],
  pixel_unshuffle: () => [image(), 2],
  prelu: () => [image(), f(4)],
  "quantile.scalar": () => [f(9), 0.5, 0, false],
  reflection_pad2d: () => [image(), [1, 2, 3, 4]],
  replication_pad2d: () => [image(), [1, 2, 3, 4]],
  "scatter.src": () => [f(3, 4), 1, i64(4, 3, 2), f(3, 2)],
  "scatter.value": () => [f(3, 4), 1, i64(4, 3, 2), 5],
  "scatter_.value": () => [f(3, 4), 1, i64(4, 3, 2), 5],
  scatter_add: () => [f(3, 4), 1, i64(4, 3, 2), f(3, 2)],
  scatter_add_: () => [f(3, 4), 1, i64(4, 3, 2), f(3, 2)],
  "slice.Tensor": () => [image(), 2, 1, 5, 2],
  "split.Tensor": () => [image(), 2, 1],
  split_with_sizes: () => [image(), [1, 3], 1],
  stack: () => [[f(2, 3), f(2, 3)], 1],
  take_along_dim: () => [f(3, 4), i64(4, 3, 2), 1],
  topk: () => [f(3, 4), 2, 1, true, true],
  unfold: () => [image(), 2, 3, 2],
  upsample_bicubic2d: () => [image(), [9, 9], false, 1.5, 1.5],
  upsample_bilinear2d: () => [image(), [9, 9], false, 1.5, 1.5],
  "upsample_bilinear2d.vec": () => [image(), null, false, [1.5, 1.5]],
  "_foreach_add.List": () => [lists(), lists(), 2],
  "_foreach_add_.List": () => [lists(), lists(), 2],
  "_foreach_add_.Scalar": () => [lists(), 2],
  "_foreach_addcdiv_.Scalar": () => [lists(), lists(), lists(), 2],
  "_foreach_addcmul_.Scalar": () => [lists(), lists(), lists(), 2],
  "_foreach_div_.Scalar": () => [lists(), 2],
  "_foreach_mul.Scalar": () => [lists(), 2],
  "_foreach_mul_.Scalar": () => [lists(), 2],
  "_foreach_norm.Scalar": () => [lists(), 2],
  _foreach_sqrt: () => [lists()],
  _upsample_bilinear2d_aa: () => [image(), [3, 3], false, 0.5, 0.5],
  upsample_nearest2d: () => [image(), [9, 9], 1.5, 1.5],
  "upsample_nearest2d.vec": () => [image(), null, [1.5, 1.5]],
  "where.self": () => [f(3, 4).gt(0), f(3, 4), tensor(1)],
}
