import { expect, test } from "vitest"
import { BatchNorm2d } from "../nn/index.ts"
import { noGrad, type Tensor } from "../torch/index.ts"
import { AveragedState } from "./index.ts"

const first = (tensor: Tensor | undefined) => (tensor!.contiguous().data() as Float32Array)[0]!
const set = (tensor: Tensor, value: number) => {
  using _ = noGrad()
  tensor.fill_(value)
}

test("averages by hand: a window that grows with the steps, until the decay limits it", () => {
  using norm = new BatchNorm2d(2) // weight 1
  using average = new AveragedState(norm.stateDict(), 0.25)
  set(norm.weight, 3)
  average.update(1) // d = 2/11
  expect(first(average.stateDict().get("weight"))).toBeCloseTo((2 / 11) * 1 + (9 / 11) * 3, 6)
  set(norm.weight, 5)
  average.update(100) // 101/110 is above 0.25
  expect(first(average.stateDict().get("weight"))).toBeCloseTo(0.25 * (29 / 11) + 0.75 * 5, 6)
})

test("running statistics are averaged, whole numbers copied", () => {
  using norm = new BatchNorm2d(2)
  using average = new AveragedState(norm.stateDict(), 0.5)
  set(norm.running_var, 9)
  norm.num_batches_tracked.fill_(7)
  average.update(1000)
  expect(first(average.stateDict().get("running_var"))).toBe(5)
  expect(average.stateDict().get("num_batches_tracked")!.item()).toBe(7)
})

test("swapped in and out again, everything is where it was", () => {
  using norm = new BatchNorm2d(2)
  using average = new AveragedState(norm.stateDict(), 0.5)
  set(norm.weight, 3)
  average.update(1000)
  average.swap()
  expect([first(norm.weight), first(average.stateDict().get("weight"))]).toEqual([2, 3])
  expect(norm.weight.requiresGrad).toBe(true)
  average.swap()
  expect([first(norm.weight), first(average.stateDict().get("weight"))]).toEqual([3, 2])
})

test("a decay of 1 or more is refused", () => {
  using norm = new BatchNorm2d(2)
  expect(() => new AveragedState(norm.stateDict(), 1)).toThrow("average is 1; expected 0 <= average < 1")
})
