import { beforeEach, expect, test } from "vitest"
import { DisposedError, liveTensors, ones, Parameter, type Tensor, tensor, tidy, zeros } from "./index.ts"

let before: number
beforeEach(() => {
  before = liveTensors()
})
const live = () => liveTensors() - before

test("frees what was made inside, and nothing else", () => {
  const outside = ones([2])
  const sum = tidy(() => outside.add(1).mul(2).sum().item())
  expect(sum).toBe(8)
  expect(live()).toBe(1)
  expect(outside.toArray()).toEqual([1, 1])
  outside.dispose()
  expect(live()).toBe(0)
})

test("what is returned survives, in arrays, objects, Maps and Sets, also in circles", () => {
  interface Loop {
    tensor: Tensor
    self?: Loop
  }
  const result = tidy(() => {
    zeros([9])
    const loop: Loop = { tensor: ones([1]) }
    loop.self = loop
    const twice = ones([2])
    return {
      list: [twice, [twice]],
      map: new Map([["k", ones([3])]]),
      set: new Set([ones([4])]),
      loop,
      nothing: null,
      text: "x",
      bytes: new Uint8Array(3),
    }
  })
  expect(live()).toBe(4)
  expect(result.list[0]).toBe((result.list[1] as Tensor[])[0])
  for (const made of [result.list[0] as Tensor, result.map.get("k") as Tensor, ...result.set, result.loop.tensor])
    made.dispose()
  expect(live()).toBe(0)
})

test("scopes nest: what leaves the inner one belongs to the outer one", () => {
  const [a, b] = tidy(() => {
    const inner = tidy(() => [ones([1]), ones([2])] as const)
    expect(live()).toBe(2)
    const dropped = tidy(() => tidy(() => ones([3])))
    expect(dropped.isDisposed).toBe(false)
    return inner
  })
  expect(live()).toBe(2)
  a.dispose()
  b.dispose()
})

test("a throw frees everything and closes the scope", () => {
  let escaped: Tensor | undefined
  expect(() =>
    tidy(() => {
      ones([1])
      tidy(() => {
        escaped = ones([2])
        throw new RangeError("inside")
      })
    }),
  ).toThrow(RangeError)
  expect(live()).toBe(0)
  expect(escaped?.isDisposed).toBe(true)
  const free = ones([1]) // no scope is left open that would own it
  expect(tidy(() => 0)).toBe(0)
  expect(free.isDisposed).toBe(false)
  free.dispose()
})

test("a throw while the result is looked at frees everything too", () => {
  const trap = () => {
    throw new Error("trap")
  }
  expect(() =>
    tidy(() => {
      ones([1])
      return Object.defineProperty({}, "x", { enumerable: true, get: trap })
    }),
  ).toThrow("trap")
  expect(live()).toBe(0)
})

test("a Promise is an error; its own rejection stays quiet, and what it makes later is its own", async () => {
  let late: Tensor | undefined
  expect(() =>
    tidy(async () => {
      ones([1])
      await null
      late = ones([2])
      throw new Error("later")
    }),
  ).toThrow(/must be synchronous/)
  expect(live()).toBe(0)
  await new Promise((resolve) => setTimeout(resolve))
  expect(live()).toBe(1)
  late?.dispose()
})

test("async functions that interleave do not take each other's tensors", async () => {
  const work = async (n: number) => {
    const made = tidy(() => ones([n]).mul(2))
    await null
    const value = tidy(() => made.sum().item())
    made.dispose()
    return value
  }
  expect(await Promise.all([work(1), work(2), work(3)])).toEqual([2, 4, 6])
  expect(live()).toBe(0)
})

test("kept tensors and parameters live until they are disposed", () => {
  const [kept, parameter] = tidy(() => [ones([1]).keep(), new Parameter(ones([2]))])
  const notReturned: Tensor[] = []
  tidy(() => {
    notReturned.push(ones([3]).keep())
  })
  expect(live()).toBe(3)
  expect([kept, parameter, ...notReturned].every((x) => x?.isKept)).toBe(true)
  for (const x of [kept, parameter, ...notReturned]) x?.dispose()
  expect(live()).toBe(0)
})

test("disposing is idempotent, also inside and after a scope, and by using", () => {
  const gone = tidy(() => {
    const x = ones([1])
    x.dispose()
    x.dispose()
    return x
  })
  gone.dispose()
  {
    using x = ones([1])
    expect(x.isDisposed).toBe(false)
  }
  expect(live()).toBe(0)
})

test("a disposed tensor says what it was and who asked", () => {
  const x = tidy(() => {
    const made = tensor([[1, 2]], { dtype: "int64" })
    made.dispose()
    return made
  })
  const message = "the tensor int64[1, 2] was disposed. Return it from its tidy(), or keep() it."
  expect(() => x.add(1)).toThrow(new DisposedError(`aten::add.Scalar: ${message}`))
  expect(() => x.shape).toThrow(new DisposedError(`shape: ${message}`))
  for (const use of [
    () => x.data(),
    () => x.item(),
    () => x.backward(),
    () => x.grad,
    () => x.at(0),
    () => ones([1]).add(x),
  ]) {
    expect(use).toThrow(DisposedError)
  }
  tidy(() => expect(() => ones([1]).add(x)).toThrow(/^aten::add\.Tensor: the tensor int64\[1, 2\]/))
})
