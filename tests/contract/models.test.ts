// What every registered model must hold, whatever it is.
import { describe, expect, test } from "vitest"
import { crossEntropy } from "../../src/losses/index.ts"
import { createModel, modelNames } from "../../src/models/index.ts"
import { aten, liveTensors, manualSeed, noGrad, randint, randn, type Tensor, tidy } from "../../src/torch/index.ts"

const small = { numClasses: 3, width: 4, depth: 3 }

describe.each(modelNames)("%s", (name) => {
  const create = (seed = 0) => {
    manualSeed(seed)
    return createModel(name, small)
  }

  test.each([
    [1, 1],
    [2, 3],
    [16, 16],
    [33, 18],
    [97, 131],
  ])("logits have the image's size, %i x %i, and are finite", (h, w) => {
    using model = create().eval()
    tidy(() => {
      using _ = noGrad()
      const { logits } = model.call(randn([1, 3, h, w]))
      expect(logits.shape).toEqual([1, 3, h, w])
      expect(logits.dtype).toBe("float32")
      expect(aten.isfinite(logits).all().item()).toBe(1)
    })
  })

  test("trains with batch 1: every parameter gets a finite gradient that is not zero", () => {
    using model = create()
    tidy(() => crossEntropy(model.call(randn([1, 3, 40, 24])).logits, randint(0, 3, [1, 40, 24])).backward())
    for (const [key, parameter] of model.namedParameters()) {
      using grad = parameter.grad as Tensor
      expect(grad, key).not.toBeNull()
      using size = grad.abs().sum()
      expect(Number.isFinite(size.item()), key).toBe(true)
      expect(size.item(), key).toBeGreaterThan(0)
    }
  })

  test("a state dict carries everything over", () => {
    using a = create(1).eval()
    using b = create(2).eval()
    using image = randn([1, 3, 16, 16])
    const logits = (model: typeof a) => tidy(() => model.call(image).logits.data())
    expect(logits(b)).not.toEqual(logits(a))
    b.loadStateDict(a.stateDict())
    expect(logits(b)).toEqual(logits(a))
  })

  test("the same seed and input give the same logits; forward makes nothing that stays", () => {
    using model = create().eval()
    using image = randn([2, 3, 20, 28])
    const run = () => tidy(() => model.call(image).logits.data())
    const first = run()
    const before = liveTensors()
    expect(run()).toEqual(first)
    expect(liveTensors()).toBe(before)
    using again = create().eval()
    expect(tidy(() => again.call(image).logits.data())).toEqual(first)
  })

  test("an image's logits do not depend on its neighbours in the batch", () => {
    using model = create().eval()
    tidy(() => {
      using _ = noGrad()
      const images = randn([3, 3, 24, 24])
      const together = model.call(images).logits
      const alone = model.call(images.narrow(0, 1, 1)).logits
      // other blocking of the same sums
      expect(together.narrow(0, 1, 1).sub(alone).abs().max().item()).toBeLessThan(1e-5)
    })
  })

  test("train() and eval() reach all modules", () => {
    using model = create()
    for (const training of [false, true]) {
      model.train(training)
      for (const [, module] of model.namedModules()) expect(module.training).toBe(training)
    }
  })
})
