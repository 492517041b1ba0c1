// Neighbours that run together compute what they compute one by one, and only where nobody can tell.
import "../../tests/all-levers.ts"
import { afterEach, describe, expect, test } from "vitest"
import { intercept } from "../torch/dispatch.ts"
import {
  adam_,
  aten,
  autocast,
  fromData,
  grad,
  levers,
  liveTensors,
  manualSeed,
  noGrad,
  randn,
  record,
  type Tensor,
  tidy,
  zeros,
} from "../torch/index.ts"
import { BatchNorm2d, Conv2d, chain, Hardswish, ReLU, ReLU6, Sequential } from "./index.ts"

const before = { ...levers }
afterEach(() => void Object.assign(levers, before))

/** Names of the operators that `fn` calls. A recording would keep the layers apart. */
function operatorsOf(fn: () => Tensor): string[] {
  const names: string[] = []
  const outer = intercept((op, args, run) => {
    names.push(op.name)
    return run(op, args)
  })
  try {
    fn().dispose()
  } finally {
    intercept(outer)
  }
  return names
}
const normalises = (fn: () => Tensor): boolean => operatorsOf(fn).some((name) => name.includes("::batch_norm"))

/** A batch-norm that does something: no statistic and no parameter has its initial value. */
function trainedNorm(channels: number, options = {}): BatchNorm2d {
  const norm = new BatchNorm2d(channels, options)
  using _ = noGrad()
  tidy(() => {
    for (const tensor of [norm.weight, norm.bias, norm.running_mean]) tensor.copy_(randn([channels]))
    norm.running_var.copy_(randn([channels]).abs().add_(0.1))
  })
  return norm
}

const conv = { stride: 1, padding: 1, dilation: 1, groups: 1, bias: false }
test.each([
  ["plain", conv, {}, null],
  ["with bias, eps and ReLU", { ...conv, bias: true }, { eps: 1e-2 }, () => new ReLU()],
  [
    "depthwise, strided, padded as in TensorFlow, with ReLU6",
    { ...conv, groups: 4, stride: 2, padding: "same" },
    {},
    () => new ReLU6(),
  ],
  ["dilated, with another activation", { ...conv, dilation: 2 }, {}, () => new Hardswish()],
] as const)("convolution and batch-norm fold: %s", (_, options, normOptions, activation) => {
  manualSeed(1)
  using model = new Sequential(
    new Conv2d(4, 8, 3, options),
    trainedNorm(8, normOptions),
    ...(activation ? [activation()] : []),
  )
  model.to({ dtype: "float64" }).eval().requiresGrad_(false)
  tidy(() => {
    const x = randn([2, 4, 9, 8], { dtype: "float64" }).requiresGrad_()
    const run = () => {
      const y = model.call(x)
      const seed = fromData(
        new Float64Array(y.numel).map((_, k) => Math.sin(k)),
        y.shape,
      )
      return [y, grad([y], [x], { gradients: [seed] })[0]!] as const
    }
    expect(normalises(() => model.call(x))).toBe(false)
    const [y, dx] = run()
    levers.foldBatchNorm = false
    expect(normalises(() => model.call(x))).toBe(true)
    const [expected, expectedDx] = run()
    expect(y.sub(expected).abs().max().item()).toBeLessThan(1e-13) // values of about 1, sums of 36 terms
    expect(dx.sub(expectedDx).abs().max().item()).toBeLessThan(1e-13)
  })
})

test("in bfloat16 what is folded is clamped too", () => {
  manualSeed(1)
  using model = new Sequential(new Conv2d(8, 16, 3), trainedNorm(16), new ReLU6())
  model.eval()
  tidy(() => {
    using _ = noGrad()
    const x = randn([1, 8, 12, 12]).mul(20) // far beyond 6 on both sides
    const exact = model.call(x)
    const y = autocast({ dtype: "bfloat16" }, () => model.call(x))
    expect(y.dtype).toBe("bfloat16")
    expect([y.min().item(), y.max().item()]).toEqual([0, 6])
    // Rounded are the input, the kernel and the sum, each by up to 2^-9 of itself, and the sums are of up to 200.
    expect(y.to({ dtype: "float32" }).sub(exact).abs().max().item()).toBeLessThan(3 * 2 ** -9 * 200)
    expect(y.to({ dtype: "float32" }).sub(exact).abs().mean().item()).toBeLessThan(0.05)
  })
})

