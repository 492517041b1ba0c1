import { expect, test } from "vitest"
import { interpolate } from "../nn/index.ts"
import { aten, Generator, manualSeed, noGrad, randn, type Tensor, tidy } from "../torch/index.ts"
import { callAtStride, createModel, type ModelOptions, type SegmentationModel } from "./index.ts"

const create = (options: Partial<ModelOptions> = {}, name = "lraspp"): SegmentationModel => {
  manualSeed(4)
  return createModel(name, { numClasses: 3, encoder: "mobilenet_v2_0.35", ...options }).eval()
}
const image = () => randn([2, 3, 48, 64], { generator: new Generator(8) })
const values = (t: Tensor) => Array.from(t.data() as Float32Array)

test("logits of each scale by themselves, enlarged to the largest and merged", () => {
  using plain = create()
  for (const pyramidMerge of ["max", "average"] as const) {
    using model = create({ imagePyramid: [0.5, 1, 1.5], pyramidMerge })
    tidy(() => {
      using _ = noGrad()
      const x = image()
      const maps = [interpolate(x, [24, 32]), x, interpolate(x, [72, 96])].map(
        (each) => callAtStride(plain, each).logits,
      )
      const size = [maps[2]!.size(2), maps[2]!.size(3)] as const
      const same = maps.map((map) => interpolate(map, size))
      const stack = aten.stack(same)
      const merged = pyramidMerge === "max" ? aten.amax(stack, { dim: [0] }) : stack.mean({ dim: [0] })
      const own = callAtStride(model, x).logits
      expect(own.shape).toEqual(merged.shape)
      expect(own.sub(merged).abs().max().item()).toBeLessThan(1e-6 * merged.abs().max().item())
      expect(values(model.call(x).logits)).toEqual(values(interpolate(own, [48, 64])))
    })
  }
})

test("one scale is the model alone, to the bit; it has no loss of its own", () => {
  using plain = create()
  using model = create({ imagePyramid: [1] })
  tidy(() => {
    using _ = noGrad()
    const x = image()
    expect(values(model.call(x).logits)).toEqual(values(plain.call(x).logits))
    expect(Object.keys(model.train().call(x))).toEqual(["logits"])
  })
})

test("in training the logits of each scale come too, of the merged ones' size; auxiliary ones only merged", () => {
  using model = create({ imagePyramid: [0.5, 0.75, 1], encoder: "resnet18", aux: true }, "fcn")
  tidy(() => {
    using _ = noGrad()
    const x = image()
    expect(Object.keys(model.call(x))).toEqual(["logits", "aux"])
    const { logits, aux, scales } = callAtStride(model.train(), x)
    expect(scales!.map(({ shape }) => shape)).toEqual([logits.shape, logits.shape, logits.shape])
    expect(aux!.shape).toEqual(logits.shape)
    const largest = aten.amax(aten.stack(scales!), { dim: [0] })
    expect(values(logits)).toEqual(values(largest))
  })
  model.dropAuxiliary?.()
  expect([...model.stateDict().keys()].filter((key) => key.startsWith("aux"))).toEqual([])
})

test("where all scales are below 1, they are merged at the size of the image's own map", () => {
  using plain = create()
  using model = create({ imagePyramid: [0.5, 0.75] })
  for (const size of [
    [48, 64],
    [65, 97],
  ] as const) {
    tidy(() => {
      using _ = noGrad()
      const x = randn([1, 3, ...size])
      expect(callAtStride(model, x).logits.shape).toEqual(callAtStride(plain, x).logits.shape)
    })
  }
})

test("with aligned corners everything is resized that way: pictures, maps, and logits at the end", () => {
  using plain = create({ alignCorners: true })
  using model = create({ imagePyramid: [0.5, 1], alignCorners: true })
  tidy(() => {
    using _ = noGrad()
    const x = image()
    const aligned = { alignCorners: true }
    const whole = callAtStride(plain, x).logits
    const size = [whole.size(2), whole.size(3)] as const
    const half = interpolate(callAtStride(plain, interpolate(x, [24, 32], aligned)).logits, size, aligned)
    expect(values(plain.call(x).logits)).toEqual(values(interpolate(whole, [48, 64], aligned)))
    expect(values(model.call(x).logits)).toEqual(values(interpolate(aten.maximum(whole, half), [48, 64], aligned)))
  })
})

test("the state dict is the model's", () => {
  using plain = create()
  using model = create({ imagePyramid: [0.5, 1] })
  expect([...model.stateDict().keys()]).toEqual([...plain.stateDict().keys()])
  expect(Array.from(model.namedParameters(), ([name]) => name)).toEqual(
    Array.from(plain.namedParameters(), ([name]) => name),
  )
  expect(model.backbone).toBeDefined()
})
