// The receptive field: which pixels of the image one pixel of the output can see. It is followed backwards through the
// recorded operators, from one output pixel to the rows and columns that each operator reads for it, so that strides,
// dilation, skips and any size of enlargement come out exact.
// What it is, and why the effective one is smaller: Luo et al. 2016, https://arxiv.org/abs/1701.04128
import type { RecordedArgument, RecordedOperator, Recording, TensorRef } from "../torch/index.ts"
import { tensorRefs } from "../torch/index.ts"

/** First and last row, or column, both included. Outside the image: what the network sees of its padding. */
export type Span = readonly [first: number, last: number]

export interface ReceptiveField {
  /**
   * Largest [height, width] in pixels that one output pixel sees, as if the image went on beyond its borders. Paths that
   * see the whole image do not count here; null: there are no others.
   */
  readonly size: readonly [number, number] | null
  /** Whether there is such a path, as through global pooling, attention, or normalisation by the image's own statistics. */
  readonly wholeImage: boolean
}

export interface ReceptiveWindow {
  readonly rows: Span
  readonly columns: Span
}

/**
 * The receptive field of a pixel of the (first) output, so of logits at the image's size including the last enlargement.
 * Operators that mix positions in a way not followed here (indexing, reshaping H and W together) count as seeing the whole image.
 * @param recording of a model whose first input is [N, C, H, W]
 */
export function receptiveField(recording: Recording): ReceptiveField {
  const [height = 1, width = 1] = recording.outputs[0]?.shape.slice(-2) ?? []
  const steps = stepsOf(recording)
  const size: [number, number] = [0, 0]
  let wholeImage = false
  // Pixels of one output differ, since an enlargement puts them at different places between coarse ones. Rows and columns
  // go their ways independently: one diagonal meets all of both.
  for (let k = 0; k < Math.max(height, width); k++) {
    const { local, whole } = see(recording, steps, [Math.min(k, height - 1), Math.min(k, width - 1)])
    wholeImage ||= whole
    if (local) for (const axis of [0, 1] as const) size[axis] = Math.max(size[axis], length(local.spans[axis]))
  }
  return { size: size[0] > 0 ? size : null, wholeImage }
}

/** The rows and columns that the output pixel [y, x] sees, other than by paths that see the whole image; null: none. */
export function receptiveWindow(recording: Recording, pixel: readonly [number, number]): ReceptiveWindow | null {
  const { local } = see(recording, stepsOf(recording), pixel)
  return local && { rows: local.spans[0], columns: local.spans[1] }
}

// --- backwards through the operators -------------------------------------------------------------------------------------

/** A window of a value: which of its axes are height and width, and where. */
interface Local {
  readonly axes: readonly [number, number]
  readonly spans: readonly [Span, Span]
}

/** What the output needs of a value: a window, all of it, or, by different paths, both. */
interface Need {
  readonly local: Local | null
  readonly whole: boolean
}

const NOTHING: Need = { local: null, whole: false }
const ALL: Need = { local: null, whole: true }

interface Step {
  readonly op: RecordedOperator
  readonly read: readonly TensorRef[]
  /** What it returns; of that, what it wrote in place instead of making it. */
  readonly returned: readonly TensorRef[]
  readonly written: ReadonlySet<TensorRef>
}

/** The operators, last first. */
const stepsOf = ({ operators, values }: Recording): Step[] =>
  operators
    .map((op, k) => {
      const returned = tensorRefs(op.outputs)
      const written = new Set(returned.filter(({ value }) => values[value]?.operator !== k))
      return { op, read: tensorRefs(Object.values(op.arguments)), returned, written }
    })
    .reverse()

