// autocast(): where it begins and ends, and what our own operators do inside. What it does to models: tests/contract/precision.test.ts.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import {
  aten,
  autocast,
  buildInfo,
  depthwiseConv2d,
  grad,
  manualSeed,
  noGrad,
  Parameter,
  precisionNotice,
  randint,
  randn,
  type Tensor,
  tidy,
  upsampledCrossEntropy,
} from "./index.ts"

const convolved = (): string => tidy(() => aten.conv2d(randn([1, 2, 4, 4]), randn([3, 2, 1, 1])).dtype)
const sideBySide = (x: Tensor): Tensor => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
const relative = (got: Tensor, exact: Tensor): number => got.sub(exact).abs().max().item() / exact.abs().max().item()

test("convolutions are bfloat16 inside and float32 outside, also after an error; float32 inside switches it off", () => {
  const outer = autocast({ dtype: "bfloat16" }, () => {
    const inner = autocast({ dtype: "float32" }, convolved)
    expect(() =>
      autocast({ dtype: "float32" }, () => {
        throw new RangeError("inside")
      }),
    ).toThrow(RangeError)
    return [convolved(), inner]
  })
  expect(outer).toEqual(["bfloat16", "float32"])
  expect(convolved()).toBe("float32")
  expect(() => autocast({ dtype: "bfloat16" }, () => aten.conv2d(randn([1, 2, 4, 4]), randn([3, 5, 1, 1])))).toThrow()
  expect(convolved()).toBe("float32")
})

test("weights and their gradients stay float32, and a weight that was changed in between is seen", () => {
  tidy(() => {
    const weight = new Parameter(randn([1, 1, 1, 1]))
    const x = randn([1, 1, 1, 1]).fill_(1)
    const forward = () => autocast({ dtype: "bfloat16" }, () => aten.conv2d(x, weight))
    forward().sum().backward()
    expect([weight.dtype, weight.grad!.dtype]).toEqual(["float32", "float32"])
    expect(weight.grad!.item()).toBe(1)
    using _ = noGrad()
    weight.fill_(3)
    expect(forward().item()).toBe(3)
  })
})

test("a Promise is refused, and so is float16 on the CPU, in words", async () => {
  expect(() => autocast({ dtype: "bfloat16" }, async () => {})).toThrow(TypeError)
  expect(convolved()).toBe("float32")
  const float16 = () => autocast({ dtype: "float16" }, convolved)
  expect(float16).toThrow(UserError)
  expect(float16).toThrow("precision is float16, which libtorch computes on CUDA only, and the device is cpu")
})

test("a notice where the processor has no instructions for bfloat16", () => {
  const text = precisionNotice("bfloat16", "cpu")
  if (buildInfo().bfloat16 === null) expect(text).toContain("slower than with float32")
  else expect(text).toBeNull()
  expect(precisionNotice("float32", "cpu")).toBeNull()
})

test("the loss of bfloat16 logits is computed in float32, its gradient rounded once", () => {
  manualSeed(1)
  tidy(() => {
    const logits = randn([2, 5, 6, 7]).to({ dtype: "bfloat16" }).requiresGrad_()
    const wide = logits.detach().to({ dtype: "float32" }).requiresGrad_()
    const target = randint(0, 5, [2, 24, 28])
    const [loss, expected] = [upsampledCrossEntropy(logits, target), upsampledCrossEntropy(wide, target)]
    expect(loss.dtype).toBe("float32")
    expect(loss.data()).toEqual(expected.data())
    const [got] = grad([loss.sum()], [logits])
    const [exact] = grad([expected.sum()], [wide])
    expect(got!.data()).toEqual(exact!.to({ dtype: "bfloat16" }).data())
  })
})

test("a depthwise convolution of bfloat16 is float32's, rounded once", () => {
  manualSeed(2)
  tidy(() => {
    const x = sideBySide(randn([2, 8, 9, 11]))
      .to({ dtype: "bfloat16" })
      .requiresGrad_()
    const weight = randn([8, 1, 3, 3]).requiresGrad_()
    const options = { padding: [2, 2, 2, 2], dilation: [2, 2] } as const
    const wide = x.detach().to({ dtype: "float32" }).requiresGrad_()
    const [y, exact] = [
      autocast({ dtype: "bfloat16" }, () => depthwiseConv2d(x, weight, options)),
      depthwiseConv2d(wide, weight, options),
    ]
    expect(y.data()).toEqual(exact.to({ dtype: "bfloat16" }).data())
    const [dx, dweight] = grad([y.to({ dtype: "float32" }).sum()], [x, weight])
    const [exactDx, exactDweight] = grad([exact.sum()], [wide, weight])
    expect(dx!.data()).toEqual(exactDx!.to({ dtype: "bfloat16" }).data())
    expect(relative(dweight!, exactDweight!)).toBeLessThan(1e-6)
  })
})
