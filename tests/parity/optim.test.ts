// Every optimizer against PyTorch's over 20 steps: gradients from 1e-3 to 10, the rate cut to a tenth at step 10, and
// a parameter that has no gradient in steps 5 to 7.
import { expect, test } from "vitest"
import { Adam, AdamW, type NamedParameters, type Optimizer, SGD } from "../../src/optim/index.ts"
import { Parameter, type Tensor, tidy } from "../../src/torch/index.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

// The table of generate.py in our words.
const optimizers: Record<string, (p: NamedParameters) => Optimizer> = {
  sgd: (p) => new SGD(p, 0.1),
  "sgd weight decay": (p) => new SGD(p, 0.1, { weightDecay: 0.05 }),
  "sgd momentum": (p) => new SGD(p, 0.1, { momentum: 0.9 }),
  "sgd dampening": (p) => new SGD(p, 0.1, { momentum: 0.9, dampening: 0.3, weightDecay: 0.01 }),
  "sgd nesterov": (p) => new SGD(p, 0.1, { momentum: 0.8, nesterov: true, weightDecay: 0.05 }),
  adam: (p) => new Adam(p, 0.01),
  "adam weight decay": (p) => new Adam(p, 0.01, { weightDecay: 0.1 }),
  "adam options": (p) => new Adam(p, 0.01, { betas: [0.7, 0.9], eps: 1e-3 }),
  adamw: (p) => new AdamW(p, 0.01),
  "adamw options": (p) => new AdamW(p, 0.01, { betas: [0.7, 0.9], eps: 1e-3, weightDecay: 0.3 }),
}

const golden = new Golden("optim")

// Measured: bit-equal on the libtorch that made the golden values. Another may fuse a product and a sum, which is one
// rounding (6e-8) less in each of 20 steps.
const TOLERANCE = 1e-6

test("the table has the golden file's optimizers", () => {
  const names = new Set([...golden.tensors.keys()].map((key) => key.split("/")[0]))
  expect(names).toEqual(new Set(["start", "gradients", ...Object.keys(optimizers)]))
})

const startParameters = () =>
  new Map([...golden.under("start/")].map(([name, value]) => [name, new Parameter(copyOf(value))]))

/** One step on the golden gradients. */
function step(optimizer: Optimizer, parameters: Map<string, Parameter>, at: number): void {
  tidy(() => {
    if (at === 10) optimizer.lr *= 0.1
    for (const [name, parameter] of parameters) {
      const none = name === "b" && at >= 5 && at <= 7
      parameter.grad = none ? null : golden.get(`gradients/${name}`).select(0, at).clone()
    }
    optimizer.step()
  })
}

test.each(Object.keys(optimizers))("%s: every parameter after each of 20 steps", (name) => {
  const parameters = startParameters()
  using optimizer = (optimizers[name] as (p: NamedParameters) => Optimizer)(parameters)
  for (let at = 0; at < 20; at++) {
    step(optimizer, parameters, at)
    for (const [key, parameter] of parameters) {
      expectClose(parameter, golden.get(`${name}/${key}`).select(0, at), TOLERANCE, `${key} after step ${at + 1}`)
    }
  }
})

test.each(Object.keys(optimizers))("%s: a run resumed at any step goes on bit for bit", (name) => {
  const make = optimizers[name] as (p: NamedParameters) => Optimizer
  for (const stop of [0, 1, 6, 13]) {
    const whole = startParameters()
    using optimizer = make(whole)
    for (let at = 0; at < stop; at++) step(optimizer, whole, at)
    // What a checkpoint keeps: copies of parameters and state, and the rate.
    const resumed = new Map([...whole].map(([key, value]) => [key, new Parameter(copyOf(value))]))
    const state = new Map<string, Tensor>([...optimizer.stateDict()].map(([key, value]) => [key, copyOf(value)]))
    using second = make(resumed).loadStateDict(state)
    second.lr = optimizer.lr
    for (let at = stop; at < 20; at++) {
      step(optimizer, whole, at)
      step(second, resumed, at)
    }
    for (const [key, value] of whole)
      expect(resumed.get(key)?.data(), `${key}, stopped at ${stop}`).toEqual(value.data())
  }
})
