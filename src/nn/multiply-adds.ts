// How much work an operator is, in multiply-adds: one multiplication and the addition that follows. That is what papers
// and torchvision call GFLOPS (ResNet-50 at 224 x 224: 4.09 G), and half of what counts both as operations.
// Convolutions and matrix products count, without their bias; everything else counts nothing, as there.
import type { RecordedOperator, TensorRef } from "../torch/index.ts"

type Count = (args: Readonly<Record<string, TensorRef>>, out: TensorRef) => number

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1)
const elements = ({ shape }: TensorRef): number => product(shape)

/** N Hout Wout Cout (Cin / groups) kh kw: each output position once with a kernel. */
const convolution: Count = ({ weight }, out) => elements(out) * product(weight!.shape.slice(1))
/** Transposed, each input position is. Its weight is [Cin, Cout / groups, kh, kw]. */
const transposed: Count = ({ input, weight }) => elements(input!) * product(weight!.shape.slice(1))
/** m n k for [m, k] x [k, n], for each matrix of a batch. */
const summedOver =
  (argument: string): Count =>
  (args, out) =>
    elements(out) * (args[argument]!.shape.at(-1) ?? 1)

const counts: Readonly<Record<string, Count>> = {
  conv1d: convolution,
  conv2d: convolution,
  conv3d: convolution,
  pointwise_conv2d: convolution,
  atrous_conv2d: convolution,
  winograd_conv2d: convolution,
  depthwise_conv2d: convolution,
  convolution: (args, out) => ((args.transposed as unknown) === true ? transposed : convolution)(args, out),
  conv_transpose1d: transposed,
  conv_transpose2d: transposed,
  conv_transpose3d: transposed,
  linear: summedOver("input"),
  matmul: summedOver("self"),
  mm: summedOver("self"),
  bmm: summedOver("self"),
  mv: summedOver("self"),
  dot: summedOver("self"),
  inner: summedOver("self"),
  addmm: summedOver("mat1"),
  addmv: summedOver("mat"),
  baddbmm: summedOver("batch1"),
  einsum,
}

/** "bik,bkj->bij": every combination of indices once. */
function einsum(args: Readonly<Record<string, unknown>>): number {
  const tensors = args.tensors as readonly TensorRef[]
  if (tensors.length < 2) return 0
  const sizes = new Map<string, number>()
  const operands = (args.equation as string).replaceAll(" ", "").split("->")[0]?.split(",") ?? []
  for (const [k, { shape }] of tensors.entries()) {
    const [before = "", after = ""] = operands[k]?.split("...") ?? []
    const letters = [...before, ...Array.from(shape.slice(before.length + after.length), (_, n) => `...${n}`), ...after]
    for (const [axis, letter] of letters.entries())
      sizes.set(letter, Math.max(sizes.get(letter) ?? 1, shape[axis] ?? 1))
  }
  return product([...sizes.values()])
}

/** Of one recorded operator, libtorch's or ours. */
export function multiplyAdds({ name, arguments: args, outputs }: RecordedOperator): number {
  const count = counts[/^(?:aten|pixelwise)::(\w+)/.exec(name)?.[1] ?? ""]
  return count ? count(args as Readonly<Record<string, TensorRef>>, outputs[0] as TensorRef) : 0
}
