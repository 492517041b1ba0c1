// Tensor: a handle to libtorch's tensor, with the methods people use most. Names and meaning are PyTorch's;
// optional arguments stand in one options object. Whatever has no method here is a function of aten.generated.ts.
import * as aten from "./aten.generated.ts"
import { allocate, type DType, type MemoryFormat, type TensorData } from "./dtype.ts"
import { DisposedError, ShapeError } from "./errors.ts"
import { type Index, index } from "./indexing.ts"
import { native } from "./native.ts"
import { format } from "./print.ts"
import { span } from "./profile.ts"
import { track } from "./tidy.ts"

export type Shape = readonly number[]
type Dims = number | readonly number[]

// A tensor that nobody disposed is freed when its object is collected, which happens between turns of the event
// loop only: a safety net for scripts, not a plan for loops. Releasing a handle twice is harmless.
const abandoned = new FinalizationRegistry<number>((handle) => native.release(handle))

export class Tensor implements Disposable {
  #handle: number
  #last = "" // what it was, once disposed
  #kept = false

  /** @internal Takes ownership of a native handle; the current tidy() scope owns the new object. */
  constructor(handle: number) {
    if (typeof handle !== "number") throw new TypeError("Tensors are made by functions such as tensor() and zeros().")
    this.#handle = handle
    abandoned.register(this, handle)
    track(this)
  }

