// Gradient check: autograd's derivative of every output element by every input element, against a central difference.
// A check of a sum of outputs would miss errors that cancel, and the sum of a softmax has no gradient at all.
import { fromData, grad, noGrad, type Tensor, tidy, zeros } from "../../src/torch/index.ts"

interface Options {
  /** Step of the difference. In float64 with values about 1 the rounding error is 1e-16 / step = 1e-10, the truncation error about step^2 = 1e-12. */
  step?: number
  /** So this leaves a factor of 100 for sums of some hundred terms, and any wrong formula is off by far more. */
  absolute?: number
  relative?: number
}

/**
 * Compares the full Jacobian of `fn` at `inputs` with differences.
 * @param inputs float64 leaves that require a gradient (a model's parameters too, if fn uses them); restored at the end
 * @returns the number of entries compared
 * @throws Error naming the first wrong entry and how many are wrong
 */
export function gradcheck(
  fn: () => Tensor,
  inputs: readonly Tensor[],
  { step = 1e-6, absolute = 1e-8, relative = 1e-6 }: Options = {},
): number {
  for (const input of inputs) {
    if (input.dtype !== "float64" || !input.requiresGrad)
      throw new Error(`gradcheck wants float64 inputs that require a gradient, got ${input.signature}.`)
  }
  const byAutograd = autogradJacobian(fn, inputs)
  const byDifference = inputs.map((input) => differenceJacobian(fn, input, step))
  const wrong: string[] = []
  let compared = 0
  for (const [k, input] of inputs.entries()) {
    const [exact, measured] = [byAutograd[k] as Float64Array, byDifference[k] as Float64Array]
    const size = input.numel
    for (let i = 0; i < exact.length; i++, compared++) {
      const [a, b] = [exact[i] as number, measured[i] as number]
      if (Math.abs(a - b) <= absolute + relative * Math.abs(b)) continue
      wrong.push(`d output[${Math.floor(i / size)}] / d input ${k}[${i % size}]: autograd ${a}, difference ${b}`)
    }
  }
  if (wrong.length > 0)
    throw new Error(`Gradient wrong in ${wrong.length} of ${compared} entries. ${wrong.slice(0, 3).join("; ")}.`)
  return compared
}

/** One Jacobian [outputs, inputs], row by row, for each input. */
function autogradJacobian(fn: () => Tensor, inputs: readonly Tensor[]): Float64Array[] {
  return tidy(() => {
    const y = fn()
    const outputs = y.numel
    const jacobians = inputs.map((input) => new Float64Array(outputs * input.numel))
    for (let j = 0; j < outputs; j++) {
      tidy(() => {
        const seed = zeros(y.shape, { dtype: "float64" })
        seed.view([outputs]).select(0, j).fill_(1)
        const rows = grad([y], inputs, { gradients: [seed], retainGraph: true })
        for (const [k, row] of rows.entries()) if (row) jacobians[k]?.set(row.data() as Float64Array, j * row.numel)
      })
    }
    return jacobians
  })
}

function differenceJacobian(fn: () => Tensor, input: Tensor, step: number): Float64Array {
  using _ = noGrad()
  const values = input.data() as Float64Array
  const outputAt = (i: number, value: number): Float64Array =>
    tidy(() => {
      const moved = values.slice()
      moved[i] = value
      input.copy_(fromData(moved, input.shape))
      return fn().data() as Float64Array
    })
  const columns: number[][] = []
  for (const [i, value] of values.entries()) {
    const above = outputAt(i, value + step)
    const below = outputAt(i, value - step)
    columns.push(Array.from(above, (y, j) => (y - (below[j] as number)) / (2 * step)))
  }
  tidy(() => input.copy_(fromData(values, input.shape)))
  const outputs = columns[0]?.length ?? 0
  return Float64Array.from(
    { length: outputs * values.length },
    (_, at) => columns[at % values.length]?.[Math.floor(at / values.length)] as number,
  )
}
