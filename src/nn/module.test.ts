import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { liveTensors, ones, Parameter, StateBuffer, type Tensor, tensor, tidy, zeros } from "../torch/index.ts"
import { BatchNorm2d, Conv2d, Dropout, Module, ReLU, Sequential } from "./index.ts"

class Net extends Module {
  readonly stem = new Conv2d(3, 2, 1)
  readonly blocks = [new Sequential(new Conv2d(2, 2, 1, { bias: false }), new ReLU()), new BatchNorm2d(2)]
  readonly scale = new Parameter(tensor([2]))
  readonly count = new StateBuffer(zeros([1]))
  readonly note = "not a module"

  protected override forward(x: Tensor): Tensor {
    let y = this.stem.call(x)
    for (const block of this.blocks) y = block.call(y)
    return y.mul(this.scale)
  }
}

test("names: fields, positions in arrays, and no more; own tensors before those of children", () => {
  using net = new Net()
  expect(Array.from(net.namedModules(), ([name]) => name)).toEqual([
    "",
    "stem",
    "blocks.0",
    "blocks.0.0",
    "blocks.0.1",
    "blocks.1",
  ])
  expect([...net.stateDict().keys()]).toEqual([
    "scale",
    "count",
    "stem.weight",
    "stem.bias",
    "blocks.0.0.weight",
    "blocks.1.weight",
    "blocks.1.bias",
    "blocks.1.running_mean",
    "blocks.1.running_var",
    "blocks.1.num_batches_tracked",
  ])
  expect(Array.from(net.namedBuffers(), ([name]) => name)).toEqual([
    "count",
    "blocks.1.running_mean",
    "blocks.1.running_var",
    "blocks.1.num_batches_tracked",
  ])
  expect(net.parameters()).toHaveLength(6)
})

test("a shared parameter is in the state under both names, and comes once to an optimizer", () => {
  const shared = new Conv2d(1, 1, 1)
  using net = new Sequential(shared, new ReLU(), shared)
  expect([...net.stateDict().keys()]).toEqual(["0.weight", "0.bias", "2.weight", "2.bias"])
  expect(Array.from(net.namedParameters(), ([name]) => name)).toEqual(["0.weight", "0.bias"])
})

test("a state dict carries over, values and all", () => {
  using a = new Net()
  using b = new Net()
  a.blocks[1]?.call(tensor([[[[1, 2]], [[3, 5]]]]))
  expect(b.stem.weight.data()).not.toEqual(a.stem.weight.data())
  b.loadStateDict(a.stateDict())
  for (const [name, value] of a.stateDict()) expect(b.stateDict().get(name)?.data(), name).toEqual(value.data())
  expect(b.stem.weight.requiresGrad).toBe(true)
})

test("a state dict that does not fit changes nothing, and says all that is wrong", () => {
  using net = new Net()
  const before = net.stem.weight.data()
  const state = new Map(net.stateDict())
  state.delete("scale")
  state.set("stem.weight", ones([2, 4, 1, 1]))
  state.set("head.weight", ones([1]))
  state.set("stem.bias", ones([2]))
  expect(() => net.loadStateDict(state)).toThrow(UserError)
  expect(() => net.loadStateDict(state)).toThrow(
    [
      "The state dict does not fit Net: 1 of 10 keys missing, 1 unexpected, 1 of another shape.",
      "  missing scale float32[1];",
      "  unexpected head.weight float32[1];",
      "  stem.weight is float32[2, 4, 1, 1], expected float32[2, 3, 1, 1].",
    ].join("\n"),
  )
  expect(net.stem.weight.data()).toEqual(before)
  expect(net.stem.bias?.data()).not.toEqual(Float32Array.of(1, 1))
})

