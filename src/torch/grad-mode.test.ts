// Autograd: backward, grad, grad mode. Derivatives are worked by hand.
import { expect, test } from "vitest"
import { enableGrad, grad, isGradEnabled, noGrad, OpError, ones, randn, tensor, tidy } from "./index.ts"

const it = (name: string, fn: () => void) => test(name, () => tidy(fn))

it("backward() adds to the gradients of the leaves", () => {
  const x = tensor([1, 2, 3], { requiresGrad: true })
  expect(x.grad).toBe(null)
  x.mul(x).sum().backward()
  expect(x.grad?.toArray()).toEqual([2, 4, 6]) // d(x^2) = 2x
  x.mul(3).backward({ gradient: tensor([1, 0, 2]) })
  expect(x.grad?.toArray()).toEqual([5, 4, 12])
  x.grad = null
  expect(x.grad).toBe(null)
})

it("x.grad is the gradient itself under a fresh handle, and can be replaced", () => {
  const x = tensor([1, 2], { requiresGrad: true })
  x.sum().backward()
  x.grad?.mul_(10)
  expect(x.grad?.toArray()).toEqual([10, 10])
  expect(x.grad).not.toBe(x.grad)
  x.grad = tensor([7, 8])
  expect(x.grad?.toArray()).toEqual([7, 8])
  expect(() => {
    x.grad = tensor([1])
  }).toThrow(/shape, dtype and device/)
  expect(() => {
    x.grad = tensor([1, 2], { dtype: "float64" })
  }).toThrow(/shape, dtype and device/)
})

it("flows through views, indexing and broadcasting", () => {
  const x = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    { requiresGrad: true },
  )
  x.at(1)
    .mul(tensor([[1], [10]]))
    .sum()
    .backward()
  expect(x.grad?.toArray()).toEqual([
    [0, 0],
    [11, 11],
  ])
  expect(x.isLeaf).toBe(true)
  expect(x.mul(1).isLeaf).toBe(false)
  expect(x.detach().requiresGrad).toBe(false)
})

it("grad() leaves .grad alone, gives null where nothing depends, takes seeds", () => {
  const [x, y, z] = [
    tensor([2], { requiresGrad: true }),
    tensor([3], { requiresGrad: true }),
    ones([1], { requiresGrad: true }),
  ]
  const gradients = grad([x.mul(y)], [x, y, z])
  expect(gradients.map((g) => g?.item())).toEqual([3, 2, undefined])
  expect(x.grad).toBe(null)
  const seeded = grad([x.mul(tensor([1, 2]))], [x], { gradients: [tensor([1, 10])] })
  expect(seeded[0]?.item()).toBe(21)
})

it("createGraph gives second derivatives", () => {
  const x = tensor([2], { requiresGrad: true })
  const [first] = grad([x.pow(3)], [x], { createGraph: true })
  expect(first?.item()).toBe(12) // 3x^2
  const [second] = grad([first as NonNullable<typeof first>], [x])
  expect(second?.item()).toBe(12) // 6x
})

it("a graph serves one backward, unless it is retained", () => {
  const x = tensor([2], { requiresGrad: true })
  const y = x.mul(x)
  y.backward({ retainGraph: true })
  y.backward()
  expect(x.grad?.item()).toBe(8)
  expect(() => y.backward()).toThrow(/second time/)
})

it("errors say what is wrong", () => {
  const x = randn([2], { requiresGrad: true })
  expect(() => x.mul(2).backward()).toThrow(/scalar outputs/)
  expect(() => ones([1]).backward()).toThrow(/does not require grad/)
  expect(() => x.mul(2).backward({ gradient: ones([3]) })).toThrow(/shape/)
  expect(() => x.add_(1)).toThrow(/leaf Variable that requires grad/)
  expect(() => ones([2], { dtype: "int64" }).requiresGrad_()).toThrow(OpError)
  const y = x.exp()
  y.add_(1) // exp needs its own result for its derivative
  expect(() => y.sum().backward()).toThrow(/modified by an inplace operation/)
})

it("disposing the forward's handles does not hurt backward", () => {
  const x = tensor([3], { requiresGrad: true })
  const y = x.mul(x)
  const z = y.mul(2)
  y.dispose()
  z.backward()
  expect(x.grad?.item()).toBe(12)
})

it("noGrad and enableGrad nest, and end with their block, also by a throw", () => {
  const x = ones([1], { requiresGrad: true })
  expect(isGradEnabled()).toBe(true)
  {
    using _ = noGrad()
    expect(x.mul(2).requiresGrad).toBe(false)
    {
      using __ = enableGrad()
      expect(x.mul(2).requiresGrad).toBe(true)
      {
        using ___ = noGrad()
        expect(isGradEnabled()).toBe(false)
      }
      expect(isGradEnabled()).toBe(true)
    }
    expect(isGradEnabled()).toBe(false)
  }
  expect(isGradEnabled()).toBe(true)
  expect(() => {
    using _ = noGrad()
    throw new Error("in the middle")
  }).toThrow("in the middle")
  expect(isGradEnabled()).toBe(true)
})

it("a graph a million operators deep can be walked and freed", () => {
  const x = tensor([1], { requiresGrad: true })
  let y = x.mul(1)
  for (let k = 0; k < 200_000; k++) {
    const next = y.add(1)
    y.dispose()
    y = next
  }
  y.backward()
  expect(x.grad?.item()).toBe(1)
})