function see({ inputs, outputs, values }: Recording, steps: readonly Step[], [y, x]: readonly [number, number]): Need {
  const [input, output] = [inputs[0], outputs[0]]
  if (!input || !output) return NOTHING
  const needs = new Map<number, Need>()
  const ask = (ref: TensorRef, need: Need) => {
    const other = needs.get(ref.value)
    needs.set(ref.value, other ? merge(other, need) : need)
  }
  // biome-ignore format: one pixel
  const pixel: Local = { axes: lastTwo(output), spans: [[y, y], [x, x]] }
  ask(output, output.shape.length < 3 ? ALL : { local: pixel, whole: false })

  const memoryOf = (value: number): number => {
    const base = values[value]?.viewOf
    return base === undefined ? value : memoryOf(base)
  }
  for (const { op, read, returned, written } of steps) {
    for (const out of returned) {
      const need = needs.get(out.value)
      needs.delete(out.value) // before this operator it was not there, or was something else
      if (need?.whole && !ignoresInput.test(op.name)) for (const ref of read) ask(ref, ALL)
      if (need?.local) for (const [ref, part] of sources(op, out, need.local)) ask(ref, part)
      if (!written.has(out)) continue
      const memory = memoryOf(out.value)
      const isSeenElsewhere = [...needs.keys()].some((value) => value !== out.value && memoryOf(value) === memory)
      if (isSeenElsewhere) for (const ref of read) ask(ref, ALL) // views of what it wrote changed too
    }
  }
  const { local, whole } = needs.get(input.value) ?? NOTHING
  return local && !isSamePair(local.axes, lastTwo(input)) ? ALL : { local, whole }
}

function merge(a: Need, b: Need): Need {
  const whole = a.whole || b.whole
  if (!a.local || !b.local) return { local: a.local ?? b.local, whole }
  if (!isSamePair(a.local.axes, b.local.axes)) return ALL // read once as H x W and once as W x H
  const [p, q] = [a.local.spans, b.local.spans]
  return { local: { axes: a.local.axes, spans: [hull(p[0], q[0]), hull(p[1], q[1])] }, whole }
}

const hull = (a: Span, b: Span): Span => [Math.min(a[0], b[0]), Math.max(a[1], b[1])]
const isSamePair = (a: readonly [number, number], b: readonly [number, number]): boolean =>
  a[0] === b[0] && a[1] === b[1]
const length = ([first, last]: Span): number => last - first + 1
const lastTwo = ({ shape }: TensorRef): readonly [number, number] => [shape.length - 2, shape.length - 1]

// --- what each operator reads ----------------------------------------------------------------------------------------------

type Arguments = Readonly<Record<string, RecordedArgument>>
type Request = readonly [TensorRef, Need]

/** What an operator reads for a window of its output. What stands nowhere below reads everything. */
function sources(op: RecordedOperator, out: TensorRef, local: Local): Request[] {
  const name = /^(?:aten|pixelwise)::(\w+?)_?(?:\.|$)/.exec(op.name)?.[1] ?? ""
  const args = op.arguments
  const refs = tensorRefs(Object.values(args))
  const first = refs[0]
  if (!first || ignoresInput.test(op.name)) return []
  const all = refs.map((ref): Request => [ref, ALL])
  const from = (part: Local | null, whole = false): Request[] => [[first, { local: part, whole }]]

  const window = windows[name]
  if (window) {
    if (!isSamePair(local.axes, lastTwo(out)) || first.shape.length !== out.shape.length) return all
    const spans = local.spans.map((span, axis) =>
      window(args, span, axis, first.shape.at(axis - 2) as number, out.shape.at(axis - 2) as number),
    )
    // Between the taps of a transposed convolution there may be nothing; adaptive pooling reads whatever the size is.
    if (spans.includes(null)) return all
    const [rows, columns] = spans as [Span, Span]
    return length(rows) > 0 && length(columns) > 0 ? from({ axes: local.axes, spans: [rows, columns] }) : []
  }
  if (name === "copy") return broadcast(args.src as TensorRef, out, local)
  if (pointwise.test(name)) return refs.flatMap((ref) => broadcast(ref, out, local))
  if (pointwiseInFirst.test(name)) return from(local, args.training === true)
  if (normalisesImage.test(name)) return from(local, true)

  const move = moves[name]
  if (move) return move(args, out, local, op) ?? all
  return all
}

