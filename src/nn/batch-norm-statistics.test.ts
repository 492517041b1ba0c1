// Statistics of batch-norm measured anew: those of all passes together, or none at all.
import { expect, test } from "vitest"
import { aten, liveTensors, manualSeed, randn, type Tensor, tidy } from "../torch/index.ts"
import { BatchNorm2d, Conv2d, Dropout, KeptStatistics, measureBatchNorms, Sequential } from "./index.ts"

const values = (tensor: Tensor) => Array.from(tensor.data() as Float32Array)

/** Both batches have mean and spread of their own, so that the variance between them counts. */
function inputs(): [Tensor, Tensor] {
  manualSeed(5)
  return [randn([4, 3, 16, 16]).mul(2).add(1), randn([4, 3, 16, 16]).mul(0.5).sub(3)]
}

async function* passesOf(module: Sequential, batches: readonly Tensor[]): AsyncGenerator<() => void> {
  for (const batch of batches) yield () => module.call(batch)
}

test("the statistics become those of all passes together, whatever they were", async () => {
  const [a, b] = inputs()
  using module = new Sequential(new BatchNorm2d(3))
  const [norm] = module.modules as [BatchNorm2d]
  norm.running_mean.fill_(7)
  module.eval()
  await measureBatchNorms(module, passesOf(module, [a, b]))
  const all = aten.cat([a, b]).to({ dtype: "float64" })
  const count = 2 * 4 * 16 * 16
  for (const [c, mean] of values(norm.running_mean).entries()) {
    const channel = Array.from(all.select(1, c).contiguous().data() as Float64Array)
    const expected = channel.reduce((sum, x) => sum + x, 0) / count
    const variance = channel.reduce((sum, x) => sum + (x - expected) ** 2, 0) / count
    expect(mean).toBeCloseTo(expected, 5)
    expect(values(norm.running_var)[c]! / variance).toBeCloseTo(1, 2) // each pass's own is divided by n - 1
  }
  expect([module.training, norm.training, norm.momentum]).toEqual([false, false, 0.1])
})

test("later layers see what training shows them: inputs normalised by each pass's own statistics, without dropout", async () => {
  const [a] = inputs()
  using module = new Sequential(new BatchNorm2d(3), new Dropout(0.9), new Conv2d(3, 2, 1), new BatchNorm2d(2))
  const [, , conv, second] = module.modules as [BatchNorm2d, Dropout, Conv2d, BatchNorm2d]
  await measureBatchNorms(module, passesOf(module, [a]))
  tidy(() => {
    const normalized = new BatchNorm2d(3).call(a)
    const x = conv.call(normalized)
    for (const [c, mean] of values(second.running_mean).entries()) {
      expect(mean).toBeCloseTo(x.select(1, c).mean().item(), 4)
    }
  })
  expect(module.training).toBe(true)
})

test("frozen layers keep their statistics; without passes all do", async () => {
  const [a] = inputs()
  using module = new Sequential(new BatchNorm2d(3), new BatchNorm2d(3))
  const [first, second] = module.modules as [BatchNorm2d, BatchNorm2d]
  first.frozen = true
  await measureBatchNorms(module, passesOf(module, []))
  expect(values(second.running_mean)).toEqual([0, 0, 0])
  await measureBatchNorms(module, passesOf(module, [a]))
  expect([values(first.running_mean), values(first.running_var)]).toEqual([
    [0, 0, 0],
    [1, 1, 1],
  ])
  expect(values(second.running_mean)).not.toEqual([0, 0, 0])
})

test("when a pass throws, everything is as before", async () => {
  const [a] = inputs()
  using module = new Sequential(new BatchNorm2d(3))
  const [norm] = module.modules as [BatchNorm2d]
  async function* passes() {
    yield () => module.call(a)
    throw new Error("the disk is gone")
  }
  await expect(measureBatchNorms(module, passes())).rejects.toThrow("the disk is gone")
  expect([values(norm.running_mean), values(norm.running_var)]).toEqual([
    [0, 0, 0],
    [1, 1, 1],
  ])
  expect([module.training, norm.momentum]).toEqual([true, 0.1])
})

test("kept statistics come back to the bit, as often as wanted, also after a NaN", () => {
  const [a, b] = inputs()
  using module = new Sequential(new Conv2d(3, 5, 1), new BatchNorm2d(5), new BatchNorm2d(5))
  const state = () =>
    Object.fromEntries(
      [...module.stateDict()].map(([name, tensor]) => [name, Array.from(tensor.data() as never, Number)]),
    )
  tidy(() => module.call(a))
  using kept = new KeptStatistics(module)
  kept.restore() // nothing was kept: nothing changes
  const before = state()
  expect(before["1.num_batches_tracked"]).toEqual([1])
  kept.keep()
  const live = liveTensors()
  kept.keep() // the first copies are freed
  expect(liveTensors()).toBe(live)
  for (const batch of [b, b.mul(Number.NaN)]) {
    tidy(() => module.call(batch))
    expect(state()).not.toEqual(before)
    kept.restore()
    expect(state()).toEqual(before)
  }
  const held = liveTensors()
  kept.dispose()
  expect(liveTensors()).toBe(held - 2)
  using nothing = new KeptStatistics(new Conv2d(1, 1, 1))
  nothing.keep()
  nothing.restore()
})
