// Norm and limits by hand; that they are PyTorch's: tests/parity/groups.test.ts.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { liveTensors, Parameter, type Tensor, tensor, tidy, zeros } from "../torch/index.ts"
import { clipByNorm, clipByValue, firstNonFinite, gradientNorm } from "./index.ts"

/** Gradients 3 and [0, 4]: together 5 long. A parameter without gradient takes no part. */
function parameters(): Map<string, Parameter> {
  const all = new Map(["a", "b", "frozen"].map((name) => [name, new Parameter(zeros(name === "b" ? [2] : []))]))
  tidy(() => {
    all.get("a")!.grad = tensor(3)
    all.get("b")!.grad = tensor([0, 4])
  })
  return all
}
const gradients = (all: Map<string, Parameter>) =>
  tidy(() => [...all.values()].map(({ grad }) => grad && Array.from(grad.data() as Float32Array)))

test("the norm of all gradients as one vector", () => {
  const all = parameters()
  const live = liveTensors()
  expect(gradientNorm(all.values())).toBe(5)
  expect(liveTensors()).toBe(live)
  expect(gradientNorm([])).toBe(0)
})

test("by norm: one factor for all; what is short enough stays", () => {
  const all = parameters()
  clipByNorm([...all.values()], 5.1)
  expect(gradients(all)).toEqual([[3], [0, 4], null])
  clipByNorm([...all.values()], 2.5)
  expect(gradients(all)).toEqual([[expect.closeTo(1.5, 5)], [0, expect.closeTo(2, 5)], null])
})

test("by value: each number by itself", () => {
  const all = parameters()
  all.get("b")!.grad = tensor([-7, 1])
  clipByValue([...all.values()], 2)
  expect(gradients(all)).toEqual([[2], [-2, 1], null])
})

test("one number that is not finite, anywhere, shows in the norm and is found", () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const all = parameters()
    expect(firstNonFinite(all)).toBeNull()
    all.get("b")!.grad = tensor([1, bad])
    expect(Number.isFinite(gradientNorm(all.values()))).toBe(false)
    expect(firstNonFinite(all)).toBe("b")
  }
})

test("a gradient whose square overflows is finite all the same", () => {
  const all = parameters()
  all.get("b")!.grad = tensor([1e30, 0])
  expect(gradientNorm(all.values())).toBe(Number.POSITIVE_INFINITY)
  expect(firstNonFinite(all)).toBeNull()
})

test("a limit that is none is refused", () => {
  const all: Parameter[] = [...parameters().values()]
  for (const limit of [-1, Number.NaN]) {
    expect(() => clipByNorm(all, limit)).toThrow(UserError)
    expect(() => clipByValue(all, limit)).toThrow(UserError)
  }
  const grads: (Tensor | null)[] = all.map(({ grad }) => grad)
  expect(grads[0]!.item()).toBe(3)
})