const ignoresInput = /^aten::(\w+_like|new_\w+|(fill|zero|uniform|normal|bernoulli|random)_)(\.|$)/

/** Element by element, with broadcasting. */
const pointwise = new RegExp(
  `^(${[
    "add|sub|rsub|mul|div|remainder|floor_divide|fmod|pow|square|sqrt|rsqrt|reciprocal|addcmul|addcdiv|lerp|neg|abs|sign",
    "exp|expm1|log|log1p|log2|sin|cos|tan|tanh|atan|erf|erfinv|floor|ceil|round|trunc|frac|maximum|minimum|clamp|clamp_min",
    "clamp_max|nan_to_num|isnan|isinf|isfinite|eq|ne|lt|le|gt|ge|logical_and|logical_or|logical_not|logical_xor|bitwise_and",
    "bitwise_or|bitwise_not|where|isclose|masked_fill|to|clone|contiguous|alias|detach|requires_grad|expand|expand_as",
    "relu|relu6|leaky_relu|gelu|silu|elu|hardtanh|hardswish|hardsigmoid|sigmoid|softplus|mish|log_sigmoid",
  ].join("|")})$`,
)

/** The other tensors are per channel, or none of the image's. */
const pointwiseInFirst =
  /^(prelu|batch_norm|batch_norm_clamp|native_batch_norm|dropout|feature_dropout|alpha_dropout|channel_shuffle)$/

/** Mean and variance of each image, over all its pixels. */
const normalisesImage = /^(group_norm|instance_norm)$/

function broadcast(ref: TensorRef, out: TensorRef, { axes, spans }: Local): Request[] {
  const missing = out.shape.length - ref.shape.length
  const own = axes.map((axis) => axis - missing) as [number, number]
  const same = own.every((axis, k) => ref.shape[axis] === out.shape[axes[k] as number])
  return [[ref, same ? { local: { axes: own, spans }, whole: false } : ALL]]
}

/** The span of the input that is read for a span of the output, along height (axis 0) or width (1); null: everything. */
type WindowRule = (args: Arguments, span: Span, axis: number, inSize: number, outSize: number) => Span | null

const at = (value: RecordedArgument | undefined, axis: number): number | undefined =>
  (value as readonly number[] | null | undefined)?.[axis]

const taps = ([a, b]: Span, kernel: number, stride: number, padding: number, dilation: number): Span => [
  a * stride - padding,
  b * stride - padding + (kernel - 1) * dilation,
]

const convolution: WindowRule = (args, span, axis) => {
  const kernel = (args.weight as TensorRef).shape[2 + axis] as number
  const [stride, dilation] = [at(args.stride, axis) as number, at(args.dilation, axis) as number]
  const padding =
    args.padding === "same"
      ? Math.floor((dilation * (kernel - 1)) / 2)
      : args.padding === "valid"
        ? 0
        : at(args.padding, axis)
  const rule = args.transposed === true ? spread : taps
  return rule(span, kernel, stride, padding as number, dilation)
}

const sameSize3x3: WindowRule = ({ dilation }, span) => taps(span, 3, 1, dilation as number, dilation as number)

/** Transposed: input j goes to output j stride - padding + k dilation, k = 0..kernel-1. */
function spread([a, b]: Span, kernel: number, stride: number, padding: number, dilation: number): Span {
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let k = 0; k < kernel; k++) {
    const shift = padding - k * dilation
    const [from, to] = [Math.ceil((a + shift) / stride), Math.floor((b + shift) / stride)]
    if (from > to) continue
    first = Math.min(first, from)
    last = Math.max(last, to)
  }
  return [first, last]
}

