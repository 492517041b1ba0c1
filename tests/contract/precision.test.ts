// What every registered model must hold in bfloat16: it runs, forward and backward, and is float32's but for rounding.
import "../all-levers.ts"
import { describe, expect, test } from "vitest"
import { crossEntropy } from "../../src/losses/index.ts"
import {
  callAtStride,
  callIn,
  createModel,
  type ModelEntry,
  type ModelOptions,
  models,
} from "../../src/models/index.ts"
import { BatchNorm2d, Conv2d, init, ReLU6, Sequential } from "../../src/nn/index.ts"
import { isAllFinite } from "../../src/optim/index.ts"
import {
  aten,
  autocast,
  full,
  Generator,
  levers,
  manualSeed,
  noGrad,
  type Parameter,
  type Precision,
  randint,
  randn,
  type Tensor,
  tidy,
} from "../../src/torch/index.ts"

type Case = Partial<ModelOptions> & { readonly model: string }

const cases: Record<string, Case> = {
  ...Object.fromEntries(Object.entries<ModelEntry>(models).map(([model, { small }]) => [model, { model, ...small }])),
  "unet mobilenet_v2": { model: "unet", encoder: "mobilenet_v2_0.35" },
  "deeplabv3 mobilenet_v3_small": { model: "deeplabv3", encoder: "mobilenet_v3_small" },
  "fcn squeezenet1_1": { model: "fcn", encoder: "squeezenet1_1" },
  "unet, pyramid": { model: "unet", width: 3, depth: 2, imagePyramid: [0.75, 1] },
}

/**
 * Of the lengths of difference and truth. Each layer rounds by 2^-9, 0.2 %, and there are tens of them. SegNet's maxima are at other
 * places when two numbers have become equal, and what it enlarges then goes elsewhere.
 */
const limits = (model: string) =>
  model === "segnet" ? { logits: 0.2, gradient: 0.5 } : { logits: 0.02, gradient: 0.15 }

const sumOfSquares = (tensors: readonly Tensor[]): number =>
  tidy(() => tensors.reduce((sum, tensor) => sum + tensor.pow(2).sum().item(), 0))

function error(got: readonly Tensor[], exact: readonly Tensor[]): number {
  return tidy(() => Math.sqrt(sumOfSquares(got.map((tensor, k) => tensor.sub(exact[k]!))) / sumOfSquares(exact)))
}

const gradientsOf = (parameters: readonly Parameter[]): Tensor[] => parameters.flatMap(({ grad }) => grad ?? [])

describe.each(Object.entries(cases))("%s", (_, { model: name, ...options }) => {
  test.each(["contiguous", "channels_last"] as const)("%s", (memoryFormat) => {
    tidy(() => {
      manualSeed(1)
      const model = createModel(name, { numClasses: 3, ...options }).to({ memoryFormat })
      using _ = { [Symbol.dispose]: () => model.dispose() }
      for (const layer of model.logitLayers) {
        using _ = noGrad()
        init.normal_(model.stateDict().get(`${layer}.weight`)!, 0, 0.1) // some begin with 0
      }
      const image = randn([2, 3, 65, 49], { generator: new Generator(2) })
      const labels = randint(0, 3, [2, 65, 49], { generator: new Generator(3) })
      const outcome = (precision: Precision) => {
        model.zeroGrad()
        const { logits } = callIn(precision, model, image)
        crossEntropy(logits, labels).backward()
        return { logits: [logits], gradient: gradientsOf(model.parameters()) }
      }
      // With the batch's own statistics, of few pixels and random weights, float32 itself is chaotic: it runs, no more is said.
      const trained = outcome("bfloat16")
      for (const tensor of [...trained.logits, ...trained.gradient]) {
        expect(tensor.dtype).toBe("float32")
        expect(isAllFinite(tensor)).toBe(true)
      }
      model.eval()
      const [got, exact] = [outcome("bfloat16"), outcome("float32")]
      for (const what of ["logits", "gradient"] as const) {
        const by = error(got[what], exact[what])
        expect(by, what).toBeLessThan(limits(name)[what])
        expect(by, what).toBeGreaterThan(1e-4) // else nothing ran in bfloat16
      }
      expect(callAtStride(model, image, "bfloat16").logits.dtype).toBe("float32")
    })
  })
})

test.each([3, "same"] as const)("taps that meet no pixel have the gradient 0 (padding %s)", (padding) => {
  tidy(() => {
    const conv = new Conv2d(512, 16, 7, { padding })
    for (let k = 0; k < 5; k++) {
      tidy(() => {
        for (const size of [16, 18, 20, 22]) tidy(() => Array.from({ length: 20 }, () => full([2 ** size], Number.NaN)))
        conv.zeroGrad()
        const y = autocast({ dtype: "bfloat16" }, () => conv.call(randn([2, 512, 2, 1])))
        y.sum().backward()
        expect(aten.isfinite(conv.weight.grad!).all().item()).toBe(1)
        expect(conv.weight.grad!.at("...", 0, 0).abs().max().item()).toBe(0)
      })
    }
    conv.dispose()
  })
})

test.each([true, false])("batch-norm and ReLU6 have gradients (as one operator: %s)", (fuseBatchNorm) => {
  const before = levers.fuseBatchNorm
  levers.fuseBatchNorm = fuseBatchNorm
  try {
    tidy(() => {
      using layers = new Sequential(new Conv2d(3, 8, 3), new BatchNorm2d(8), new ReLU6())
      const y = autocast({ dtype: "bfloat16" }, () => layers.call(randn([2, 3, 9, 9])))
      expect(y.dtype).toBe("bfloat16")
      y.mul(y).sum().backward()
      for (const { grad } of layers.parameters()) expect(isAllFinite(grad!)).toBe(true)
    })
  } finally {
    levers.fuseBatchNorm = before
  }
})
