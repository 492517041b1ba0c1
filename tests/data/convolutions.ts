// What the tests of our convolutions (src/torch/*-convolution.test.ts) have in common: each is compared with libtorch's in float64.
import { expect } from "vitest"
import { type DType, grad, randn, type Tensor } from "../../src/torch/index.ts"

export type Convolve = (x: Tensor, weight: Tensor, bias: Tensor | null) => Tensor

export interface Values {
  readonly x: Tensor
  readonly weight: Tensor
  readonly bias: Tensor
  /** The gradient of the output. */
  readonly dy: Tensor
}

export const sideBySide = (x: Tensor): Tensor => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])

/**
 * @param exact says what shape the output has
 * @param shape of x
 * @param kernel shape of the weight, whose first axis is as long as the bias
 */
export function makeValues(
  exact: Convolve,
  shape: readonly number[],
  kernel: readonly number[],
  layout = sideBySide,
): Values {
  const [x, weight, bias] = [layout(randn(shape)), layout(randn(kernel)), randn([kernel[0]!])]
  return { x, weight, bias, dy: layout(randn(exact(x, weight, bias).shape)) }
}

export const names = ["y", "dx", "dweight", "dbias"] as const
export type Results = Record<(typeof names)[number], Tensor>

const leavesOf = ({ x, weight, bias }: Values, dtype: DType) => {
  const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
  return [copy(x), copy(weight), copy(bias)] as const
}

export function results(convolve: Convolve, given: Values, dtype: DType = "float32"): Results {
  const leaves = leavesOf(given, dtype)
  const y = convolve(...leaves)
  const [dx, dweight, dbias] = grad([y], leaves, { gradients: [given.dy.to({ dtype })] }) as [Tensor, Tensor, Tensor]
  return { y, dx, dweight, dbias }
}

/** Largest difference from the truth, by the largest value there is. */
export const error = (got: Tensor, exact: Tensor): number =>
  got.sub(exact).abs().max().item() / Math.max(1e-3, exact.abs().max().item())

/** The gradients are the same when others are not wanted, and when the output's lies in memory otherwise. */
export function expectOnlyWanted(convolve: Convolve, given: Values): void {
  const all = results(convolve, given)
  const rows = results(convolve, { ...given, dy: given.dy.contiguous() })
  for (const name of names) expect(rows[name].data(), name).toEqual(all[name].data())
  const { x, weight, bias, dy } = given
  const learns = weight.detach().requiresGrad_()
  const [dweight] = grad([convolve(x, learns, bias)], [learns], { gradients: [dy] })
  expect(dweight!.data()).toEqual(all.dweight.data())
  const image = x.detach().requiresGrad_()
  const [dx] = grad([convolve(image, weight, null)], [image], { gradients: [dy] })
  expect(dx!.data()).toEqual(all.dx.data())
}

/** The gradient of a penalty on dx, as in WGAN-GP, with respect to the weight, agrees with libtorch's. */
export function expectSecondDerivatives(convolve: Convolve, exact: Convolve, given: Values): void {
  const penalty = (convolve: Convolve, dtype: DType) => {
    const leaves = leavesOf(given, dtype)
    const [dx] = grad([convolve(...leaves)], [leaves[0]], {
      gradients: [given.dy.to({ dtype })],
      createGraph: true,
    })
    return grad([dx!.mul(dx!).sum()], [leaves[1]])[0]!
  }
  expect(error(penalty(convolve, "float32"), penalty(exact, "float64"))).toBeLessThan(1e-6)
}