const pooling: WindowRule = ({ kernel_size, stride, padding, dilation }, span, axis) => {
  const kernel = at(kernel_size, axis) as number
  return taps(span, kernel, at(stride, axis) ?? kernel, at(padding, axis) ?? 0, at(dilation, axis) ?? 1)
}

const adaptive: WindowRule = (_args, span, _axis, inSize, outSize) => (inSize === outSize ? span : null)

/** Where output pixel `i` of a resize lies in the input, in input pixels from the centre of the first. */
function position(args: Arguments, axis: number, inSize: number, outSize: number): (i: number) => number {
  if (args.align_corners === true) return (i) => (outSize > 1 ? (i * (inSize - 1)) / (outSize - 1) : 0)
  const ratio = inputPerOutput(args, axis, inSize, outSize)
  return (i) => (i + 0.5) * ratio - 0.5
}

function inputPerOutput(args: Arguments, axis: number, inSize: number, outSize: number): number {
  const scale = at(args.scale_factors, axis) ?? (axis === 0 ? args.scales_h : args.scales_w)
  return typeof scale === "number" ? 1 / scale : inSize / outSize
}

const ROUNDING = 1e-9 // positions that are whole numbers but for rounding have one neighbour, not two
const below = (x: number): number => Math.floor(x + ROUNDING)
const above = (x: number): number => Math.ceil(x - ROUNDING)

const linear: WindowRule = (args, [a, b], axis, inSize, outSize) => {
  const at = position(args, axis, inSize, outSize)
  return [below(at(a)), above(at(b))]
}

/** Two pixels on either side; where it meets a pixel, that alone. So the end may come from the next pixel inside. */
const cubic: WindowRule = (args, [a, b], axis, inSize, outSize) => {
  const at = position(args, axis, inSize, outSize)
  const first = (i: number) => (below(at(i)) === above(at(i)) ? below(at(i)) : below(at(i)) - 1)
  const last = (i: number) => (below(at(i)) === above(at(i)) ? above(at(i)) : above(at(i)) + 1)
  return [Math.min(first(a), first(Math.min(a + 1, b))), Math.max(last(b), last(Math.max(b - 1, a)))]
}

/** Antialiased: a triangle as wide as the output's pixels. */
const antialiased: WindowRule = (args, [a, b], axis, inSize, outSize) => {
  const at = position(args, axis, inSize, outSize)
  const reach = Math.max(1, inSize / outSize)
  return [Math.floor(at(a) - reach) + 1, Math.ceil(at(b) + reach) - 1]
}

const nearest: WindowRule = (args, [a, b], axis, inSize, outSize) => {
  const ratio = inputPerOutput(args, axis, inSize, outSize)
  return [below(a * ratio), below(b * ratio)]
}

/** `pad` begins with the last axis: left, right, top, bottom. */
const padding: WindowRule = ({ pad, mode, padding }, [a, b], axis) => {
  const before = at(pad ?? padding, 2 * (1 - axis)) ?? 0
  return mode === "circular" ? null : [a - before, b - before]
}

const windows: Readonly<Record<string, WindowRule>> = {
  pointwise_conv2d: (_, span) => span,
  atrous_conv2d: sameSize3x3,
  winograd_conv2d: sameSize3x3,
  depthwise_conv2d: ({ padding, ...args }, span, axis) =>
    convolution({ ...args, padding: [at(padding, 0) ?? 0, at(padding, 2) ?? 0] }, span, axis, 0, 0),
  conv2d: convolution,
  convolution,
  conv_transpose2d: (args, span, axis, ...sizes) => convolution({ ...args, transposed: true }, span, axis, ...sizes),
  max_pool2d: pooling,
  max_pool2d_with_indices: pooling,
  avg_pool2d: pooling,
  adaptive_avg_pool2d: adaptive,
  adaptive_max_pool2d: adaptive,
  upsample_nearest2d: nearest,
  upsample_bilinear2d: linear,
  upsample_bicubic2d: cubic,
  _upsample_bilinear2d_aa: antialiased,
  constant_pad_nd: padding,
  reflection_pad2d: padding,
  replication_pad2d: padding,
  pad: padding,
  pixel_shuffle: ({ upscale_factor: r }, [a, b]) => [Math.floor(a / Number(r)), Math.floor(b / Number(r))],
  pixel_unshuffle: ({ downscale_factor: r }, [a, b]) => [a * Number(r), (b + 1) * Number(r) - 1],
}

