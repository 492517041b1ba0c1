// What optimizers are besides their formulas; that these are PyTorch's: tests/parity/optim.test.ts.
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import {
  isGradEnabled,
  levers,
  liveTensors,
  manualSeed,
  ones,
  Parameter,
  randn,
  setThreads,
  type Tensor,
  tensor,
  threads,
  tidy,
  zeros,
} from "../torch/index.ts"
import { AdamW, createOptimizer, type Optimizer, optimizerNames, SGD } from "./index.ts"

const parameters = () =>
  new Map([
    ["w", new Parameter(ones([2, 3]))],
    ["b", new Parameter(ones([2]))],
  ])

/** A step on the gradient of sum(w^2), so 2 w. */
function stepOf(optimizer: { step(): void; zeroGrad(): void }, all: Map<string, Parameter>): void {
  tidy(() => {
    optimizer.zeroGrad()
    for (const parameter of all.values()) parameter.mul(parameter).sum().backward()
    optimizer.step()
  })
}

test("a step worked by hand: momentum 0.5, weight decay 0.1, rate 0.25", () => {
  const p = new Parameter(tensor([4]))
  using optimizer = new SGD([["p", p]], 0.25, { momentum: 0.5, weightDecay: 0.125 })
  p.grad = tensor([1.5])
  optimizer.step() // g = 1.5 + 0.5 = 2, buffer 2, p = 4 - 0.5
  expect(p.item()).toBe(3.5)
  p.grad = tensor([0.5625])
  optimizer.step() // g = 0.5625 + 0.4375 = 1, buffer 1 + 1 = 2, p = 3.5 - 0.5
  expect(p.item()).toBe(3)
})

test("a group's rate scales the rate of single parameters, and weight decay's with it", () => {
  for (const name of optimizerNames) {
    const [all, alone] = [parameters(), parameters()]
    using both = createOptimizer(name, all, 0.25, { weightDecay: 0.5 })
    both.groupOf = (key) => (key === "w" ? { rate: 0.5 } : {})
    using half = createOptimizer(name, alone, 0.125, { weightDecay: 0.5 })
    for (let i = 0; i < 3; i++) {
      stepOf(both, all)
      stepOf(half, alone)
    }
    expect(all.get("w")!.data()).toEqual(alone.get("w")!.data())
    expect(all.get("b")!.data()).not.toEqual(alone.get("b")!.data())
  }
})

test.each(optimizerNames)("%s: the sum of squares falls, and memory stays flat", (name) => {
  const all = parameters()
  using optimizer = createOptimizer(name, all, 0.1)
  stepOf(optimizer, all)
  const live = liveTensors()
  for (let i = 0; i < 50; i++) stepOf(optimizer, all)
  expect(liveTensors()).toBe(live)
  expect(isGradEnabled()).toBe(true)
  for (const parameter of all.values()) {
    expect(parameter.abs().max().item()).toBeLessThan(0.1)
    expect(parameter.requiresGrad && parameter.isLeaf).toBe(true)
  }
})

test("a parameter without gradient stays as it is, even with weight decay, and gets no state", () => {
  const all = parameters()
  using optimizer = new AdamW(all, 0.1, { weightDecay: 0.5 })
  ;(all.get("w") as Parameter).grad = ones([2, 3])
  optimizer.step()
  expect(all.get("b")?.data()).toEqual(Float32Array.of(1, 1))
  expect([...optimizer.stateDict().keys()]).toEqual(["step.w", "exp_avg.w", "exp_avg_sq.w"])
})

test("the gradient itself is not changed by a step", () => {
  for (const name of optimizerNames) {
    const p = new Parameter(ones([3]))
    using optimizer = createOptimizer(name, [["p", p]], 0.1, { momentum: 0.9, weightDecay: 0.5 })
    using gradient = tensor([1, 2, 3])
    p.grad = gradient
    optimizer.step()
    optimizer.step()
    expect(gradient.data(), name).toEqual(Float32Array.of(1, 2, 3))
  }
})

test("zeroGrad() forgets gradients instead of filling them with 0", () => {
  const all = parameters()
  using optimizer = new SGD(all, 0.1)
  for (const parameter of all.values()) parameter.grad = ones(parameter.shape)
  optimizer.zeroGrad()
  for (const parameter of all.values()) expect(parameter.grad).toBeNull()
})

test("state made inside a tidy() lives on, until dispose(); then a step is refused", () => {
  const all = parameters()
  const optimizer = new SGD(all, 0.1, { momentum: 0.9 })
  stepOf(optimizer, all)
  expect(optimizer.stateDict().get("momentum_buffer.b")?.data()).toEqual(Float32Array.of(2, 2))
  optimizer.dispose()
  expect(() => stepOf(optimizer, all)).toThrow(/disposed/)
})

test("a loaded state is a copy, takes the parameters' dtype, and replaces the old one", () => {
  const all = parameters()
  using optimizer = new SGD(all, 0.1, { momentum: 0.9 })
  stepOf(optimizer, all)
  const live = liveTensors()
  for (const dtype of ["float64", "float32"] as const) {
    tidy(() => {
      const given = zeros([2, 3], { dtype })
      optimizer.loadStateDict(new Map([["momentum_buffer.w", given]]))
      given.fill_(7)
    })
    expect(liveTensors()).toBe(live - 1) // b starts anew
  }
  expect([...optimizer.stateDict()].map(([key, value]) => `${key} ${value.signature}`)).toEqual([
    "momentum_buffer.w float32[2, 3]",
  ])
  expect(optimizer.stateDict().get("momentum_buffer.w")?.data()).toEqual(new Float32Array(6))
})

