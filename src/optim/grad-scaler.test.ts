// The scaler's arithmetic, on CPU tensors; its part in training is in train/trainer.test.ts.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { fromData, Parameter, tidy, zeros } from "../torch/index.ts"
import { GradScaler } from "./grad-scaler.ts"

test("a gradient that float16 has as 0 comes through scaled, and is brought back to its size", () => {
  tidy(() => {
    const weight = new Parameter(zeros([2]))
    const scaler = new GradScaler({ scale: 2 ** 16 })
    const factors = fromData(Float32Array.of(2 ** -26, -(2 ** -25)))
    const half = (scaled: boolean) => {
      weight.grad = null
      const loss = weight.to({ dtype: "float16" }).mul(1).to({ dtype: "float32" }).mul(factors).sum()
      ;(scaled ? scaler.scaled(loss) : loss).backward() // the gradient passes float16, whose least number is 2^-24
      return weight.grad!
    }
    expect(half(false).data()).toEqual(Float32Array.of(0, -0))
    half(true)
    scaler.unscale([weight, new Parameter(zeros([1]))]) // the other has none
    expect(weight.grad!.data()).toEqual(Float32Array.of(2 ** -26, -(2 ** -25)))
  })
})

// torch.cuda.amp.GradScaler(65536, 2, 0.5, growth_interval=3), its scale after each update()
test("grows after so many good steps in a row, halves after an overflow, which begins the count anew", () => {
  const scaler = new GradScaler({ scale: 1024, growthInterval: 3 })
  const scales = [true, true, true, true, true, false, true, true, true, false, false].map((isGood) => {
    scaler.update(isGood)
    return scaler.scale
  })
  expect(scales).toEqual([1024, 1024, 2048, 2048, 2048, 1024, 1024, 1024, 2048, 1024, 512])
})

test("goes on where its state stood", () => {
  const [a, b] = [new GradScaler({ growthInterval: 4 }), new GradScaler({ growthInterval: 4 })]
  for (const isGood of [false, true, true, true]) a.update(isGood)
  expect(a.state).toEqual({ scale: 32768, goodSteps: 3 })
  b.state = JSON.parse(JSON.stringify(a.state))
  b.update(true)
  expect(b.scale).toBe(65536)
})

test("an option that makes no sense is refused", () => {
  for (const options of [{ scale: 0 }, { growth: 0.5 }, { backoff: 1 }, { growthInterval: 0 }])
    expect(() => new GradScaler(options)).toThrow(UserError)
})
