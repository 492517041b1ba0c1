// The untyped way in: every operator by name, and errors that say enough.
import { expect, test } from "vitest"
import { call, findOperator, liveTensors, OpError, ones, type Tensor, tensor, tidy } from "./index.ts"

const it = (name: string, fn: () => void) => test(name, () => tidy(fn))

it("calls an operator by name, with defaults for what is left out", () => {
  expect((call("aten::hypot", tensor([3]), tensor([4])) as Tensor).item()).toBe(5)
  expect((call("aten::add.Tensor", tensor([1]), tensor([2])) as Tensor).item()).toBe(3)
  expect((call("aten::add.Tensor", tensor([1]), tensor([2]), 10) as Tensor).item()).toBe(21)
  expect((call("aten::add.Tensor", tensor([1]), tensor([2]), undefined) as Tensor).item()).toBe(3)
  expect(call("aten::is_nonzero", tensor([1]))).toBe(true)
  expect(call("aten::size.int", tensor([1, 2]), 0)).toBe(2)
  expect((call("aten::unbind.int", tensor([1, 2])) as Tensor[]).map((x) => x.item())).toEqual([1, 2])
  expect(findOperator("aten::relu").arguments.map(({ name, kind }) => `${name}: ${kind}`)).toEqual(["self: Tensor"])
  expect(findOperator("aten::relu")).toBe(findOperator("aten::relu"))
})

it("an unknown operator is an OpError", () => {
  for (const name of [
    "aten::no_such_thing",
    "add",
    "",
    "::",
    ".",
    "aten::add.NoSuchOverload",
    "aten::relu\0",
    "\ud800",
  ]) {
    expect(() => call(name)).toThrow(OpError)
  }
  expect(() => call("aten::no_such_thing.x")).toThrow(/has no operator aten::no_such_thing\.x/)
  for (const name of [undefined, null, 5, {}, Symbol("x")]) expect(() => call(name as never)).toThrow(OpError)
})

it("an error names the operator, its arguments' shapes and dtypes, and libtorch's reason; cause has the full text", () => {
  let error: unknown
  try {
    tensor([[1, 2]]).matmul(ones([3, 1], { dtype: "int64" }))
  } catch (caught) {
    error = caught
  }
  expect(error).toBeInstanceOf(OpError)
  const { message, cause } = error as OpError
  expect(message).toMatch(/^aten::matmul\(self: float32\[1, 2\], other: int64\[3, 1\]\): .+/)
  expect(message).not.toMatch(/Exception raised|\n/)
  expect((cause as Error).message.length).toBeGreaterThan(10)
})

it("wrong arguments are named", () => {
  const x = ones([2])
  expect(() => call("aten::relu")).toThrow(/self/)
  expect(() => call("aten::relu", x, x)).toThrow(/at most 1 arguments, got 2/)
  expect(() => call("aten::relu", 5)).toThrow(/argument 0 \(self\): expected a tensor, got 5/)
  expect(() => call("aten::select.int", x, x, 0)).toThrow(/argument 1 \(dim\): expected int, got a tensor/)
  expect(() => call("aten::select.int", x, "0", 0)).toThrow(
    /argument 1 \(dim: int\): expected an integer, got the string "0"/,
  )
  expect(() => call("aten::cat", x)).toThrow(
    /expected an array of tensors, got float32\[2\]|expected list, got a tensor/,
  )
  expect(() => call("aten::cat", [x, 5])).toThrow(/expected an array of tensors, got one with 5/)
  expect(() => call("aten::cat", new Array(2 ** 32 - 1))).toThrow(/too long/)
  expect(() => call("aten::zeros", new Array(2 ** 32 - 1))).toThrow(/too long/)
  expect(() => call("aten::to.dtype", x, "float33")).toThrow(/unknown dtype "float33"/)
  expect(() => call("aten::normal_", x, 0, 1, 5)).toThrow(/expected a Generator, got 5/)
  const circle: unknown[] = []
  circle.push(circle)
  expect(() => call("aten::zeros", circle)).toThrow(OpError)
})

it("when one of several results cannot be had, none leaks", () => {
  const before = liveTensors()
  expect(() => call("aten::to_sparse", ones([2]))).toThrow(/only dense tensors/)
  expect(() => call("aten::empty.memory_format", [2], null, null, "meta")).toThrow(/only dense tensors/)
  expect(liveTensors()).toBe(before + 1)
})

it("what a getter throws comes as the cause, whatever it is", () => {
  for (const thrown of [new RangeError("mine"), 5, undefined, Symbol("s")]) {
    const list = Object.defineProperty([1], 0, {
      get() {
        throw thrown
      },
    })
    let error: unknown
    try {
      call("aten::zeros", list)
    } catch (caught) {
      error = caught
    }
    expect(error).toBeInstanceOf(OpError)
    expect((error as OpError).cause).toBe(thrown)
  }
})