test("they stay apart where something learns or looks on", () => {
  manualSeed(1)
  using conv = new Conv2d(2, 4, 3)
  using norm = trainedNorm(4)
  tidy(() => {
    const x = randn([1, 2, 9, 9])
    const apart = () => normalises(() => chain(x, conv, norm))
    const parameters = [conv.weight, conv.bias!, norm.weight, norm.bias]
    norm.frozen = true
    for (const parameter of parameters) {
      for (const other of parameters) other.requiresGrad_(other === parameter)
      expect(apart()).toBe(true)
    }
    {
      using _ = noGrad()
      expect(apart()).toBe(false)
    }
    for (const parameter of parameters) parameter.requiresGrad_(false)
    expect(apart()).toBe(false)
    norm.frozen = false
    expect(apart()).toBe(true) // it uses the batch's statistics
    norm.eval()
    expect(apart()).toBe(false)

    const seen: number[][] = []
    norm.observer = (input) => seen.push(input.shape)
    expect(apart()).toBe(true)
    expect(seen).toEqual([[1, 4, 7, 7]])
    norm.observer = null

    const { calls, operators } = record(() => chain(x, conv, norm))
    expect(calls.map(({ type }) => type)).toEqual(["Conv2d", "BatchNorm2d"])
    expect(operators.map(({ name }) => name)).toEqual(["aten::conv2d", "aten::batch_norm"])
  })
})

test.each([
  ["ReLU", () => new ReLU()],
  ["ReLU6", () => new ReLU6()],
  ["nothing", null],
] as const)("in training batch-norm and %s are one operator, and learn as two", (_, activation) => {
  const build = () => {
    manualSeed(2)
    const norm = trainedNorm(8, { momentum: 0.3 })
    const model = new Sequential(new Conv2d(4, 8, 3, { bias: false }), norm, ...(activation ? [activation()] : []))
    model.to({ memoryFormat: "channels_last" })
    const seen: number[][] = []
    norm.observer = (x) => seen.push(x.shape)
    return { model, norm, seen }
  }
  tidy(() => {
    const step = () => {
      const { model, norm, seen } = build()
      const image = randn([3, 4, 20, 21])
      const names = operatorsOf(() => {
        const y = model.call(image)
        y.mul(y).mul(y).mean().backward() // batch-norm fixes the mean of y and of its square
        return y
      })
      expect(seen).toEqual([[3, 8, 18, 19]])
      expect(norm.num_batches_tracked.item()).toBe(1)
      return { names, results: [norm.running_mean, norm.running_var, ...model.parameters().map(({ grad }) => grad!)] }
    }
    const { names, results } = step()
    expect(names).toContain("pixelwise::batch_norm_clamp")
    expect(names).not.toContain(activation ? "aten::relu" : "aten::batch_norm")
    levers.fuseBatchNorm = false
    const apart = step()
    expect(apart.names).toContain("aten::batch_norm")
    for (const [k, expected] of apart.results.entries()) {
      expect(results[k]!.sub(expected).abs().max().item()).toBeLessThan(1e-5 * expected.abs().max().item()) // float32
    }
  })
})

test("a class derived from a layer runs as it is", () => {
  class Centred extends Conv2d {
    protected override forward(x: Tensor): Tensor {
      return super.forward(x.sub(x.mean()))
    }
  }
  using layers = new Sequential(new Centred(1, 1, 1), new BatchNorm2d(1)).eval()
  tidy(() => {
    using _ = noGrad()
    expect(normalises(() => layers.call(randn([1, 1, 2, 2])))).toBe(true)
  })
})

