// Our operators against libtorch's own in float64.
import { afterEach, describe, expect, test } from "vitest"
import {
  aten,
  batchNormClamp,
  type DType,
  foldBatchNorm,
  fromData,
  full,
  grad,
  type Limits,
  manualSeed,
  noGrad,
  ones,
  rand,
  randn,
  setThreads,
  type Tensor,
  tidy,
  zeros,
} from "./index.ts"

const names = ["y", "dx", "dweight", "dbias", "running_mean", "running_var"] as const
type Results = Record<(typeof names)[number], Tensor>
type Run = (x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, limits: Limits) => Tensor

const settings = { momentum: 0.3, eps: 1e-3 }
const fused: Run = (x, weight, bias, running_mean, running_var, limits) =>
  batchNormClamp(x, { weight, bias, running_mean, running_var, ...settings }, true, limits)
const composed: Run = (x, weight, bias, mean, variance, { low, high }) => {
  const y = aten.batch_norm(x, weight, bias, mean, variance, true, settings.momentum, settings.eps, true)
  if (low === undefined) return y
  return high === undefined ? aten.relu(y) : aten.hardtanh(y, { minVal: low, maxVal: high })
}

const sideBySide = (x: Tensor): Tensor => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])

interface Case {
  x: Tensor
  dy: Tensor
  weight: Tensor
  bias: Tensor
  limits: Limits
}

function results(run: Run, { x, dy, weight, bias, limits }: Case, dtype: DType = "float32"): Results {
  const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
  const leaves = [copy(x), copy(weight), copy(bias)] as const
  const [running_mean, running_var] = [full([x.size(1)], 0.5, { dtype }), full([x.size(1)], 2, { dtype })]
  const y = run(...leaves, running_mean, running_var, limits)
  const [dx, dweight, dbias] = grad([y], leaves, { gradients: [dy.to({ dtype })] }) as [Tensor, Tensor, Tensor]
  return { y, dx, dweight, dbias, running_mean, running_var }
}

/** x and dy as they are, weight and statistics in float32. */
function mixedResults(run: Run, { x, dy, weight, bias, limits }: Case): Results {
  const leaves = [x, weight, bias].map((tensor) => tensor.clone().requiresGrad_()) as [Tensor, Tensor, Tensor]
  const [running_mean, running_var] = [full([x.size(1)], 0.5), full([x.size(1)], 2)]
  const y = run(...leaves, running_mean, running_var, limits)
  const [dx, dweight, dbias] = grad([y], leaves, { gradients: [dy] }) as [Tensor, Tensor, Tensor]
  return { y, dx, dweight, dbias, running_mean, running_var }
}

/** A gradient is left out where y is so close to a bound that rounding decides whether it passes. */
function makeCase(shape: number[], limits: Limits, { mean = 0, deviation = 1 } = {}): Case {
  const c = shape[1]!
  const x = sideBySide(
    randn(shape)
      .mul_(deviation)
      .add_(randn([1, c, 1, 1]).add_(mean)),
  )
  const [weight, bias, dy] = [rand([c]).add_(0.5), randn([c]), sideBySide(randn(shape))]
  const { y } = results(
    (...args) => composed(...(args.slice(0, 5) as [Tensor, Tensor, Tensor, Tensor, Tensor]), {}),
    { x, dy, weight, bias, limits },
    "float64",
  )
  for (const bound of [limits.low, limits.high]) if (bound !== undefined) dy.mul_(y.sub(bound).abs().gt(1e-2))
  return { x, dy, weight, bias, limits }
}

/** Largest difference from the truth, by the largest value there is. */
const errors = (got: Results, truth: Results): Record<string, number> =>
  Object.fromEntries(
    names.map((name) => {
      const exact = truth[name]
      return [name, got[name].sub(exact).abs().max().item() / Math.max(1e-3, exact.abs().max().item())]
    }),
  )

afterEach(() => setThreads(1))

