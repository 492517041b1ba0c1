// Folded batch-norm: found, and given back its statistics without changing what the module computes.
import { expect, test } from "vitest"
import { manualSeed, noGrad, randn, type Tensor } from "../torch/index.ts"
import { BatchNorm2d, Conv2d, foldedBatchNorms, init, ReLU, Sequential, unfoldBatchNorms } from "./index.ts"

const EPS = 1e-5

function folded(): Sequential {
  manualSeed(3)
  const module = new Sequential(
    new Conv2d(3, 4, 3, { bias: false }),
    new BatchNorm2d(4),
    new ReLU(),
    new Conv2d(4, 5, 3, { bias: false }),
    new BatchNorm2d(5),
  )
  for (const [, child] of module.namedModules()) {
    if (!(child instanceof BatchNorm2d)) continue
    init.normal_(child.bias, 2, 1)
    init.constant_(child.running_var, 1 - EPS)
  }
  return module.eval()
}

const difference = (a: Tensor, b: Tensor): number => a.sub(b).abs().max().item()

test("folded layers are found; new ones, and ones with statistics, are not", () => {
  using module = folded()
  expect(foldedBatchNorms(module)).toHaveLength(2)
  const [, , , , last] = module.modules as BatchNorm2d[]
  init.constant_(last!.running_mean, 0.5)
  expect(foldedBatchNorms(module)).toHaveLength(1)
  expect(foldedBatchNorms(new Sequential(new Conv2d(3, 4, 1), new BatchNorm2d(4)))).toHaveLength(0)
})

test("unfolding keeps the output in eval, and makes that of training agree with it", () => {
  using module = folded()
  using _ = noGrad()
  const x = randn([4, 3, 24, 24]).add(1)
  const before = module.call(x)
  const scale = before.abs().max().item()
  expect(difference(module.train().call(x), before)).toBeGreaterThan(0.2 * scale) // what folding destroys
  using fresh = folded()
  fresh.train()
  unfoldBatchNorms(foldedBatchNorms(fresh), () => fresh.call(x), 2)
  expect(fresh.training && fresh.modules.every(({ training }) => training)).toBe(true)
  expect(difference(fresh.eval().call(x), before)).toBeLessThan(1e-5 * scale)
  expect(difference(fresh.train().call(x), before)).toBeLessThan(1e-3 * scale)
  expect(foldedBatchNorms(fresh)).toHaveLength(0)
})