test("a kernel larger than the map it makes is scaled only where it is kept", () => {
  using model = new Sequential(new Conv2d(64, 2, 3, { padding: 1 }), new BatchNorm2d(2)).eval().requiresGrad_(false)
  tidy(() => {
    const apart = (side: number) => normalises(() => model.call(randn([1, 64, side, side])))
    expect(apart(23)).toBe(true) // 529 pixels, 64 * 9 = 576 weights a channel
    expect(apart(24)).toBe(false)
    using _ = noGrad()
    expect(apart(23)).toBe(false)
    levers.keepFolded = false
    expect(apart(23)).toBe(true)
  })
})

describe("a folded kernel", () => {
  const build = (channels: number, options = {}) => {
    const model = new Sequential(new Conv2d(channels, 64, 3, { padding: 1, ...options }), trainedNorm(64))
    return model.to({ memoryFormat: "channels_last" }).eval()
  }
  const made = (model: Sequential, x: Tensor) =>
    operatorsOf(() => model.call(x)).filter((name) => /fold_batch_norm|winograd_kernels/.test(name))

  test("is made once, also that of convolutions by tiles, and freed with the model", () => {
    manualSeed(3)
    const before = liveTensors()
    tidy(() => {
      using model = build(64)
      using _ = noGrad()
      const x = randn([1, 64, 32, 32]).contiguous({ memoryFormat: "channels_last" })
      expect(made(model, x)).toEqual(["pixelwise::fold_batch_norm", "pixelwise::winograd_kernels"])
      expect(made(model, x)).toEqual([])
      const held = liveTensors()
      model.train()
      expect(liveTensors()).toBe(held - 3)
      model.eval()
      expect(made(model, x)).toHaveLength(2)
    })
    expect(liveTensors()).toBe(before)
  })

  test("is made again, as it would be from the beginning, whatever has changed", () => {
    manualSeed(4)
    tidy(() => {
      using model = build(48, { bias: true })
      const [conv, norm] = model.modules as [Conv2d, BatchNorm2d]
      const x = randn([1, 48, 32, 32]).contiguous({ memoryFormat: "channels_last" })
      const fresh = () => aten.zeros_like(conv.weight)
      const state = { step: zeros([], { dtype: "int64" }), mean: fresh(), square: fresh() }
      const rates = { rate: 0.1, betas: [0.9, 0.999], eps: 1e-8 } as const
      const other = build(48, { bias: true })
      const changes: Record<string, () => void> = {
        weight: () => conv.weight.mul_(2),
        "one weight, through a view": () => conv.weight.at(0, 0).fill_(3),
        bias: () => conv.bias!.add_(1),
        gamma: () => norm.weight.add_(1),
        beta: () => norm.bias.mul_(-1),
        "the running mean": () => norm.running_mean.mul_(1.5),
        "a step of our Adam": () => adam_(conv.weight, fresh().add(1), state, rates),
        "running statistics, by libtorch's batch-norm, which does not say so": () => {
          const { weight, bias, running_mean, running_var } = norm
          aten.batch_norm(randn([4, 64, 8, 8]), weight, bias, running_mean, running_var, true, 0.5, 1e-5, true)
        },
        "a state dict": () => model.loadStateDict(other.stateDict()),
        "the dtype, there and back": () => model.to({ dtype: "bfloat16" }).to({ dtype: "float32" }),
      }
      using _ = noGrad()
      for (const [what, change] of Object.entries(changes)) {
        const before = model.call(x)
        change()
        const after = model.call(x)
        levers.keepFolded = false
        const expected = model.call(x)
        levers.keepFolded = true
        expect(after.sub(before).abs().max().item(), what).toBeGreaterThan(1e-4)
        expect(after.sub(expected).abs().max().item(), what).toBe(0)
      }
      other.dispose()
    })
  })
})

test("a chain of nothing gives a fresh handle", () => {
  tidy(() => {
    const x = randn([1])
    const y = chain(x)
    expect(y).not.toBe(x)
    expect(y.data()).toEqual(x.data())
  })
})
