// The recorded graph: what is in it, what is not, and that recording changes nothing.
import { afterEach, beforeEach, expect, test } from "vitest"
import { dispatch, findOperator } from "./dispatch.ts"
import {
  aten,
  call,
  isRecording,
  liveTensors,
  OpError,
  ones,
  Parameter,
  type RecordedArgument,
  type Recording,
  record,
  recordCall,
  StateBuffer,
  type Tensor,
  type TensorRef,
  tensor,
  tensorRefs,
  tidy,
  zeros,
} from "./index.ts"

let before: number
beforeEach(() => {
  before = liveTensors()
})
afterEach(() => {
  expect(isRecording()).toBe(false)
})
const live = () => liveTensors() - before
const names = ({ operators }: Recording) => operators.map(({ name }) => name)
const id = (argument: RecordedArgument | undefined) => (argument as TensorRef).value

test("arguments refer to inputs, parameters, buffers, constants and earlier outputs; defaults come from the schema", () => {
  using x = ones([1, 2, 5, 5])
  using weight = new Parameter(ones([3, 2, 3, 3]))
  using scale = new StateBuffer(ones([1]))
  const recording = record(
    () => ({
      y: aten
        .conv2d(x, weight, { stride: 2 })
        .mul(scale)
        .add(tensor([7]), { alpha: 3 }),
    }),
    { inputs: [x] },
  )
  const { inputs, outputs, values, operators } = recording
  expect(names(recording)).toEqual(["aten::conv2d", "aten::mul.Tensor", "aten::to.dtype_layout", "aten::add.Tensor"])
  const [conv, mul, to, add] = operators
  expect(conv?.schema).toMatch(/^aten::conv2d\(Tensor input, Tensor weight, /)
  expect(conv?.arguments).toEqual({
    input: { value: 0, shape: [1, 2, 5, 5], dtype: "float32" },
    weight: { value: recording.idOf(weight), shape: [3, 2, 3, 3], dtype: "float32" },
    bias: null,
    stride: [2, 2],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
  })
  expect(conv?.outputs).toEqual([{ value: id(mul?.arguments.self), shape: [1, 3, 2, 2], dtype: "float32" }])
  expect(inputs).toEqual([{ value: 0, shape: [1, 2, 5, 5], dtype: "float32" }])
  expect(values[0]).toEqual({ source: "input", shape: [1, 2, 5, 5], dtype: "float32" })
  expect(values[recording.idOf(weight) as number]?.source).toBe("parameter")
  expect(values[id(mul?.arguments.other)]?.source).toBe("buffer")
  expect(values[id(to?.arguments.self)]).toEqual({
    source: "constant",
    shape: [1],
    dtype: "float64",
    data: Float64Array.of(7),
  })
  expect(to?.arguments).toMatchObject({ dtype: "float32", copy: false, memory_format: null })
  expect(values[id(add?.outputs[0])]).toEqual({
    source: "operator",
    shape: [1, 3, 2, 2],
    dtype: "float32",
    operator: 3,
  })
  expect(add?.arguments).toMatchObject({ other: to?.outputs[0], alpha: 3 })
  expect(outputs).toEqual([{ name: "y", ...(add?.outputs[0] as TensorRef) }])
  expect(add?.call).toBe(-1)
})

test("every spelling of a default value is read", () => {
  using x = ones([4, 4])
  const { operators } = record(() => {
    call("aten::arange", 3)
    call("aten::allclose", x, x)
    call("aten::gelu", x)
    call("aten::bernoulli_.float", x.clone())
    call("aten::softplus", x)
    call("aten::flatten.using_ints", x)
    call("aten::max_pool2d", x.view([1, 1, 4, 4]), [2])
    call("aten::randint", 9, [2])
    call("aten::rot90", x)
    call("aten::linalg_matrix_norm", x, 1)
  })
  const args = Object.fromEntries(operators.map((op) => [op.name, op.arguments]))
  expect(args["aten::allclose"]).toMatchObject({ rtol: 1e-5, atol: 1e-8, equal_nan: false })
  expect(args["aten::gelu"]).toMatchObject({ approximate: "none" })
  expect(args["aten::bernoulli_.float"]).toMatchObject({ p: 0.5, generator: null })
  expect(args["aten::softplus"]).toMatchObject({ beta: 1, threshold: 20 })
  expect(args["aten::flatten.using_ints"]).toMatchObject({ start_dim: 0, end_dim: -1 })
  expect(args["aten::max_pool2d"]).toMatchObject({ kernel_size: [2, 2], stride: [], ceil_mode: false })
  expect(args["aten::randint"]).toMatchObject({ high: 9, size: [2], dtype: "int64", device: null })
  expect(args["aten::rot90"]).toMatchObject({ k: 1, dims: [0, 1] })
  expect(args["aten::linalg_matrix_norm"]).toMatchObject({ dim: [-2, -1], keepdim: false })
})

test("lists of tensors, several results, and results that are no tensors", () => {
  using x = ones([4, 2])
  const { operators, values } = record(() => {
    const [a, , c] = call("aten::split_with_sizes", x, [1, 2, 1]) as Tensor[]
    aten.cat([a as Tensor, c as Tensor, x])
    aten.max_dim(x, 0)
    return x.sum().item()
  })
  const [split, cat, max, , item] = operators
  const parts = tensorRefs(split?.outputs ?? [])
  expect(parts.map(({ shape }) => shape[0])).toEqual([1, 2, 1])
  expect(parts.every(({ value }) => values[value]?.viewOf === id(split?.arguments.self))).toBe(true)
  expect(cat?.arguments.tensors).toEqual([parts[0], parts[2], split?.arguments.self])
  expect(max?.outputs).toMatchObject([{ shape: [2] }, { shape: [2], dtype: "int64" }])
  expect(item).toMatchObject({ name: "aten::item", outputs: [8] })
})

test("an in-place operator writes the value it was given", () => {
  using x = ones([2, 3])
  const { operators, values, outputs } = record(
    () => {
      const y = x.mul(2)
      aten.relu_(y)
      call("aten::add.out", x, x, 1, y)
      call("aten::unsqueeze_", y, 0)
      return y
    },
    { inputs: [x] },
  )
  const y = id(operators[0]?.outputs[0])
  expect(operators.map((op) => id(op.outputs[0]))).toEqual([y, y, y, y])
  expect(values).toHaveLength(2)
  expect(operators[3]?.arguments.self).toMatchObject({ value: y, shape: [2, 3] })
  expect(operators[3]?.outputs[0]).toMatchObject({ value: y, shape: [1, 2, 3] })
  expect(outputs).toEqual([{ name: "", value: y, shape: [1, 2, 3], dtype: "float32" }])
})

test("views name what they look into; what only may be a view is looked at", () => {
  using x = ones([2, 3])
  const { operators, values } = record(
    () => {
      const turned = x.permute([1, 0])
      turned.select(0, 1)
      turned.reshape([6]) // must copy
      x.reshape([6])
      turned.contiguous() // must copy
      x.contiguous()
      x.to({ dtype: "float64" }) // must copy
      x.to({ dtype: "float32" })
      x.narrow(1, 1, 2).alias()
      x.clone()
    },
    { inputs: [x] },
  )
  const views = operators.map(({ outputs }) => values[id(outputs[0])]?.viewOf)
  const out = (k: number) => id(operators[k]?.outputs[0])
  expect(views).toEqual([0, out(0), undefined, 0, undefined, 0, undefined, 0, 0, out(8), undefined])
})

test("all ways into libtorch pass: typed functions, call(), dispatch() with an operator, Tensor's methods", () => {
  using x = ones([2])
  const recording = record(() => {
    aten.relu(x)
    call("aten::relu", x)
    dispatch(findOperator("aten::relu"), [x])
    x.neg().toString()
  })
  expect(names(recording).slice(0, 4)).toEqual(["aten::relu", "aten::relu", "aten::relu", "aten::neg"])
})

test("operators that a guard calls are not the function's", () => {
  using x = tensor([6, 7], { dtype: "int64" })
  expect(names(record(() => call("aten::floor_divide.Scalar", x, -1)))).toEqual(["aten::floor_divide.Scalar"])
})

test("the backward pass is not recorded", () => {
  using x = ones([2])
  x.requiresGrad_()
  const recording = record(() => x.mul(3).sum().backward())
  expect(names(recording)).toEqual(["aten::mul.Scalar", "aten::sum"])
  expect(x.grad?.toArray()).toEqual([3, 3])
})

test("nothing is kept alive: all that fn made is freed, and disposed tensors inside are no trouble", () => {
  using x = ones([2, 2])
  const made: Tensor[] = []
  const recording = record(
    () => {
      const a = tidy(() => x.add(1).mul(2))
      made.push(a)
      const b = a.sub(1)
      a.dispose()
      return [b, { view: x.reshape([4]), set: new Set([b]), map: new Map([["k", x]]) }]
    },
    { inputs: [x] },
  )
  expect(live()).toBe(1)
  expect(made[0]?.isDisposed).toBe(true)
  expect(recording.outputs.map(({ name }) => name)).toEqual(["0", "1.view", "1.set.0", "1.map.k"])
  expect(JSON.stringify(recording.operators)).toContain("aten::sub.Scalar") // plain data
  expect(recording.idOf(x)).toBe(0)
  using y = zeros([1])
  expect(recording.idOf(y)).toBeUndefined()
})

test("recording inside tidy(): its result owns nothing, so tidy() has nothing to spare", () => {
  using x = ones([2])
  const recording = tidy(() => {
    const y = x.add(1)
    return record(() => y.mul(2), { inputs: [y] })
  })
  expect(live()).toBe(1)
  expect(names(recording)).toEqual(["aten::mul.Scalar"])
})

test("a nested recording sees its own operators, the outer one sees all", () => {
  using x = ones([2])
  let inner: Recording | undefined
  const outer = record(
    () => {
      const y = x.add(1)
      inner = record(() => y.mul(2), { inputs: [y] })
      return y.sub(1)
    },
    { inputs: [x] },
  )
  expect(names(inner as Recording)).toEqual(["aten::mul.Scalar"])
  expect((inner as Recording).values[0]?.source).toBe("input")
  expect(names(outer)).toEqual(["aten::add.Scalar", "aten::mul.Scalar", "aten::sub.Scalar"])
  expect(outer.operators[1]?.arguments.self).toEqual(outer.operators[0]?.outputs[0])
})

test("an operator that throws is not in it; when fn throws recording ends", () => {
  using x = ones([2, 3])
  const recording = record(() => {
    expect(() => x.matmul(x)).toThrow(OpError)
    const gone = x.add(1)
    gone.dispose()
    expect(() => gone.mul(2)).toThrow(/aten::mul\.Scalar: the tensor float32\[2, 3\] was disposed/)
    expect(() => call("aten::cat", new Array(4e9))).toThrow(/too long/)
    return x.neg()
  })
  expect(names(recording)).toEqual(["aten::add.Scalar", "aten::neg"])
  expect(() => record(() => x.matmul(x))).toThrow(OpError)
  expect(() => record(async () => x.neg())).toThrow(/must be synchronous/)
  expect(isRecording()).toBe(false)
  expect(live()).toBe(1)
})

test("calls: a tree in the order they were made, each with its results; one that throws is left", () => {
  using x = ones([2])
  class Layer {}
  class Net {}
  const [layer, net] = [new Layer(), new Net()]
  const recording = record(() =>
    recordCall(net, () => {
      const y = recordCall(layer, () => x.add(1))
      try {
        recordCall(layer, () => {
          y.mul(2)
          throw new Error("no")
        })
      } catch {}
      return { a: y.sub(1), list: [x] }
    }),
  )
  expect(recording.calls.map(({ type, parent }) => [type, parent])).toEqual([
    ["Net", -1],
    ["Layer", 0],
    ["Layer", 0],
  ])
  expect(recording.calls.map(({ outputs }) => outputs.map(({ name }) => name))).toEqual([["a", "list.0"], [""], []])
  expect(recording.operators.map(({ call }) => call)).toEqual([1, 2, 0])
  expect(recording.callsOf(layer)).toEqual([1, 2])
  expect(recording.callsOf({})).toEqual([])
})

test("results are the same with and without recording", () => {
  using x = tensor([1, -2, 3])
  let inside: unknown
  record(() => {
    inside = aten.softmax_int(x, 0).toArray()
  })
  expect(inside).toEqual(tidy(() => aten.softmax_int(x, 0).toArray()))
})

test("onReturn is shown what each call returns, the innermost first, while it is there; what it calls is not recorded", () => {
  using x = ones([2])
  const [outer, inner] = [new Date(0), /(?:)/] // any objects
  const shown: [object, number][] = []
  const recording = record(() => recordCall(outer, () => recordCall(inner, () => x.mul(2)).add(1)), {
    inputs: [x],
    onReturn: (module, result) => shown.push([module, (result as Tensor).sum().item()]),
  })
  expect(shown).toEqual([
    [inner, 4],
    [outer, 6],
  ])
  expect(names(recording)).toEqual(["aten::mul.Scalar", "aten::add.Scalar"])
  expect(live()).toBe(1)
  const failing = () => {
    throw new Error("mine")
  }
  expect(() => record(() => recordCall(outer, () => x.mul(2)), { onReturn: failing })).toThrow("mine")
  expect(names(record(() => x.mul(3)))).toHaveLength(1)
})
