// Gradient and learning-rate multipliers, exemptions from weight decay, and clipping, against PyTorch over 20 steps in
// float64: DeepLab's table with m = 10, each optimizer.
import { expect, test } from "vitest"
import {
  clipByNorm,
  clipByValue,
  createOptimizer,
  type Optimizer,
  type OptimizerOptions,
} from "../../src/optim/index.ts"
import { Parameter, type Tensor, tidy } from "../../src/torch/index.ts"
import { type GroupOptions, type ParameterPlace, settingsOf } from "../../src/train/parameter-groups.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

const golden = new Golden("parameter-groups")
const DECAY = 0.05

// The table of optimisation.py in our words.
const optimizers: Record<string, readonly [name: string, options: OptimizerOptions]> = {
  sgd: ["sgd", {}],
  "sgd momentum": ["sgd", { momentum: 0.9 }],
  "sgd nesterov": ["sgd", { momentum: 0.9, nesterov: true }],
  adam: ["adam", {}],
  adamw: ["adamw", {}],
  lion: ["lion", {}],
}
const kinds: Record<string, ParameterPlace["kind"]> = { w: "weight", b: "bias", n: "norm" }
const place = (name: string): ParameterPlace => ({
  name,
  kind: kinds[name.split(".")[1]!]!,
  isLogits: false,
  isAux: false,
  stagesLeft: name.startsWith("backbone.") ? 1 : 0,
  learns: true,
})
const plain: GroupOptions = {
  headRate: null,
  auxRate: null,
  layerDecay: 1,
  biasMultiplier: 1,
  lastLayerMultiplier: 1,
  lastLayers: null,
  multiplierForm: null,
  weightDecay: DECAY,
  decayExempt: "none",
}

// Sums of 20 steps in float64; measured: 1.4e-15 of the largest value, with Lion; the others 2e-16.
const TOLERANCE = 1e-14

function run(
  make: (parameters: Map<string, Parameter>) => Optimizer,
  prepare: (parameters: Parameter[]) => void = () => {},
): Map<string, Parameter> {
  const parameters = new Map([...golden.under("start/")].map(([name, value]) => [name, new Parameter(copyOf(value))]))
  using optimizer = make(parameters)
  for (let step = 0; step < 20; step++) {
    tidy(() => {
      for (const [name, parameter] of parameters) {
        parameter.grad = golden.get(`gradients/${name}`).select(0, step).clone()
      }
      prepare([...parameters.values()])
      optimizer.step()
    })
  }
  return parameters
}

/** One optimizer with a configuration's settings for each parameter. */
const grouped = (name: string, config: GroupOptions) => (parameters: Map<string, Parameter>) => {
  const [kind, options] = optimizers[name]!
  const optimizer = createOptimizer(kind, parameters, 0.01, { ...options, weightDecay: DECAY })
  optimizer.groupOf = (parameter) => settingsOf(place(parameter), config)
  return optimizer
}

const plainly = (name: string) => (parameters: Map<string, Parameter>) => {
  const [kind, options] = optimizers[name]!
  return createOptimizer(kind, parameters, 0.01, { ...options, weightDecay: DECAY })
}

function expectGolden(parameters: Map<string, Parameter>, prefix: string): void {
  for (const [name, parameter] of parameters) {
    expectClose(parameter, golden.get(`${prefix}/${name}`), TOLERANCE, `${prefix}/${name}`)
  }
}

const deepLab = { ...plain, biasMultiplier: 2, lastLayerMultiplier: 10, decayExempt: "deeplab" } as const

test.each(Object.keys(optimizers))("%s: multipliers in both forms, weights alone decayed", (name) => {
  for (const multiplierForm of ["rate", "gradient"] as const) {
    expectGolden(run(grouped(name, { ...deepLab, multiplierForm })), `${name}/${multiplierForm}`)
  }
})

test.each(Object.keys(optimizers))("%s: gradients clipped by norm and by value", (name) => {
  expectGolden(
    run(plainly(name), (parameters) => clipByNorm(parameters, 1.5)),
    `${name}/clip norm`,
  )
  expectGolden(
    run(plainly(name), (parameters) => clipByValue(parameters, 0.5)),
    `${name}/clip value`,
  )
})

const values = (parameters: Map<string, Parameter>) =>
  [...parameters.values()].map((parameter: Tensor) => parameter.data())

test.each(Object.keys(optimizers))("%s: multiplier 1 changes no bit, in either form", (name) => {
  const before = values(run(plainly(name)))
  for (const multiplierForm of ["rate", "gradient", null] as const) {
    expect(values(run(grouped(name, { ...plain, multiplierForm })))).toEqual(before)
  }
  // The settings that the others are not at their neutral values have an effect.
  expect(values(run(grouped(name, { ...plain, decayExempt: "norms-and-biases" })))).not.toEqual(before)
})

test("a clip that nothing reaches changes no bit", () => {
  const before = values(run(plainly("sgd momentum")))
  expect(values(run(plainly("sgd momentum"), (parameters) => clipByNorm(parameters, 1e6)))).toEqual(before)
  expect(values(run(plainly("sgd momentum"), (parameters) => clipByValue(parameters, 1e6)))).toEqual(before)
})

test("under SGD both forms are one; under Adam and Lion the gradient's nearly cancels", () => {
  const settings = { ...plain, biasMultiplier: 2, lastLayerMultiplier: 8 } // powers of two round alike
  const both = (name: string) =>
    (["rate", "gradient"] as const).map((multiplierForm) => values(run(grouped(name, { ...settings, multiplierForm }))))
  for (const name of ["sgd", "sgd momentum", "sgd nesterov"]) {
    const [rate, gradient] = both(name)
    expect(gradient).toEqual(rate)
  }
  const [lionRate, lionGradient] = both("lion")
  expect(lionGradient).toEqual(values(run(plainly("lion")))) // a sign has no size
  expect(lionRate).not.toEqual(lionGradient)
  const plainAdam = run(plainly("adamw"))
  const adam = run(grouped("adamw", { ...settings, multiplierForm: "gradient" }))
  for (const [name, parameter] of adam) expectClose(parameter, plainAdam.get(name)!, 1e-6, name) // eps alone tells them apart
})