test("a state that does not fit is refused whole, and says what is wrong", () => {
  const all = parameters()
  using optimizer = new AdamW(all, 0.1)
  stepOf(optimizer, all)
  const before = new Map([...optimizer.stateDict()].map(([key, value]) => [key, value.data()]))
  const state = new Map<string, Tensor>(optimizer.stateDict())
  state.delete("exp_avg.w")
  state.set("exp_avg_sq.b", ones([3]))
  state.set("momentum_buffer.w", ones([2, 3]))
  expect(() => optimizer.loadStateDict(state)).toThrow(UserError)
  expect(() => optimizer.loadStateDict(state)).toThrow(
    "The optimizer state does not fit AdamW: missing exp_avg.w; exp_avg_sq.b is float32[3], expected [2]; unexpected momentum_buffer.w. Was the run made with another optimizer or model?",
  )
  for (const [key, value] of optimizer.stateDict()) expect(value.data()).toEqual(before.get(key))
})

test("options that make no sense are named", () => {
  const all = parameters()
  expect(() => new SGD(all, -1)).toThrow("Optimizer: lr is -1; expected a number of at least 0.")
  expect(() => new SGD(all, Number.NaN)).toThrow(UserError)
  expect(() => new SGD(all, 1, { nesterov: true })).toThrow(/nesterov wants a momentum above 0/)
  expect(() => new AdamW(all, 1, { betas: [0.9, 1] })).toThrow("Optimizer: beta is 1; expected 0 <= beta < 1.")
  expect(() => new SGD([], 0.1)).toThrow("The optimizer was given no parameters.")
  expect(() => createOptimizer("adamv", all, 1)).toThrow(
    'Unknown optimizer "adamv". Did you mean "adam"? There are: sgd, adam, adamw, lion.',
  )
})

/** Parameters after five steps: of one that is small and whose memory changes its order, and of one that two threads share. */
function stepsOf(
  create: (parameters: [string, Parameter][]) => Optimizer,
  dtype: "float32" | "float64",
  { isFused, memoryFormat }: { isFused: boolean; memoryFormat: "contiguous" | "channels_last" },
): Tensor[] {
  return tidy(() => {
    manualSeed(1)
    levers.fuseOptimizer = isFused
    const weight = new Parameter(randn([7, 5, 3, 3]).contiguous({ memoryFormat }).to({ dtype }))
    const bias = new Parameter(randn([30_000, 3]).to({ dtype }))
    using optimizer = create([
      ["weight", weight],
      ["bias", bias],
    ])
    optimizer.groupOf = (name) => (name === "bias" ? { rate: 0.5, gradient: 3, weightDecay: 0.2 } : {})
    for (let step = 0; step < 5; step++) {
      if (step === 3) weight.setData(weight.transpose(0, 1).contiguous().transpose(0, 1))
      weight.grad = randn([7, 5, 3, 3]).to({ dtype }) // its memory in another order, where channels are side by side
      bias.grad = randn([30_000, 3]).mul(step).to({ dtype })
      optimizer.step()
    }
    return [weight, bias].map((parameter) => parameter.to({ dtype: "float64" }))
  })
}

describe.each(["contiguous", "channels_last"] as const)("a step as one operator, %s", (memoryFormat) => {
  const threadsBefore = threads()
  beforeEach(() => setThreads(2))
  afterEach(() => {
    levers.fuseOptimizer = true
    setThreads(threadsBefore)
  })

  test.each<[string, (parameters: [string, Parameter][]) => Optimizer]>([
    ["AdamW", (parameters) => new AdamW(parameters, 0.01, { weightDecay: 0.1 })],
    ["SGD", (parameters) => new SGD(parameters, 0.01, { weightDecay: 0.1 })],
    ["SGD with momentum", (parameters) => new SGD(parameters, 0.01, { momentum: 0.9, dampening: 0.2 })],
    ["SGD, Nesterov's", (parameters) => new SGD(parameters, 0.01, { momentum: 0.9, nesterov: true, weightDecay: 0.1 })],
  ])("%s: as close to float64 as libtorch's", (_, create) => {
    const exact = stepsOf(create, "float64", { isFused: true, memoryFormat })
    const [fused, apart] = [true, false].map((isFused) => stepsOf(create, "float32", { isFused, memoryFormat }))
    for (const k of [0, 1]) {
      const error = (got: Tensor[]) => got[k]!.sub(exact[k]!).abs().max().item()
      expect(error(fused!)).toBeLessThan(Math.max(2 * error(apart!), 1e-7))
    }
  })
})

describe("parameters that are alike, together as on CUDA", () => {
  afterEach(() => {
    levers.fuseOptimizer = true
  })
  test.each(optimizerNames)("%s: the same bits as one by one", (name) =>
    tidy(() => {
      levers.fuseOptimizer = false
      const shapes = { a: [3, 4], b: [5], c: [2, 3, 3, 3], late: [7], other: [2] }
      const run = (areTogether: boolean) => {
        manualSeed(4)
        const all = Object.entries(shapes).map(([key, shape]) => [key, new Parameter(randn(shape))] as const)
        using optimizer = createOptimizer(name, all, 0.02, { weightDecay: 0.1, momentum: 0.9 })
        Object.assign(optimizer, { takesTogether: () => areTogether })
        optimizer.groupOf = (key) => (key === "other" ? { rate: 0.5, gradient: 2, weightDecay: 0 } : {})
        for (let step = 0; step < 4; step++) {
          for (const [key, parameter] of all)
            parameter.grad = key === "late" && step < 2 ? null : randn(parameter.shape)
          optimizer.step()
        }
        return all.map(([, parameter]) => parameter.toArray())
      }
      expect(run(true)).toEqual(run(false))
    }),
  )
})
