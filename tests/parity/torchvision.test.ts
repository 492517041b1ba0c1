// Our networks against torchvision's (torchvision.py), each filled with the same weights: state-dict keys in the same order,
// outputs in evaluation and training, gradients and running statistics.
import "../all-levers.ts"
import { createHash } from "node:crypto"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  createClassifier,
  createModel,
  DeepLabV3,
  type Encoder,
  encoderNames,
  presets,
  type SegmentationOutput,
} from "../../src/models/index.ts"
import { type AnyModule, Conv2d, Dropout, init, Module } from "../../src/nn/index.ts"
import {
  arange,
  aten,
  manualSeed,
  noGrad,
  ones,
  randn,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "../../src/torch/index.ts"
import { expectClose, Golden, goldenJson } from "./golden.ts"

// Float32 rounding of up to 104 convolutions one after another, relative to the largest entry. Measured: 1.5e-6. Training
// steps are computed in float64, see torchvision.py, and compared with float32: 6e-8.
const TOLERANCE = 1e-5

interface Keys {
  count: number
  sha256: string
}
interface Spec {
  kind: "classifier" | "segmentation"
  /** Mean of batch-norm's weights. */
  gain: number
  keys: Keys
  auxKeys?: Keys
}
const { seed, classes, models } = goldenJson("torchvision") as {
  seed: number
  classes: number
  models: Record<string, Spec>
}
const golden = new Golden("torchvision")

/** torchvision.py's: the same numbers from the same seed. Drawn row by row, whatever the model's memory format. */
function fill(model: AnyModule, gain: number): void {
  manualSeed(seed)
  tidy(() => {
    using _ = noGrad()
    for (const [key, own] of model.stateDict()) {
      const tensor = zeros(own.shape, { dtype: own.dtype })
      if (tensor.ndim > 1) init.normal_(tensor, 0, Math.sqrt((2 * tensor.size(0)) / tensor.numel))
      else if (key.endsWith("running_var")) init.uniform_(tensor, 0.5, 1.5)
      else if (key.endsWith("weight")) init.uniform_(tensor, 0.5 * gain, 1.5 * gain)
      else if (tensor.dtype !== "int64") init.normal_(tensor, 0, 0.1)
      own.copy_(tensor)
    }
  })
}

function keysOf(model: AnyModule): Keys {
  const lines = [...model.stateDict()].map(([key, { shape }]) => `${key} [${shape.join(", ")}]\n`)
  return { count: lines.length, sha256: createHash("sha256").update(lines.join("")).digest("hex") }
}

function image(n: number, h: number, w: number, channels = 3): Tensor {
  manualSeed(n * h * w)
  return randn([n, channels, h, w])
}

function create(name: string, { kind }: Spec, { aux = true } = {}): AnyModule {
  const [encoder, padding] = name.split(" ") as [string, "tensorflow"?]
  if (kind === "classifier") return createClassifier(encoder, { numClasses: classes, padding })
  return createModel(name, { numClasses: classes, ...(!name.startsWith("lraspp") && { aux }) })
}

/** By torchvision's names of them. */
function outputs(result: Tensor | SegmentationOutput): Record<string, Tensor> {
  if (!("logits" in result)) return { out: result }
  return { out: result.logits, ...(result.aux && { aux: result.aux }) }
}

describe.each(Object.entries(models))("%s", (name, spec) => {
  let model: AnyModule
  beforeAll(() => {
    model = create(name, spec)
    fill(model, spec.gain)
    for (const [, module] of model.namedModules()) if (module instanceof Dropout) module.train(false)
  })
  afterAll(() => model.dispose())

  test("state dict: torchvision's keys and shapes, in its order", () => {
    expect(keysOf(model)).toEqual(spec.auxKeys ?? spec.keys)
  })

  const found = golden.under(`${name}/`)
  const sizes = new Set([...found.keys()].flatMap((key) => /^eval (\d+ \d+)/.exec(key)?.[1] ?? []))
  test.each([...sizes])("eval mode, %s", (size) => {
    model.eval()
    const [h, w] = size.split(" ").map(Number) as [number, number]
    tidy(() => {
      using _ = noGrad()
      const result = outputs(model.call(image(1, h, w)))
      expect(Object.keys(result)).toEqual([...golden.under(`${name}/eval ${size}/`).keys()])
      for (const [key, value] of Object.entries(result)) {
        expectClose(value, golden.get(`${name}/eval ${size}/${key}`), TOLERANCE, `${size} ${key}`)
      }
    })
  })

  test("a training step: outputs, gradients, running statistics", () => {
    // VGG is too large for float64; in float32 another processor's sums (AVX-512 here, AVX2 in the goldens) are off by 2.6e-5.
    const [dtype, tolerance] = name === "vgg16_bn" ? (["float32", 1e-4] as const) : (["float64", 1e-6] as const)
    model.train().to({ dtype })
    for (const [, module] of model.namedModules()) if (module instanceof Dropout) module.train(false)
    const [n, h, w] = trainShape(name, spec)
    tidy(() => {
      const result = outputs(model.call(image(n, h, w).to({ dtype })))
      const terms = Object.values(result).map((value) => value.mul(cotangent(value)).mean())
      terms.reduce((sum, term) => sum.add(term)).backward()
      for (const [key, value] of Object.entries(result)) {
        expectClose(value, golden.get(`${name}/train/${key}`), tolerance, key)
      }
      const parameters = new Map(model.namedParameters())
      const gradients = golden.under(`${name}/grad `)
      expect(gradients.size).toBeGreaterThan(4)
      for (const [key, gradient] of gradients) {
        expectClose(parameters.get(key)!.grad, gradient, tolerance, `gradient of ${key}`)
      }
      const buffers = new Map(model.namedBuffers())
      for (const [key, buffer] of golden.under(`${name}/buffer `)) {
        expectClose(buffers.get(key)!, buffer, tolerance, key)
      }
    })
  })
})

function trainShape(name: string, { kind }: Spec): [number, number, number] {
  if (name.endsWith("tensorflow")) return [2, 50, 65]
  return kind === "classifier" ? [2, 65, 70] : [2, 17, 23]
}

const cotangent = ({ shape, numel }: Tensor): Tensor =>
  aten.cos(arange(numel, { dtype: "float64" }).mul(0.7)).view(shape)

test("every preset and every encoder is compared", () => {
  expect(Object.keys(models)).toEqual(expect.arrayContaining([...Object.keys(presets), ...encoderNames]))
})

const withAux = Object.entries(models).filter(([, { auxKeys }]) => auxKeys)
test.each(withAux)("%s without its auxiliary head: no keys, no output, the same logits", (name, spec) => {
  using model = create(name, spec, { aux: false }).eval()
  expect(keysOf(model)).toEqual(spec.keys)
  fill(model, spec.gain) // the auxiliary head's entries would be the last
  tidy(() => {
    using _ = noGrad()
    const result = outputs(model.call(image(1, 17, 23)))
    expect(Object.keys(result)).toEqual(["out"])
    expectClose(result.out!, golden.get(`${name}/eval 17 23/out`), TOLERANCE, "logits")
  })
})

/** Its map is the image itself. */
class NoEncoder extends Module<[Tensor], Tensor[]> implements Encoder {
  readonly channels: readonly number[]
  readonly strides: readonly number[]

  constructor(channels: number, stride: number) {
    super()
    this.channels = [channels, channels]
    this.strides = [stride, stride]
  }

  layersOf(): readonly Module[] {
    return []
  }

  protected override forward(image: Tensor): Tensor[] {
    return this.channels.map(() => image.alias())
  }
}

// The models above see maps so small that of ASPP's 3x3 convolutions only the middle tap is inside.
test("DeepLabV3's head at output stride 8, on a map of 40x40 pixels", () => {
  using model = tidy(() => new DeepLabV3(new NoEncoder(8, 8), { numClasses: classes })).eval()
  fill(model, 1)
  tidy(() => {
    using _ = noGrad()
    const { logits } = model.call(image(1, 40, 40, 8))
    expectClose(logits, golden.get("DeepLabHead"), TOLERANCE, "logits")
  })
})

// By hand: 1 2 3 4 and the kernel 1 1 1 at every 2nd pixel. Four pixels need one more: TensorFlow puts it at the end,
// symmetric padding at both, and the outputs stand one pixel further left. Five need two, and both agree.
test.each([
  [[1, 2, 3, 4], "same", [1 + 2 + 3, 3 + 4 + 0]],
  [[1, 2, 3, 4], 1, [0 + 1 + 2, 2 + 3 + 4]],
  [[1, 2, 3, 4, 5], "same", [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 0]],
  [[1, 2, 3, 4, 5], 1, [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 0]],
  [[1], "same", [1]],
] as const)("a 3x3 convolution with stride 2 of %o, padding %s", (row, padding, expected) => {
  for (const axis of ["height", "width"] as const) {
    const conv = new Conv2d(1, 1, axis === "width" ? [1, 3] : [3, 1], {
      stride: axis === "width" ? [1, 2] : [2, 1],
      padding: padding === 1 ? (axis === "width" ? [0, 1] : [1, 0]) : padding,
      bias: false,
    })
    conv.weight.setData(ones(conv.weight.shape))
    const line = tensor([...row])
    const x = line.view(axis === "width" ? [1, 1, 1, row.length] : [1, 1, row.length, 1])
    expect([...(conv.call(x).data() as Float32Array)]).toEqual([...expected])
  }
})
