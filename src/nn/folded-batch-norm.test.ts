// Folded batch-norm: found, and given back its statistics without changing what the module computes.
import { expect, test } from "vitest"
import { manualSeed, noGrad, randn, type Tensor } from "../torch/index.ts"
import { BatchNorm2d, Conv2d, foldedBatchNorms, init, ReLU, Sequential, unfoldBatchNorms } from "./index.ts"

/** Folded layers, as exported ones are (variance 1 - eps) or with another variance. */
function folded({ eps = 1e-5, variance = 1 - eps }: { eps?: number; variance?: number } = {}): Sequential {
  manualSeed(3)
  const module = new Sequential(
    new Conv2d(3, 4, 3, { bias: false }),
    new BatchNorm2d(4, { eps }),
    new ReLU(),
    new Conv2d(4, 5, 3, { bias: false }),
    new BatchNorm2d(5, { eps }),
  )
  for (const [, child] of module.namedModules()) {
    if (!(child instanceof BatchNorm2d)) continue
    init.normal_(child.bias, 2, 1)
    init.constant_(child.running_var, variance)
  }
  return module.eval()
}

const difference = (a: Tensor, b: Tensor): number => a.sub(b).abs().max().item()

// eps of ResNet and MobileNetV2, and of MobileNetV3; the variance that makes a layer exact, and 1 as in some exports
const kinds = [{ eps: 1e-5 }, { eps: 1e-3 }, { eps: 1e-3, variance: 1 }]

test.each(kinds)("folded layers are found; new ones, and ones with statistics, are not: %o", (kind) => {
  using module = folded(kind)
  expect(foldedBatchNorms(module)).toHaveLength(2)
  const [, , , , last] = module.modules as BatchNorm2d[]
  init.constant_(last!.running_mean, 0.5)
  expect(foldedBatchNorms(module)).toHaveLength(1)
  expect(foldedBatchNorms(new Sequential(new Conv2d(3, 4, 1), new BatchNorm2d(4)))).toHaveLength(0)
})

test.each(kinds)("unfolding keeps the output in eval, and makes that of training agree with it: %o", (kind) => {
  using module = folded(kind)
  using _ = noGrad()
  const x = randn([4, 3, 24, 24]).add(1)
  const before = module.call(x)
  const scale = before.abs().max().item()
  expect(difference(module.train().call(x), before)).toBeGreaterThan(0.2 * scale) // what folding destroys
  using fresh = folded(kind)
  fresh.train()
  expect(unfoldBatchNorms(fresh, () => fresh.call(x), 2)).toBe(2)
  expect(fresh.training && fresh.modules.every(({ training }) => training)).toBe(true)
  expect(difference(fresh.eval().call(x), before)).toBeLessThan(1e-5 * scale)
  expect(difference(fresh.train().call(x), before)).toBeLessThan(1e-3 * scale)
  expect(foldedBatchNorms(fresh)).toHaveLength(0)
})

test("batch-norm that is not folded stays as it is, though the module is in training", () => {
  using module = folded()
  using _ = noGrad()
  const [, first, , , last] = module.modules as BatchNorm2d[]
  init.uniform_(first!.running_var, 0.5, 2)
  module.train()
  last!.eval()
  const own = () => Array.from(first!.stateDict().values(), (tensor) => tensor.data())
  const before = own()
  const x = randn([4, 3, 24, 24]).add(1)
  expect(unfoldBatchNorms(module, () => module.call(x), 2)).toBe(1)
  expect(own()).toEqual(before)
  expect([first, last].map((norm) => norm!.training)).toEqual([true, false]) // as they were
  // What the folded one was given are the statistics of what it gets in eval().
  first!.eval()
  const input = module.modules.slice(0, 4).reduce((y, layer) => layer.call(y), x)
  expect(difference(last!.running_mean, input.mean({ dim: [0, 2, 3] }))).toBeLessThan(1e-5)
})

test("where nothing is folded nothing runs", () => {
  using module = new Sequential(new Conv2d(3, 4, 1), new BatchNorm2d(4))
  expect(unfoldBatchNorms(module, () => expect.unreachable(), 2)).toBe(0)
})
