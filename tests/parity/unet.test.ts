// Our UNet against the same network in PyTorch (unet.py), with the state dict carried over, and what must be true of
// any UNet.
import "../all-levers.ts"
import { describe, expect, test } from "vitest"
import { UNet } from "../../src/models/index.ts"
import { Generator, manualSeed, randn, type Tensor, tidy, zeros } from "../../src/torch/index.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

// The float32 rounding of 14 convolutions one after another, forward and back, relative to the largest entry. Measured on
// the libtorch that made the golden values: 0 with transposed upsampling; 4.2e-6 at worst with bilinear, where unet.py
// enlarges and convolves in the other order.
const TOLERANCE = 1e-5

const cases = { even: true, odd: true, eval: false } // of generate.py; whether it trains

describe.each(["transposed", "bilinear"] as const)("%s upsampling", (upsampling) => {
  const golden = new Golden(`unet-${upsampling}`)
  const model = new UNet({ numClasses: 4, width: 3, depth: 3, upsampling })
  const state = golden.under("state/")

  test("state dict: the names, shapes and dtypes of PyTorch's", () => {
    const signatures = (tensors: Map<string, Tensor>) => [...tensors].map(([key, t]) => `${key} ${t.signature}`).sort()
    expect(signatures(model.stateDict())).toEqual(signatures(state))
  })

  test.each(Object.entries(cases))("%s: logits, all gradients and running statistics", (name, training) => {
    model.loadStateDict(state).train(training)
    model.zeroGrad()
    tidy(() => {
      const image = copyOf(golden.get(`${name}/input`)).requiresGrad_()
      const { logits } = model.call(image)
      expectClose(logits, golden.get(`${name}/output`), TOLERANCE, "logits")
      logits.backward({ gradient: golden.get(`${name}/cotangent`) })
      expectClose(image.grad, golden.get(`${name}/grad input`), TOLERANCE, "gradient of the image")
      for (const [key, parameter] of model.namedParameters()) {
        expectClose(parameter.grad, golden.get(`${name}/grad ${key}`), TOLERANCE, `gradient of ${key}`)
      }
      for (const [key, buffer] of model.namedBuffers()) {
        const expected = training ? golden.get(`${name}/${key}`) : (state.get(key) as Tensor)
        expectClose(buffer, expected, training ? TOLERANCE : 0, key)
      }
    })
  })
})

/** Parameters of a UNet, counted by hand, with c_i = width 2^i. */
function countByFormula(classes: number, channels: number, width: number, depth: number, transposed: boolean): number {
  // Two 3x3 convolutions without bias, each with batch-norm's scale and shift.
  const double = (from: number, to: number) => 9 * from * to + 9 * to * to + 4 * to
  let count = double(channels, width)
  for (let i = 0; i < depth; i++) {
    const c = width * 2 ** i
    count += double(c, 2 * c) // down: c_i -> c_(i+1)
    count += (transposed ? 4 : 1) * 2 * c * c + c // enlarging: c_(i+1) -> c_i, a 2x2 or 1x1 kernel and a bias
    count += double(2 * c, c) // after the concatenation with the skip
  }
  return count + width * classes + classes // head
}

test.each([
  { numClasses: 21, width: 64, depth: 4, upsampling: "transposed" },
  { numClasses: 21, width: 64, depth: 4, upsampling: "bilinear" },
  { numClasses: 2, width: 5, depth: 1, upsampling: "transposed" },
  { numClasses: 3, width: 2, depth: 5, upsampling: "bilinear", inChannels: 1 },
] as const)("the number of parameters follows the formula: $width wide, $depth deep, $upsampling", (options) => {
  using model = new UNet(options)
  const count = model.parameters().reduce((sum, parameter) => sum + parameter.numel, 0)
  const { numClasses, width, depth, upsampling } = options
  const channels = "inChannels" in options ? (options.inChannels as number) : 3
  expect(count).toBe(countByFormula(numClasses, channels, width, depth, upsampling === "transposed"))
  // The paper's size: unet.py's network has as many.
  if (width === 64 && upsampling === "transposed") expect(count).toBe(31_038_933)
})

test.each(["transposed", "bilinear"] as const)(
  "%s: every parameter gets a finite gradient that is not 0",
  (upsampling) => {
    manualSeed(1)
    using model = new UNet({ numClasses: 3, width: 4, depth: 4, upsampling })
    tidy(() => {
      const { logits } = model.call(randn([2, 3, 37, 52]))
      expect(logits.shape).toEqual([2, 3, 37, 52])
      logits.backward({ gradient: randn(logits.shape) })
      for (const [name, parameter] of model.namedParameters()) {
        const largest = (parameter.grad as Tensor).abs().max().item()
        expect(largest, name).toBeGreaterThan(1e-6) // rounding alone would leave 1e-8
        expect(largest, name).toBeLessThan(1e6)
      }
    })
  },
)

test("zeroing a skip changes the output, at every level", () => {
  manualSeed(2)
  using model = new UNet({ numClasses: 3, width: 4, depth: 3 })
  // In training mode, where batch-norm keeps every level's values at about 1, whatever the weights.
  tidy(() => {
    const image = randn([1, 3, 24, 24], { generator: new Generator(3) })
    const before = model.call(image).logits
    for (const [level, { conv }] of model.up.entries()) {
      // The skip's channels come first in the concatenation: without their weights the skip is 0.
      const [first] = [...conv.namedParameters()].map(([, parameter]) => parameter) as [Tensor]
      const skipWeights = first.detach().narrow(1, 0, 4 * 2 ** level)
      const saved = copyOf(skipWeights)
      skipWeights.zero_()
      const change = model.call(image).logits.sub(before).abs().max().item()
      expect(change, `level ${level}`).toBeGreaterThan(0.01) // logits are about 0.5
      skipWeights.copy_(saved)
    }
    expect(model.call(image).logits.data()).toEqual(before.data())
  })
})

test("a pixel changes logits 20 pixels away: the deeper levels are connected", () => {
  using model = new UNet({ numClasses: 2, width: 4, depth: 3 })
  model.eval()
  tidy(() => {
    const image = zeros([1, 3, 64, 64])
    const before = model.call(image).logits
    image.at(0, "...", 32, 32).fill_(10)
    const changed = model
      .call(image)
      .logits.sub(before)
      .abs()
      .sum({ dim: [0, 1] }) // [H, W]
    expect(changed.at(32, 32).item()).toBeGreaterThan(0)
    expect(changed.at(32, 12).item()).toBeGreaterThan(0) // the first level alone sees 4 pixels
  })
})
