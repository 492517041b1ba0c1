// A training loop holds no more after 200 steps than after 10, also when steps fail in the middle.
import { expect, test } from "vitest"
import {
  aten,
  full,
  liveTensors,
  manualSeed,
  memory,
  noGrad,
  OpError,
  Parameter,
  randint,
  randn,
  releaseCachedMemory,
  resetPeakMemory,
  type Tensor,
  tidy,
  zeros,
} from "../../src/torch/index.ts"

/** A small conv net with its own update rule: one step returns the loss. `inside` runs between forward and backward. */
function makeNet() {
  manualSeed(0)
  const parameters = tidy(() => ({
    conv1: new Parameter(randn([8, 3, 3, 3]).mul(0.2)),
    conv2: new Parameter(randn([4, 8, 3, 3]).mul(0.1)),
    bias: new Parameter(zeros([4])),
  }))
  const state = tidy(() => ({ mean: zeros([8]).keep(), variance: full([8], 1).keep() }))
  const step = (inside: () => void = () => {}): number =>
    tidy(() => {
      const x = randn([2, 3, 32, 32])
      const target = randint(0, 4, [2, 32, 32])
      const hidden = aten.conv2d(x, parameters.conv1, { padding: 1 })
      const normed = aten.batch_norm(hidden, null, null, state.mean, state.variance, true, 0.1, 1e-5, false)
      const pooled = aten.max_pool2d(normed.mul(2).at("...").clamp({ min: 0 }), 2)
      const up = aten.upsample_bilinear2d_vec(pooled, [32, 32], false, null)
      const loss = aten.cross_entropy_loss(
        aten.conv2d(up, parameters.conv2, { bias: parameters.bias, padding: 1 }),
        target,
      )
      inside()
      loss.backward()
      using _ = noGrad()
      for (const parameter of Object.values(parameters)) {
        parameter.sub_((parameter.grad as Tensor).mul(0.1))
        parameter.grad = null
      }
      return loss.item()
    })
  const dispose = () => {
    for (const tensor of [...Object.values(parameters), ...Object.values(state)]) tensor.dispose()
  }
  return { step, dispose }
}

const held = () => ({ handles: liveTensors(), bytes: memory().liveBytes })

test("200 steps: handles, live bytes and kept blocks stay flat", () => {
  const before = held()
  const { step, dispose } = makeNet()
  for (let k = 0; k < 10; k++) step()
  const warm = { ...held(), cached: memory().cachedBytes }
  resetPeakMemory()
  const losses = Array.from({ length: 200 }, () => step())
  expect({ ...held(), cached: memory().cachedBytes }).toEqual(warm)
  expect(memory().peakBytes).toBeLessThan(warm.bytes + 16 * 2 ** 20)
  const mean = (list: number[]) => list.reduce((sum, loss) => sum + loss, 0) / list.length
  expect(mean(losses.slice(-20))).toBeLessThan(mean(losses.slice(0, 20))) // it trained
  dispose()
  expect(held()).toEqual(before)
})

test("steps that throw between forward and backward leave nothing behind, and training goes on", () => {
  const { step, dispose } = makeNet()
  for (let k = 0; k < 5; k++) step()
  const warm = held()
  const failures: (() => void)[] = [
    () => aten.matmul(randn([2, 3]), randn([2, 3])), // libtorch refuses
    () => zeros([2 ** 45]), // out of memory
    () => zeros([1]).keep().dispose(),
    () => {
      throw new Error("the caller's own")
    },
  ]
  for (let k = 0; k < 50; k++) {
    for (const fail of failures) {
      try {
        step(fail)
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
      }
    }
    expect(held()).toEqual(warm)
  }
  expect(Number.isFinite(step())).toBe(true)
  dispose()
})

test("running out of memory is an error, and changes nothing", () => {
  const { limitBytes } = memory()
  const before = held()
  expect(() => zeros([limitBytes + 1], { dtype: "uint8" })).toThrow(/out of memory: one tensor of/)
  expect(() => zeros([Math.ceil(limitBytes / 2), 3], { dtype: "uint8" })).toThrow(OpError)
  expect(() => zeros([2 ** 53 - 1])).toThrow(OpError)
  expect(held()).toEqual(before)

  // The same numbers with and without a failure on the way.
  const run = (inside: () => void) => {
    const { step, dispose } = makeNet()
    const losses = [step(), step()]
    try {
      step(inside)
    } catch {}
    manualSeed(1)
    losses.push(step(), step())
    dispose()
    return losses
  }
  const outOfMemory = () => {
    throw new OpError("as if")
  }
  expect(run(() => zeros([2 ** 45]))).toEqual(run(outOfMemory))
})

test("freed blocks are kept for the next tensors, up to a quarter of the machine, until they are given back", () => {
  releaseCachedMemory()
  expect(memory().cachedBytes).toBe(0)
  zeros([2 ** 20]).dispose()
  const { cachedBytes } = memory()
  expect(cachedBytes).toBeGreaterThanOrEqual(4 * 2 ** 20)
  zeros([2 ** 20]).dispose()
  expect(memory().cachedBytes).toBe(cachedBytes) // the same block again
  const { limitBytes } = memory()
  for (let k = 1; k <= 40; k++) {
    tidy(() => aten.empty_memory_format([Math.floor((limitBytes / 200) * (1 + k / 10))], { dtype: "uint8" })) // never touched: costs no memory
    expect(memory().cachedBytes).toBeLessThanOrEqual(limitBytes / 4)
  }
  releaseCachedMemory()
  expect(memory().cachedBytes).toBe(0)
})