/** Operators that put axes, or parts along them, elsewhere; null: height and width cannot be followed. */
type MoveRule = (args: Arguments, out: TensorRef, local: Local, op: RecordedOperator) => Request[] | null

/** The same window where output axis `k` is input axis `inAxis(k)`; negative: it is none. */
function moved(
  ref: TensorRef,
  { axes, spans }: Local,
  inAxis: (axis: number) => number,
  whole = false,
): Request[] | null {
  const own = axes.map(inAxis) as [number, number]
  return own.some((axis) => !(axis >= 0)) ? null : [[ref, { local: { axes: own, spans }, whole }]]
}

/** The window moved along one axis; nothing of it, when it lies outside [0, size). */
function shifted(ref: TensorRef, { axes, spans }: Local, dim: number, by: number, stride = 1): Request[] {
  const own = spans.map(([a, b], k): Span => (axes[k] === dim ? [a * stride + by, b * stride + by] : [a, b]))
  return [[ref, { local: { axes, spans: own as [Span, Span] }, whole: false }]]
}

const wrap = (dim: RecordedArgument | undefined, { shape }: TensorRef): number =>
  Number(dim) < 0 ? Number(dim) + shape.length : Number(dim)
const self = (args: Arguments): TensorRef => (args.self ?? args.input) as TensorRef

/** Along some axes each output element sees all elements; the axes then go, or stay with one element or as they were. */
const alongAxes: MoveRule = (args, out, local) => {
  const ref = self(args)
  const { dim } = args
  const all = Array.from(ref.shape, (_, axis) => axis)
  const listed = dim === null || dim === undefined ? [] : ([dim].flat() as number[]).map((d) => wrap(d, ref))
  const reduced = listed.length > 0 ? listed : all
  const kept = ref.shape.length === out.shape.length ? all : all.filter((axis) => !reduced.includes(axis))
  const whole = reduced.some((axis) => local.axes.map((k) => kept[k]).includes(axis))
  const isSameSize = String(ref.shape) === String(out.shape)
  return whole && !isSameSize ? null : moved(ref, local, (axis) => kept[axis] ?? -1, whole)
}

/** A reshape leaves an axis alone when its size, and the number of elements after it, are still there. */
const reshape: MoveRule = (args, out, local) => {
  const ref = self(args)
  const after = (shape: readonly number[], axis: number) => shape.slice(axis + 1).reduce((a, b) => a * b, 1)
  return moved(ref, local, (axis) =>
    ref.shape.findIndex((size, k) => size === out.shape[axis] && after(ref.shape, k) === after(out.shape, axis)),
  )
}

const squeeze: MoveRule = (args, out, local) => {
  const ref = self(args)
  const dim = args.dim === undefined ? null : wrap(args.dim, ref)
  const kept = ref.shape.flatMap((size, axis) => (size === 1 && (dim === null || dim === axis) ? [] : [axis]))
  return kept.length === out.shape.length ? moved(ref, local, (axis) => kept[axis] ?? -1) : null
}

const select: MoveRule = (args, _out, local) => {
  const ref = self(args)
  const dim = wrap(args.dim ?? 0, ref)
  return moved(ref, local, (axis) => (axis >= dim ? axis + 1 : axis))
}