  /** @internal The native handle. @throws DisposedError naming `user`, the operator that wants it */
  handleFor(user: string): number {
    if (this.#handle < 0)
      throw new DisposedError(
        `${user}: the tensor ${this.#last} was disposed. Return it from its tidy(), or keep() it.`,
      )
    return this.#handle
  }

  // --- life ---------------------------------------------------------------------------------------------

  /** Frees the handle now. What autograd still needs stays alive inside libtorch. Idempotent. */
  dispose(): void {
    if (this.#handle < 0) return
    this.#last = native.release(this.#handle) ?? ""
    this.#handle = -1
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  get isDisposed(): boolean {
    return this.#handle < 0
  }

  /** Takes the tensor out of tidy()'s hands: it lives until dispose(). Parameters, buffers and optimizer state do this. */
  keep(): this {
    this.#kept = true
    return this
  }

  get isKept(): boolean {
    return this.#kept
  }

  // --- what it is ---------------------------------------------------------------------------------------

  get shape(): number[] {
    return native.shape(this.handleFor("shape"))
  }

  get strides(): number[] {
    return native.strides(this.handleFor("strides"))
  }

  get dtype(): DType {
    return native.dtype(this.handleFor("dtype"))
  }

  /** "cpu", "cuda:0" ... */
  get device(): string {
    return native.device(this.handleFor("device"))
  }

  get ndim(): number {
    return this.shape.length
  }

  /** Number of elements. */
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  /** "float32[2, 3]", as error messages show it. */
  get signature(): string {
    return native.signature(this.handleFor("signature"))
  }

  /** Size along one axis; negative counts from the end. */
  size(dim: number): number {
    const size = this.shape.at(dim)
    if (size === undefined) throw new ShapeError(`size(${dim}): the tensor ${this.signature} has no such axis.`)
    return size
  }

  // --- elements -----------------------------------------------------------------------------------------

  /** The only element, as a number. @throws ShapeError when there is not exactly one */
  item(): number {
    if (this.numel !== 1) throw new ShapeError(`item() wants a tensor of one element, got ${this.signature}.`)
    return Number(aten.item(this))
  }

  /** A copy of all elements, row by row. int64 comes as a BigInt64Array; see toArray() for numbers. */
  data(): TensorData {
    const into = allocate(this.dtype, this.numel)
    native.read(this.handleFor("data"), into)
    return into
  }

  /** Copies all elements, row by row, into an array of the same number of bytes. */
  readInto(into: NodeJS.TypedArray): void {
    native.read(this.handleFor("readInto"), into)
  }

  /** Nested arrays of numbers, as deep as the shape; a single number for a scalar. @throws RangeError for int64 above 2^53 */
  toArray(): NestedNumbers {
    const flat = Array.from(this.#numbers())
    const { shape } = this
    let at = 0
    const build = (dim: number): NestedNumbers => {
      if (dim === shape.length) return flat[at++]!
      return Array.from({ length: shape[dim] ?? 0 }, () => build(dim + 1))
    }
    return build(0)
  }

  *#numbers(): Generator<number> {
    const half = this.dtype === "float16" || this.dtype === "bfloat16"
    using source = half ? aten.to_dtype(this, "float32") : aten.alias(this)
    for (const value of source.data()) {
      if (typeof value === "bigint" && (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER)) {
        throw new RangeError(`the integer ${value} does not fit a JavaScript number; read it with data().`)
      }
      yield Number(value)
    }
  }

  toString(): string {
    return this.isDisposed ? `Tensor(disposed ${this.#last})` : format(this)
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString()
  }

  // --- autograd -----------------------------------------------------------------------------------------

  get requiresGrad(): boolean {
    return native.requiresGrad(this.handleFor("requiresGrad"))
  }

  get isLeaf(): boolean {
    return native.isLeaf(this.handleFor("isLeaf"))
  }

  /** Marks a leaf as one whose gradient is wanted. */
  requiresGrad_(requiresGrad = true): this {
    aten.requires_grad_(this, { requiresGrad })
    return this
  }

  /** A fresh handle to the accumulated gradient, or null. It shares memory with the gradient itself. */
  get grad(): Tensor | null {
    const handle = native.gradient(this.handleFor("grad"))
    return handle === null ? null : new Tensor(handle)
  }

  set grad(gradient: Tensor | null) {
    native.setGradient(this.handleFor("grad"), gradient ? gradient.handleFor("grad") : null)
  }

  /** Adds d(this)/d(leaf) to the gradient of every leaf. `gradient` is needed unless this has one element. */
  backward({ gradient = null as Tensor | null, retainGraph = false, createGraph = false } = {}): void {
    const seed = gradient ? gradient.handleFor("backward") : null
    const output = this.handleFor("backward")
    span("autograd", () => native.backward([output], [seed], retainGraph || createGraph, createGraph))
  }

  /** The same elements without history. */
  detach(): Tensor {
    return aten.detach(this)
  }

  /** The same elements and history under a fresh handle: what a forward returns when it changes nothing. */
  alias(): Tensor {
    return aten.alias(this)
  }

  // --- conversion ---------------------------------------------------------------------------------------

  /** Another dtype, device or memory order; a fresh handle even when nothing changes. */
  to({ dtype, device, memoryFormat, copy = false }: ToOptions): Tensor {
    return aten.to_dtype_layout(this, { dtype, device, memoryFormat, copy })
  }

  /** Takes over another tensor's memory, shape and dtype, as `tensor.data = source`; handles to this tensor see the change. */
  setData(source: Tensor): void {
    aten.set_data(this, source)
  }

  clone(options: { memoryFormat?: MemoryFormat } = {}): Tensor {
    return aten.clone(this, options)
  }

  contiguous(options: { memoryFormat?: MemoryFormat } = {}): Tensor {
    return aten.contiguous(this, options)
  }

  // --- arithmetic, with broadcasting; a number stands for a tensor of that number -------------------------

  add(other: Tensor | number, options: { alpha?: number } = {}): Tensor {
    return other instanceof Tensor ? aten.add_Tensor(this, other, options) : aten.add_Scalar(this, other, options)
  }

  sub(other: Tensor | number, options: { alpha?: number } = {}): Tensor {
    return other instanceof Tensor ? aten.sub_Tensor(this, other, options) : aten.sub_Scalar(this, other, options)
  }

  mul(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.mul_Tensor(this, other) : aten.mul_Scalar(this, other)
  }

  div(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.div_Tensor(this, other) : aten.div_Scalar(this, other)
  }

  pow(exponent: Tensor | number): Tensor {
    return exponent instanceof Tensor ? aten.pow_Tensor_Tensor(this, exponent) : aten.pow_Tensor_Scalar(this, exponent)
  }

  add_(other: Tensor | number, options: { alpha?: number } = {}): this {
    if (other instanceof Tensor) aten.add__Tensor(this, other, options)
    else aten.add__Scalar(this, other, options)
    return this
  }

  sub_(other: Tensor | number, options: { alpha?: number } = {}): this {
    if (other instanceof Tensor) aten.sub__Tensor(this, other, options)
    else aten.sub__Scalar(this, other, options)
    return this
  }

  mul_(other: Tensor | number): this {
    if (other instanceof Tensor) aten.mul__Tensor(this, other)
    else aten.mul__Scalar(this, other)
    return this
  }

  div_(other: Tensor | number): this {
    if (other instanceof Tensor) aten.div__Tensor(this, other)
    else aten.div__Scalar(this, other)
    return this
  }

  copy_(source: Tensor): this {
    aten.copy_(this, source)
    return this
  }

  fill_(value: number): this {
    aten.fill__Scalar(this, value)
    return this
  }

  zero_(): this {
    aten.zero_(this)
    return this
  }

  neg(): Tensor {
    return aten.neg(this)
  }

  abs(): Tensor {
    return aten.abs(this)
  }

  exp(): Tensor {
    return aten.exp(this)
  }

  log(): Tensor {
    return aten.log(this)
  }

  sqrt(): Tensor {
    return aten.sqrt(this)
  }

  clamp({ min, max }: { min?: number; max?: number }): Tensor {
    return aten.clamp(this, { min, max })
  }

  matmul(other: Tensor): Tensor {
    return aten.matmul(this, other)
  }

  // --- comparison ---------------------------------------------------------------------------------------

  eq(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.eq_Tensor(this, other) : aten.eq_Scalar(this, other)
  }

  ne(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.ne_Tensor(this, other) : aten.ne_Scalar(this, other)
  }

  lt(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.lt_Tensor(this, other) : aten.lt_Scalar(this, other)
  }

  le(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.le_Tensor(this, other) : aten.le_Scalar(this, other)
  }

  gt(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.gt_Tensor(this, other) : aten.gt_Scalar(this, other)
  }

  ge(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.ge_Tensor(this, other) : aten.ge_Scalar(this, other)
  }

  // --- reductions; without `dim` over all elements --------------------------------------------------------

  sum({ dim, keepdim = false, dtype }: ReduceOptions & { dtype?: DType } = {}): Tensor {
    return dim === undefined ? aten.sum(this, { dtype }) : aten.sum_dim_IntList(this, list(dim), { keepdim, dtype })
  }

  mean({ dim, keepdim = false, dtype }: ReduceOptions & { dtype?: DType } = {}): Tensor {
    return dim === undefined ? aten.mean(this, { dtype }) : aten.mean_dim(this, list(dim), { keepdim, dtype })
  }

  /** Largest elements; PyTorch's `amax`: gradients are shared evenly between equal maxima. */
  max({ dim, keepdim = false }: ReduceOptions = {}): Tensor {
    return aten.amax(this, { dim: dim === undefined ? [] : list(dim), keepdim })
  }

  min({ dim, keepdim = false }: ReduceOptions = {}): Tensor {
    return aten.amin(this, { dim: dim === undefined ? [] : list(dim), keepdim })
  }

  argmax({ dim, keepdim = false }: { dim?: number; keepdim?: boolean } = {}): Tensor {
    return aten.argmax(this, { dim, keepdim })
  }

  any(): Tensor {
    return aten.any(this)
  }

  all(): Tensor {
    return aten.all(this)
  }

  // --- shape ----------------------------------------------------------------------------------------------

  reshape(shape: Shape): Tensor {
    return aten.reshape(this, shape)
  }

  view(shape: Shape): Tensor {
    return aten.view(this, shape)
  }

  flatten({ startDim = 0, endDim = -1 } = {}): Tensor {
    return aten.flatten_using_ints(this, { startDim, endDim })
  }

  permute(dims: readonly number[]): Tensor {
    return aten.permute(this, dims)
  }

  transpose(dim0: number, dim1: number): Tensor {
    return aten.transpose_int(this, dim0, dim1)
  }

  unsqueeze(dim: number): Tensor {
    return aten.unsqueeze(this, dim)
  }

  /** Without `dim`, every axis of size 1 goes. */
  squeeze({ dim }: { dim?: number } = {}): Tensor {
    return dim === undefined ? aten.squeeze(this) : aten.squeeze_dim(this, dim)
  }

  expand(shape: Shape): Tensor {
    return aten.expand(this, shape)
  }

  // --- parts ----------------------------------------------------------------------------------------------

  /** `length` entries of axis `dim` from `start`: a view. */
  narrow(dim: number, start: number, length: number): Tensor {
    return aten.narrow(this, dim, start, length)
  }

  /** One entry of axis `dim`: a view without that axis. */
  select(dim: number, at: number): Tensor {
    return aten.select_int(this, dim, at)
  }

  /**
   * Python's x[...]: a number selects, `slice(start, end, step)` slices, "..." stands for the axes left out, null makes
   * a new axis, a tensor of bool or int64 picks elements.
   *     x.at(0, slice(1, 3), "...")     // x[0, 1:3, ...]
   */
  at(...indices: Index[]): Tensor {
    return index(this, indices)
  }
}

export interface ToOptions {
  dtype?: DType
  device?: string
  memoryFormat?: MemoryFormat
  copy?: boolean
}

interface ReduceOptions {
  dim?: Dims
  keepdim?: boolean
}

const list = (dims: Dims): readonly number[] => (typeof dims === "number" ? [dims] : dims)

export type NestedNumbers = number | NestedNumbers[]