test("num_batches_tracked may be missing, and keeps its value; nothing else may", () => {
  using a = new Net()
  using b = new Net()
  for (const net of [a, b]) net.blocks[1]?.call(ones([1, 2, 2, 2]))
  const state = new Map(a.stateDict())
  state.delete("blocks.1.num_batches_tracked")
  b.loadStateDict(state)
  expect(b.stateDict().get("blocks.1.num_batches_tracked")?.item()).toBe(1)
  expect(b.stem.weight.data()).toEqual(a.stem.weight.data())
  state.delete("blocks.1.running_mean")
  expect(() => b.loadStateDict(state)).toThrow(/1 of 10 keys missing.*missing blocks\.1\.running_mean float32\[2\]/s)
})

test("a state dict of another floating-point type is converted", () => {
  using net = new Net()
  const half = new Map(Array.from(net.stateDict(), ([name, x]) => [name, x.to({ dtype: "float16" })]))
  net.loadStateDict(half)
  expect(net.stem.weight.dtype).toBe("float32")
  expect(net.stem.weight.to({ dtype: "float16" }).data()).toEqual(half.get("stem.weight")?.data())
})

test("train() and eval() reach every module", () => {
  using net = new Sequential(new Net(), new Sequential(new Dropout()))
  const modes = () => new Set(Array.from(net.namedModules(), ([, module]) => module.training))
  expect(modes()).toEqual(new Set([true]))
  net.eval()
  expect(modes()).toEqual(new Set([false]))
  net.train()
  expect(modes()).toEqual(new Set([true]))
})

test("a frozen parameter gets no gradient; zeroGrad() forgets the others'", () => {
  using net = new Net()
  net.stem.requiresGrad_(false)
  tidy(() => {
    net
      .call(ones([2, 3, 2, 2]))
      .sum()
      .backward()
    expect(net.stem.weight.grad).toBeNull()
    expect(net.scale.grad).not.toBeNull()
    net.zeroGrad()
    expect(net.scale.grad).toBeNull()
  })
})

test("call() frees what forward made, also when it throws", () => {
  using net = new Net()
  using x = ones([2, 3, 2, 2])
  net.call(x).dispose()
  const before = liveTensors()
  const y = net.call(x)
  expect(liveTensors()).toBe(before + 1)
  y.dispose()
  using wrong = ones([2, 4, 2, 2])
  const live = liveTensors()
  expect(() => net.call(wrong)).toThrow(/weight.*float32\[2, 3, 1, 1\]/)
  expect(liveTensors()).toBe(live)
})

test("parameters made inside a tidy() live on, until the module is disposed", () => {
  const before = liveTensors()
  const net = tidy(() => {
    const made = new Net()
    return { made }
  }).made
  expect(liveTensors()).toBe(before + 10)
  net.call(ones([2, 3, 2, 2])).dispose()
  net.dispose()
  net.dispose()
  expect(() => net.call(ones([2, 3, 2, 2]))).toThrow(/was disposed/)
})

test("to() moves parameters and floating-point buffers; what is shared or frozen stays so", () => {
  using net = new Net()
  net.stem.requiresGrad_(false)
  const before = net.stem.weight
  const values = Float64Array.from(before.data() as Float32Array)
  const live = liveTensors()
  net.to({ dtype: "float64" })
  expect(liveTensors()).toBe(live)
  expect(net.stem.weight.data()).toEqual(values)
  expect([net.stem.weight.requiresGrad, net.scale.requiresGrad]).toEqual([false, true])
  expect(net.stem.weight).toBe(before) // an optimizer that holds it goes on
  expect(new Set(Array.from(net.stateDict().values(), ({ dtype }) => dtype))).toEqual(new Set(["float64", "int64"]))
  expect(net.call(ones([2, 3, 2, 2], { dtype: "float64" })).dtype).toBe("float64")

  const layer = new Conv2d(1, 1, 1)
  using twice = new Sequential(layer, layer).to({ dtype: "float64" })
  expect(twice.parameters()).toHaveLength(2)
})

test("an empty Sequential hands on what it got, as a fresh tensor", () => {
  const x = ones([1])
  const y = new Sequential().call(x)
  expect(y).not.toBe(x)
  x.dispose()
  expect(y.data()).toEqual(Float32Array.of(1))
})