const slice: MoveRule = (args, _out, local) => {
  const ref = self(args)
  const dim = wrap(args.dim ?? 0, ref)
  const start = Number(args.start ?? 0)
  const size = ref.shape[dim] as number
  return shifted(ref, local, dim, Math.min(size, Math.max(0, start < 0 ? start + size : start)), Number(args.step ?? 1))
}

const split: MoveRule = (args, out, local, op) => {
  const ref = self(args)
  const dim = wrap(args.dim ?? 0, ref)
  const parts = tensorRefs(op.outputs)
  const before = parts.slice(
    0,
    parts.findIndex(({ value }) => value === out.value),
  )
  return shifted(
    ref,
    local,
    dim,
    before.reduce((sum, { shape }) => sum + (shape[dim] as number), 0),
  )
}

const moves: Readonly<Record<string, MoveRule>> = {
  permute: (args, _out, local) => {
    const ref = self(args)
    const dims = (args.dims as readonly number[]).map((dim) => wrap(dim, ref))
    return moved(ref, local, (axis) => dims[axis] as number)
  },
  transpose: (args, _out, local) => {
    const ref = self(args)
    const [a, b] = [wrap(args.dim0, ref), wrap(args.dim1, ref)]
    return moved(ref, local, (axis) => (axis === a ? b : axis === b ? a : axis))
  },
  unsqueeze: (args, out, local) => {
    const dim = wrap(args.dim, out)
    return moved(self(args), local, (axis) => (axis === dim ? -1 : axis > dim ? axis - 1 : axis))
  },
  squeeze,
  reshape,
  view: reshape,
  view_as: reshape,
  flatten: reshape,
  unflatten: reshape,
  select,
  unbind: select,
  narrow: slice,
  slice,
  split,
  split_with_sizes: split,
  chunk: split,
  cat: (args, _out, local) => {
    const parts = args.tensors as readonly TensorRef[]
    const dim = wrap(args.dim, parts[0] as TensorRef)
    let offset = 0
    return parts.flatMap((part) => {
      const start = offset
      const size = part.shape[dim] as number
      offset += size
      const inside = local.spans.every(([a, b], k) => local.axes[k] !== dim || (b >= start && a < start + size))
      return inside ? shifted(part, local, dim, -start) : []
    })
  },
  stack: (args, out, local) => {
    const dim = wrap(args.dim, out)
    const parts = args.tensors as readonly TensorRef[]
    const requests = parts.map((part) =>
      moved(part, local, (axis) => (axis === dim ? -1 : axis > dim ? axis - 1 : axis)),
    )
    return requests.includes(null) ? null : (requests as Request[][]).flat()
  },
  // The pooling had windows side by side, as SegNet's: overlapping ones would reach a pixel further.
  max_unpool2d: (args, out, local) => {
    if (!isSamePair(local.axes, lastTwo(out))) return null
    return [args.self, args.indices].map((value): Request => {
      const ref = value as TensorRef
      const spans = local.spans.map(([a, b], axis): Span => {
        const size = ref.shape.at(axis - 2) as number
        const kernel = Math.round((out.shape.at(axis - 2) as number) / size)
        return [Math.min(Math.floor(a / kernel), size - 1), Math.min(Math.floor(b / kernel), size - 1)]
      })
      return [ref, { local: { axes: lastTwo(ref), spans: spans as [Span, Span] }, whole: false }]
    })
  },
  linear: (args, out, local) => (local.axes.includes(out.shape.length - 1) ? null : moved(self(args), local, (k) => k)),
  layer_norm: (args, out, local) => {
    const normalised = out.shape.length - (args.normalized_shape as readonly number[]).length
    return moved(
      self(args),
      local,
      (axis) => axis,
      local.axes.some((axis) => axis >= normalised),
    )
  },
  ...Object.fromEntries(
    "softmax log_softmax cumsum cumprod sum mean prod amax amin max min argmax argmin any all var std var_mean norm logsumexp"
      .split(" ")
      .map((name) => [name, alongAxes]),
  ),
}