const bounds: Record<string, Limits> = { "no clamp": {}, ReLU: { low: 0 }, ReLU6: { low: 0, high: 6 } }
const shapes = [
  [2, 1, 1, 1], // two values are the fewest there can be
  [1, 3, 2, 1],
  [1, 1, 5, 7],
  [2, 7, 9, 5], // an odd number of channels, and pixels left over
  [3, 8, 16, 16],
  [2, 16, 31, 33],
  [2, 24, 40, 40], // enough for two threads
  [1, 64, 48, 48],
  [2, 65, 20, 21],
  [2, 300, 13, 11],
  [4, 2048, 3, 2],
]

describe.each(Object.entries(bounds))("with %s", (_, limits) => {
  test.each(shapes)("[%i, %i, %i, %i] is at least as close to float64 as libtorch's float32", (...shape) => {
    manualSeed(1)
    for (const threads of [1, 2]) {
      setThreads(threads)
      tidy(() => {
        const given = makeCase(shape, limits)
        const truth = results(composed, given, "float64")
        const [ours, libtorchs] = [fused, composed].map((run) => errors(results(run, given), truth))
        // 5e-7: a few roundings of 6e-8, where libtorch was lucky
        for (const name of names) expect(ours![name], name).toBeLessThanOrEqual(Math.max(5e-7, libtorchs![name]!))
      })
    }
  })
})

// libtorch subtracts the mean after it has multiplied both: at a mean of 3000 deviations little of x is left.
test.each([
  { mean: 1000, deviation: 0.3 },
  { mean: -3e4, deviation: 10 },
])("a huge mean: %o", (of) => {
  manualSeed(2)
  tidy(() => {
    const given = makeCase([2, 24, 31, 33], { low: 0 }, of)
    given.dy.copy_(given.dy.abs().mul(results(composed, given, "float64").y)) // goes with x, so that no sum is near 0
    const truth = results(composed, given, "float64")
    const [ours, libtorchs] = [fused, composed].map((run) => errors(results(run, given), truth))
    for (const name of names) expect(ours![name], name).toBeLessThan(5e-7)
    expect(libtorchs!.y).toBeGreaterThan(1e-5) // so this is not what ran
  })
})

test("a channel of one value gives the bias, which passes no gradient at a bound", () => {
  tidy(() => {
    const [weight, bias] = [ones([2]), fromData(Float32Array.of(0, 1))]
    const x = sideBySide(full([2, 2, 3, 3], 0.1))
    const { y, dx, dbias } = results(fused, { x, dy: ones([2, 2, 3, 3]), weight, bias, limits: { low: 0 } })
    expect(y.sum({ dim: [0, 2, 3] }).data()).toEqual(Float32Array.of(0, 18))
    expect(dbias.data()).toEqual(Float32Array.of(0, 18))
    expect(dx.abs().max().item()).toBeLessThan(1e-5)
  })
})

test("a NaN and an infinity are not hidden, and stay in their channel", () => {
  tidy(() => {
    const x = sideBySide(randn([2, 3, 4, 4]))
    x.select(1, 0).fill_(Number.NaN)
    x.at(0, 1, 0, 0).fill_(Number.POSITIVE_INFINITY)
    const { y } = results(fused, { x, dy: ones([2, 3, 4, 4]), weight: ones([3]), bias: zeros([3]), limits: { low: 0 } })
    const bad = (c: number) => aten.isnan(y.select(1, c)).all().item()
    expect([0, 1, 2].map(bad)).toEqual([1, 1, 0])
  })
})

test("the result has its channels side by side; a gradient may lie as it likes", () => {
  manualSeed(3)
  tidy(() => {
    const given = makeCase([2, 5, 6, 7], { low: 0 })
    const one = results(fused, given)
    expect([one.y.strides, one.dx.strides]).toEqual([given.x.strides, given.x.strides])
    const rows = results(fused, { ...given, dy: given.dy.contiguous() })
    for (const name of names) expect(rows[name].data()).toEqual(one[name].data())
    const expanded = results(fused, { ...given, dy: ones([1]).expand([2, 5, 6, 7]) })
    const same = results(fused, { ...given, dy: ones([2, 5, 6, 7]) })
    for (const name of names) expect(expanded[name].data()).toEqual(same[name].data())
  })
})

