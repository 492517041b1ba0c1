// Operators of libtorch that end the process on bad arguments instead of throwing: they read outside their tensors,
// divide by zero, or never return. What libtorch 1.13 does not check is checked here, or the operator is refused.
// Found by calling every operator with random arguments, each tensor ending at a page that cannot be read;
// tests/contract/fuzz.test.ts repeats a part of that, tests/slow/fuzz.test.ts more of it.
import type { NativeOperator } from "./native.ts"
import { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

/** Looks at an operator's arguments, in schema order; says what is wrong with them, if anything. */
export type Guard = (args: readonly unknown[]) => string | undefined

/** The same, with arguments by their names in the schema. One that was left out is undefined. */
type NamedArguments = Readonly<Record<string, unknown>>
type NamedGuard = (args: NamedArguments) => string | undefined

const MAX_PARTS = 1_000_000

// --- refused altogether: nobody needs them from outside, and most of them trust their arguments blindly ------------------

const internals: readonly [pattern: RegExp, reason: string][] = [
  [/^(?!aten::|pixelwise::)/, "it works on libtorch's own objects"],
  [/^aten::_(?!upsample_bilinear2d_aa|foreach_)/, "it is internal to libtorch, which does not check its arguments"],
  [/_backward/, "autograd alone may call it: it does not check its arguments. Use backward() or grad()"],
  [
    /^aten::(mkldnn|slow_conv|thnn_conv|cudnn|miopen|conv_depthwise3d|native_channel_shuffle|batch_norm_(stats|elemt|gather|update))/,
    "it is internal to libtorch. Use convolution, batch_norm or channel_shuffle",
  ],
  [
    /^aten::(quantize|fbgemm|choose_qparams|fake_quantize|q_|int_repr|dequantize)|sparse|_(bsr|bsc|csr|csc)\b/,
    "only dense tensors can be used",
  ],
  [/^aten::(lstm|gru|rnn_)/, "it does not check its list of weights"],
  [/^aten::set_?(\.|$)/, "it gives a tensor the memory of another, of whatever size"],
  [/^aten::from_file/, "it reads and writes files"],
  [/^aten::binomial/, "it never returns when a count is NaN"],
  [/^aten::special_\w+_polynomial/, "it computes for hours when the degree is large"],
  [
    /^aten::(embedding_bag|fractional_max_pool|histogramdd|rrelu_with_noise|align_tensors|record_stream)/,
    "it does not check its arguments",
  ],
]

// --- allowed within limits -------------------------------------------------------------------------------------------------

const within =
  (name: string, low: number, high: number): NamedGuard =>
  ({ [name]: value }) =>
    typeof value === "number" && !(value >= low && value <= high) ? `${name} must be from ${low} to ${high}` : undefined

/** An argument of this name is dangerous wherever it appears. */
const guardsByArgument: Readonly<Record<string, NamedGuard>> = {
  groups: within("groups", 1, 2 ** 31 - 1), // 2^32 becomes 0 in oneDNN, which divides by it
  num_groups: within("num_groups", 1, 2 ** 31 - 1),
  upscale_factor: within("upscale_factor", 1, 2 ** 15), // its square, 2^64, becomes 0
  downscale_factor: within("downscale_factor", 1, 2 ** 15),
}

const guardsByName: readonly [pattern: RegExp, guard: NamedGuard][] = [
  [/^aten::_?upsample_/, scalesFitSizes],
  [/^aten::native_batch_norm\b/, normalisable],
  [/^aten::gradient\b/, spacingOfEachAxis],
  [
    /^aten::(linalg_(svd|svdvals|pinv|cond|matrix_rank|matrix_norm|norm)|svd|pinverse|nuclear_norm|cholesky_inverse|norm)\b/,
    noComplex,
  ],
  [/^aten::(floor_divide|fmod|remainder|div(ide)?)_?(\.|$)/, noOverflowingDivision],
  [/^aten::combinations/, within("r", 0, 64)], // one axis for each
  [/^aten::(nan)?median\b/, noExpandedAxis],
  [/^aten::(unbind|(unsafe_|tensor_|[hvd])?split|(unsafe_)?chunk)/, fewParts],
]

/** bilinear interpolation reads outside the image when `scales` claim fewer output pixels than `output_size` has */
function scalesFitSizes({
  self,
  output_size: size,
  scales,
  scales_d,
  scales_h,
  scales_w,
}: NamedArguments): string | undefined {
  if (!(self instanceof Tensor)) return undefined
  const { shape } = self
  return [scales_w ?? scales, scales_h, scales_d]
    .map((scale, fromEnd) => {
      const input = shape.at(-1 - fromEnd) ?? 0
      const output = Array.isArray(size) ? size[Math.max(0, size.length - 1 - fromEnd)] : size
      // libtorch itself ignores a scale that is not positive. 1e-9: in * scale is rounded
      if (typeof scale !== "number" || !(scale > 0) || output <= input * scale * (1 + 1e-9)) return undefined
      return `an axis of ${input} times ${scale} gives no ${output}`
    })
    .find((reason) => reason !== undefined)
}

/** batch_norm() checks this before it calls native_batch_norm() */
function normalisable({ input, training, running_mean, running_var }: NamedArguments): string | undefined {
  if (training !== true && !(running_mean && running_var))
    return "without training it needs running_mean and running_var"
  return input instanceof Tensor && input.numel === 0 ? "the input has no elements" : undefined
}

/** LAPACK crashes on complex matrices as Debian builds it with libtorch */
function noComplex(args: NamedArguments): string | undefined {
  const complex = Object.values(args).find((value) => value instanceof Tensor && value.dtype.startsWith("complex"))
  return complex === undefined ? undefined : "complex matrices are not supported"
}

/** -2^31 / -1 is no int32: the processor raises a signal, which ends the process. So does -2^63 / -1 */
function noOverflowingDivision({ self, other }: NamedArguments): string | undefined {
  for (const value of [self, other]) if (value instanceof Tensor && !/^int(32|64)$/.test(value.dtype)) return undefined
  const has = (value: unknown, number: number): boolean =>
    value instanceof Tensor
      ? tidy(() => value.eq(number).any().item() === 1)
      : value === number || (typeof value === "number" && (value | 0) === number) // 2^53 - 1 becomes the int32 -1
  if (!has(other, -1) || !(has(self, -(2 ** 31)) || has(self, -(2 ** 63)))) return undefined
  return "the smallest integer divided by -1 is too large for its dtype"
}

/** libtorch's median walks an axis with an iterator that stride 0 keeps from ever reaching its end */
function noExpandedAxis({ self }: NamedArguments): string | undefined {
  if (!(self instanceof Tensor)) return undefined
  const { shape, strides } = self
  const expanded = strides.findIndex((stride, k) => stride === 0 && (shape[k] as number) > 1)
  return expanded < 0 ? undefined : `axis ${expanded} is expanded. Call contiguous() first`
}

/** libtorch takes a list of one spacing for all axes, and then reads behind its end */
function spacingOfEachAxis({ self, spacing, dim }: NamedArguments): string | undefined {
  if (!(self instanceof Tensor) || !Array.isArray(spacing)) return undefined
  const axes = Array.isArray(dim) ? dim.length : typeof dim === "number" ? 1 : self.ndim
  return spacing.length === axes ? undefined : `spacing has ${spacing.length} entries for ${axes} axes`
}

/** a million tensors are more than anybody wants, and a billion more than fits the memory */
function fewParts({ self, dim, split_size, chunks, sections }: NamedArguments): string | undefined {
  if (!(self instanceof Tensor)) return undefined
  const size = self.shape.at(typeof dim === "number" ? dim : 0) ?? 0
  const parts = typeof sections === "number" ? sections : typeof split_size === "number" ? size / split_size : size
  return Math.min(parts, typeof chunks === "number" ? chunks : parts) > MAX_PARTS
    ? `it would give ${parts} tensors`
    : undefined
}

// --- look-up ---------------------------------------------------------------------------------------------------------------

/** The guard that an operator needs; most need none. @throws Error when nothing makes it safe */
export function guardOf(op: NativeOperator): Guard | undefined {
  const refused = internals.find(([pattern]) => pattern.test(op.name))
  if (refused) throw new Error(`${op.name} cannot be called: ${refused[1]}.`)
  const names = op.arguments.map(({ name }) => name)
  const guards = [
    ...names.flatMap((name) => guardsByArgument[name] ?? []),
    ...guardsByName.flatMap(([pattern, guard]) => (pattern.test(op.name) ? [guard] : [])),
  ]
  if (guards.length === 0) return undefined
  return (args) => {
    const named = Object.fromEntries(names.map((name, k) => [name, args[k]]))
    for (const guard of guards) {
      const reason = guard(named)
      if (reason) return reason
    }
    return undefined
  }
}
