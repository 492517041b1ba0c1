// Initial values of parameters, as torch.nn.init: the same formulas, and with the same seed the same numbers.
import { aten, type Generator, noGrad, ShapeError, type Tensor } from "../torch/index.ts"

type Nonlinearity = "linear" | "relu" | "tanh" | "leaky-relu"
interface Options {
  generator?: Generator
}

/** Inputs and outputs per unit of a weight [out, in, ...kernel] ([in, out, ...] of a transposed convolution counts alike). */
export function fans(weight: Tensor): { fanIn: number; fanOut: number } {
  const [first, second, ...kernel] = weight.shape
  if (first === undefined || second === undefined)
    throw new ShapeError(`Fans need a weight of at least 2 axes, got ${weight.signature}.`)
  const area = kernel.reduce((product, size) => product * size, 1)
  return { fanIn: second * area, fanOut: first * area }
}

/** Factor that keeps the variance through a nonlinearity; `slope` is leaky ReLU's. */
export function gain(nonlinearity: Nonlinearity, slope = 0.01): number {
  const gains = { linear: 1, relu: Math.SQRT2, tanh: 5 / 3, "leaky-relu": Math.sqrt(2 / (1 + slope ** 2)) }
  return gains[nonlinearity]
}

export function uniform_(tensor: Tensor, low: number, high: number, { generator }: Options = {}): void {
  using _ = noGrad()
  aten.uniform_(tensor, { from: low, to: high, generator })
}

export function normal_(tensor: Tensor, mean: number, std: number, { generator }: Options = {}): void {
  using _ = noGrad()
  aten.normal_(tensor, { mean, std, generator })
}

export function constant_(tensor: Tensor, value: number): void {
  using _ = noGrad()
  tensor.fill_(value)
}

/** Normal, cut off at `low` and `high` (by inverse distribution, as PyTorch's trunc_normal_). */
export function truncNormal_(
  tensor: Tensor,
  { mean = 0, std = 1, low = -2, high = 2, generator }: TruncatedOptions = {},
): void {
  using _ = noGrad()
  const cdf = (x: number) => (1 + erf(x / Math.SQRT2)) / 2
  aten.uniform_(tensor, { from: 2 * cdf((low - mean) / std) - 1, to: 2 * cdf((high - mean) / std) - 1, generator })
  using z = aten.erfinv(tensor)
  using scaled = z.mul(std * Math.SQRT2).add_(mean)
  using cut = scaled.clamp({ min: low, max: high })
  tensor.copy_(cut)
}

interface TruncatedOptions extends Options {
  mean?: number
  std?: number
  low?: number
  high?: number
}

/** He et al. 2015, https://arxiv.org/abs/1502.01852 */
export function kaimingUniform_(tensor: Tensor, { generator, ...options }: KaimingOptions = {}): void {
  const bound = Math.sqrt(3) * kaimingStd(tensor, options)
  uniform_(tensor, -bound, bound, { generator })
}

export function kaimingNormal_(tensor: Tensor, { generator, ...options }: KaimingOptions = {}): void {
  normal_(tensor, 0, kaimingStd(tensor, options), { generator })
}

interface KaimingOptions extends Options {
  /** Slope of the leaky ReLU that follows. */
  slope?: number
  mode?: "fan-in" | "fan-out"
  nonlinearity?: Nonlinearity
}

function kaimingStd(
  tensor: Tensor,
  { slope = 0, mode = "fan-in", nonlinearity = "leaky-relu" }: Omit<KaimingOptions, "generator">,
): number {
  const { fanIn, fanOut } = fans(tensor)
  return gain(nonlinearity, slope) / Math.sqrt(mode === "fan-in" ? fanIn : fanOut)
}

/** Glorot and Bengio 2010. */
export function xavierUniform_(tensor: Tensor, { generator }: Options = {}): void {
  const { fanIn, fanOut } = fans(tensor)
  const bound = Math.sqrt(6 / (fanIn + fanOut))
  uniform_(tensor, -bound, bound, { generator })
}

export function xavierNormal_(tensor: Tensor, { generator }: Options = {}): void {
  const { fanIn, fanOut } = fans(tensor)
  normal_(tensor, 0, Math.sqrt(2 / (fanIn + fanOut)), { generator })
}

/** What nn.Conv2d, ConvTranspose2d and Linear start with in PyTorch: weight and bias uniform within 1/sqrt(fan-in). */
export function torchDefault_(weight: Tensor, bias: Tensor | null): void {
  kaimingUniform_(weight, { slope: Math.sqrt(5) })
  const bound = 1 / Math.sqrt(fans(weight).fanIn)
  if (bias) uniform_(bias, -bound, bound)
}

// 2/sqrt(pi) exp(-x^2) (x + 2x^3/3 + 4x^5/15 + ...): all terms have one sign, so nothing cancels.
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x)
  let term = x
  let sum = x
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= (2 * x * x) / (2 * k + 1)
    sum += term
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}