test("the same bits every time", () => {
  manualSeed(4)
  setThreads(2)
  tidy(() => {
    const given = makeCase([4, 24, 40, 40], { low: 0, high: 6 })
    const once = results(fused, given)
    const twice = results(fused, given)
    for (const name of names) expect(twice[name].data()).toEqual(once[name].data())
  })
})

test.each(Object.entries(bounds))("what is not side by side in float32 is libtorch's, to the bit: %s", (_, limits) => {
  manualSeed(5)
  tidy(() => {
    const given = makeCase([2, 5, 6, 7], limits)
    const rows = { ...given, x: given.x.contiguous() }
    for (const [input, dtype] of [
      [rows, "float32"],
      [given, "float64"],
    ] as const) {
      const [ours, libtorchs] = [results(fused, input, dtype), results(composed, input, dtype)]
      for (const name of names) expect(ours[name].data(), name).toEqual(libtorchs[name].data())
    }
    const state = { weight: given.weight, bias: given.bias, running_mean: zeros([5]), running_var: ones([5]) }
    const eval_ = batchNormClamp(given.x, { ...state, ...settings }, false, limits)
    const clamped = aten.clamp(
      aten.batch_norm(given.x, state.weight, state.bias, state.running_mean, state.running_var, false, 0.3, 1e-3, true),
      { min: limits.low ?? -Infinity, max: limits.high ?? Infinity },
    )
    expect(eval_.data()).toEqual(clamped.data())
    expect(state.running_var.data()).toEqual(ones([5]).data())
  })
})

describe.each(Object.entries(bounds))("bfloat16 with %s", (_, limits) => {
  // The last is cut into blocks, since its rows do not fit into the cache.
  test.each([
    [2, 7, 9, 5],
    [2, 24, 40, 40],
    [4, 300, 9, 11],
  ])("[%i, %i, %i, %i] is float32's, rounded once", (...shape) => {
    manualSeed(8)
    for (const threads of [1, 2]) {
      setThreads(threads)
      tidy(() => {
        const given = makeCase(shape, limits)
        const rounded = { ...given, x: given.x.to({ dtype: "bfloat16" }), dy: given.dy.to({ dtype: "bfloat16" }) }
        const got = mixedResults(fused, rounded)
        const exact = results(composed, rounded, "float64")
        expect([got.y.dtype, got.dx.dtype, got.dweight.dtype]).toEqual(["bfloat16", "bfloat16", "float32"])
        for (const name of ["y", "dx"] as const) {
          // Half a unit in the last of 8 bits, and the roundings of float32 where terms cancel.
          const allowed = exact[name]
            .abs()
            .mul(2 ** -8)
            .add(1e-6 * exact[name].abs().max().item())
          expect(got[name].sub(exact[name]).abs().le(allowed).all().item(), name).toBe(1)
        }
        const of = errors(got, exact)
        for (const name of ["dweight", "dbias", "running_mean", "running_var"] as const)
          expect(of[name], name).toBeLessThan(2e-6)
      })
    }
  })

  test("what is not side by side is libtorch's", () => {
    manualSeed(9)
    tidy(() => {
      const given = makeCase([2, 5, 6, 7], limits)
      const rows = {
        ...given,
        x: given.x.to({ dtype: "bfloat16" }).contiguous(),
        dy: given.dy.to({ dtype: "bfloat16" }),
      }
      const [got, exact] = [mixedResults(fused, rows), results(composed, rows, "float64")]
      // libtorch's backward rounds more than once; ReLU6 has none in bfloat16 on its CPU, so ours goes by float32 there.
      for (const name of names) expect(errors(got, exact)[name], name).toBeLessThan(2 ** -6)
    })
  })
})

test("in bfloat16 a NaN and an infinity stay what they are", () => {
  tidy(() => {
    const x = sideBySide(randn([2, 3, 4, 4])).to({ dtype: "bfloat16" })
    x.at(0, 1, 0, 0).fill_(Number.NaN)
    const state = { weight: ones([3]), bias: zeros([3]), running_mean: zeros([3]), running_var: ones([3]), ...settings }
    const y = batchNormClamp(x, state, true, { low: 0 }).to({ dtype: "float32" })
    const bad = (c: number) => aten.isnan(y.select(1, c)).all().item()
    expect([0, 1, 2].map(bad)).toEqual([0, 1, 0])
    const huge = full([1, 1, 1, 2], 1).to({ dtype: "bfloat16" })
    huge.select(3, 0).fill_(-1)
    const scaled = {
      ...state,
      weight: full([1], 3.4e38),
      bias: zeros([1]),
      running_mean: zeros([1]),
      running_var: ones([1]),
    }
    const large = batchNormClamp(sideBySide(huge), { ...scaled, eps: 0 }, true).to({ dtype: "float32" })
    expect(large.data()).toEqual(Float32Array.of(-Infinity, Infinity)) // the largest bfloat16 is 3.39e38
  })
})

test("it has second derivatives", () => {
  manualSeed(6)
  tidy(() => {
    const given = makeCase([2, 3, 4, 5], { low: 0 })
    const penalty = (run: Run, dtype: DType) => {
      const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
      const leaves = [copy(given.x), copy(given.weight), copy(given.bias)] as const
      const y = run(...leaves, zeros([3], { dtype }), ones([3], { dtype }), given.limits)
      const [dx] = grad([y], [leaves[0]], { gradients: [given.dy.to({ dtype })], createGraph: true })
      return grad([dx!.mul(dx!).sum()], [leaves[0], leaves[1]])
    }
    const [ours, exact] = [penalty(fused, "float32"), penalty(composed, "float64")]
    for (const k of [0, 1]) expect(ours[k]!.sub(exact[k]!).abs().max().item()).toBeLessThan(1e-5)
  })
})

test("without history it keeps nothing; what does not fit is an error", () => {
  tidy(() => {
    const state = { weight: ones([4]), bias: zeros([4]), running_mean: zeros([4]), running_var: ones([4]), ...settings }
    using _ = noGrad()
    expect(batchNormClamp(sideBySide(randn([2, 4, 3, 3])), state, true).requiresGrad).toBe(false)
    expect(() => batchNormClamp(sideBySide(randn([2, 5, 3, 3])), state, true)).toThrow(
      /batch_norm_clamp\(x: float32\[2, 5/,
    )
  })
})

test.each([
  ["contiguous", (weight: Tensor) => weight.clone()],
  ["channels side by side", sideBySide],
  ["neither", (weight: Tensor) => weight.transpose(2, 3).contiguous().transpose(2, 3)],
] as const)("a batch-norm folds into a convolution whose weight is %s", (_, layout) => {
  manualSeed(7)
  tidy(() => {
    const weight = layout(randn([5, 3, 3, 2]))
    const norm = { weight: randn([5]), bias: randn([5]), running_mean: randn([5]), running_var: rand([5]), eps: 1e-3 }
    for (const bias of [randn([5]), null]) {
      const [foldedWeight, foldedBias] = foldBatchNorm({ weight, bias }, norm)
      const [w, b, gamma, beta, mean, variance] = [
        weight,
        bias ?? zeros([5]),
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
      ].map((tensor) => tensor.to({ dtype: "float64" })) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
      const scale = gamma.div(variance.add(1e-3).sqrt())
      const close = (got: Tensor, exact: Tensor) =>
        expect(got.sub(exact).abs().max().item()).toBeLessThan(2e-6 * exact.abs().max().item()) // some roundings of 6e-8
      close(foldedWeight, w.mul(scale.view([5, 1, 1, 1])))
      close(foldedBias, b.sub(mean).mul(scale).add(beta))
      expect(foldedWeight.strides).toEqual(weight.strides)
    }
    expect(() => foldBatchNorm({ weight: randn([4, 3, 3, 2]), bias: null }, norm)).toThrow(/the convolution's channels/)
  })
})
