import "../../tests/all-levers.ts"
import fc from "fast-check"
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { createModel, type SegmentationModel, type SegmentationOutput } from "../models/index.ts"
import { Conv2d, interpolate, Module, padToMultiple, softmax } from "../nn/index.ts"
import {
  aten,
  fromData,
  Generator,
  liveTensors,
  manualSeed,
  memory,
  noGrad,
  randn,
  resetPeakMemory,
  type Tensor,
  tidy,
} from "../torch/index.ts"
import { type InferenceOptions, type Segmentation, type SegmentOptions, segment } from "./segment.ts"

// --- models whose answers are known ------------------------------------------------------------------------------------

abstract class TestModel extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly stride: number = 1
  readonly logitLayers: readonly string[] = []
}

/** Sees nothing but the pixel itself, so that no window can change what it says. */
class Pointwise extends TestModel {
  readonly conv: Conv2d
  constructor(classes: number) {
    super()
    manualSeed(3)
    this.conv = new Conv2d(3, classes, 1)
    this.eval()
  }
  protected override forward(x: Tensor) {
    return { logits: this.conv.call(x) }
  }
}

/** Says the same of all that it sees: two classes, with logits 0 and the mean of the first channel. */
class Mean extends TestModel {
  protected override forward(x: Tensor) {
    const mean = x.narrow(1, 0, 1).mean({ dim: [2, 3], keepdim: true }) // [N, 1, 1, 1]
    return {
      logits: aten
        .cat([mean.mul(0), mean], { dim: 1 })
        .expand([x.size(0), 2, x.size(2), x.size(3)])
        .alias(),
    }
  }
}

/** Two classes, with logits 0 and the first channel's left neighbour; 0 at the left edge. */
class Left extends TestModel {
  protected override forward(x: Tensor) {
    const w = x.size(3)
    const left = aten.constant_pad_nd(x.narrow(1, 0, 1), [1, 0, 0, 0]).narrow(3, 0, w)
    return { logits: aten.cat([left.mul(0), left], { dim: 1 }) }
  }
}

const unet = (): SegmentationModel => {
  manualSeed(5)
  const model = createModel("unet", { numClasses: 4, width: 3, depth: 2 }).eval()
  using _ = noGrad()
  model.stateDict().get("head.weight")!.mul_(20) // what is not trained yet says nearly the same everywhere
  return model
}

// --- images and comparisons -----------------------------------------------------------------------------------------------

type Shape = readonly [n: number, h: number, w: number]
const noise = ([n, h, w]: Shape, seed = 8): Float32Array =>
  tidy(() => randn([n, 3, h, w], { generator: new Generator(seed) }).data() as Float32Array)

/** Left to right reversed. */
function mirror<T extends Float32Array | Uint8Array>(values: T, width: number): T {
  const out = values.slice() as T
  for (let row = 0; row < values.length; row += width) {
    for (let x = 0; x < width; x++) out[row + x] = values[row + width - 1 - x]!
  }
  return out
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), 0)
}

const everything = { confidence: true, probabilities: true } as const
type Found = Required<Segmentation>
const run = (model: SegmentationModel, images: Float32Array, shape: Shape, options: SegmentOptions = {}): Found =>
  segment(model, images, shape, { ...everything, ...options }) as Found

/** Labels may differ only where two classes are as probable but for rounding. */
function expectSameLabels(found: Found, whole: Found, tolerance: number): void {
  const pixels = found.labels.length
  for (const [i, label] of found.labels.entries()) {
    if (label === whole.labels[i]) continue
    const [a, b] = [whole.probabilities[label * pixels + i]!, whole.probabilities[whole.labels[i]! * pixels + i]!]
    expect(Math.abs(a - b)).toBeLessThan(tolerance)
  }
}

/** Float32 softmax, and a sum of shares that add up to 1 but for rounding. */
const ROUNDING = 1e-6
/** Between pixels: positions in float32, of noise. */
const BETWEEN = 2e-5

// --- plain ---------------------------------------------------------------------------------------------------------------

test("without options: the model's own logits, for labels, their probability and all probabilities", () => {
  using model = unet()
  const shape = [2, 21, 30] as const
  const images = noise(shape)
  const found = run(model, images, shape)
  tidy(() => {
    using _ = noGrad()
    const { logits } = model.call(fromData(images, [2, 3, 21, 30]))
    const p = softmax(logits, 1)
    expect(Array.from(found.labels, BigInt)).toEqual([...(aten.argmax(logits, { dim: 1 }).data() as BigInt64Array)])
    expect(found.probabilities).toEqual(p.data())
    expect(found.confidence).toEqual(p.max({ dim: 1 }).data())
  })
  expect(segment(model, images, shape)).toEqual({ labels: found.labels })
})

test.each<InferenceOptions>([
  { scales: [1] },
  { flip: false },
  { window: null },
  { window: [21, 30] },
  { window: [500, 500], overlap: 0.9 },
  { memory: 1 }, // this small, an image is not cut up
])("%o changes nothing", (options) => {
  using model = unet()
  const shape = [1, 21, 30] as const
  const images = noise(shape)
  expect(run(model, images, shape, options)).toEqual(run(model, images, shape))
})

// --- windows -------------------------------------------------------------------------------------------------------------

test("a model that sees single pixels says the same through any windows", () => {
  using model = new Pointwise(5)
  fc.assert(
    fc.property(
      fc.record({
        h: fc.integer({ min: 1, max: 40 }),
        w: fc.integer({ min: 1, max: 40 }),
        window: fc.tuple(fc.integer({ min: 2, max: 45 }), fc.integer({ min: 2, max: 45 })),
        overlap: fc.double({ min: 0, max: 0.8, noNaN: true }),
        scales: fc.constantFrom([1], [0.5], [0.75, 1.5], [0.4, 1, 2]),
        flip: fc.boolean(),
      }),
      ({ h, w, window, overlap, scales, flip }) => {
        const images = noise([1, h, w])
        const whole = run(model, images, [1, h, w], { scales, flip, window: null })
        const found = run(model, images, [1, h, w], { scales, flip, window, overlap })
        const tolerance = scales.every((scale) => scale === 1) ? ROUNDING : BETWEEN
        expect(largestDifference(found.probabilities, whole.probabilities)).toBeLessThan(tolerance)
        expect(largestDifference(found.confidence, whole.confidence)).toBeLessThan(tolerance)
        expectSameLabels(found, whole, tolerance)
      },
    ),
    { numRuns: 60 },
  )
})

test("a blend worked by hand", () => {
  using model = new Mean().eval()
  // Windows of 8 columns at 0 and 4. Columns hold 2 ln 3, 0 and -2 ln 3, four of each, so the windows' means are ln 3 and -ln 3,
  // and their probabilities of class 1 are 3/4 and 1/4. In column 5 the first has a share of 1 / (1 + e^-2), see windows.test.ts.
  const [h, w] = [3, 12]
  const images = new Float32Array(3 * h * w)
  for (let i = 0; i < h * w; i++) images[i] = 2 * Math.log(3) * (1 - Math.floor((i % w) / 4))
  const { probabilities, labels } = run(model, images, [1, h, w], { window: [8, 8], overlap: 0.5 })
  const share = 1 / (1 + Math.exp(-2))
  const expected = [0.75, 0.75, 0.75, 0.75, -1, share * 0.75 + (1 - share) * 0.25, -1, -1, 0.25, 0.25, 0.25, 0.25]
  for (let y = 0; y < h; y++) {
    for (const [x, value] of expected.entries()) {
      if (value >= 0) expect(probabilities[h * w + y * w + x]).toBeCloseTo(value, 6)
    }
  }
  expect([...labels.subarray(0, 12)]).toEqual([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
})

test("in both directions: each row and column of windows is asked once", () => {
  using model = new Mean().eval()
  const seen: [number, number][] = []
  const onProgress = (done: number, total: number) => void seen.push([done, total])
  segment(model, noise([1, 20, 12]), [1, 20, 12], { window: [8, 8], overlap: 0.5, onProgress })
  expect(seen).toEqual(Array.from({ length: 8 }, (_, k) => [k + 1, 8])) // 4 rows, 2 columns
})

// --- mirrored ------------------------------------------------------------------------------------------------------------

test("mirrored views come back the right way round: the left neighbour and the right one, by halves", () => {
  using model = new Left().eval()
  const [h, w] = [2, 7]
  const images = noise([1, h, w])
  const { probabilities } = run(model, images, [1, h, w], { flip: true })
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
  for (let i = 0; i < h * w; i++) {
    const left = i % w === 0 ? 0 : images[i - 1]!
    const right = i % w === w - 1 ? 0 : images[i + 1]!
    expect(probabilities[h * w + i]).toBeCloseTo((sigmoid(left) + sigmoid(right)) / 2, 6)
  }
})

test.each<InferenceOptions>([
  {},
  { scales: [0.5, 1, 1.3] },
  { window: [16, 13] },
  { window: [24, 16], overlap: 0.2, scales: [0.75, 1.5] },
])("with mirrored views %o the mirrored image has the mirrored answer", (options) => {
  using model = unet() // pads at the bottom and right, and sees shapes: by itself it would not
  const shape = [1, 37, 45] as const
  const images = noise(shape)
  const found = run(model, images, shape, { ...options, flip: true })
  const other = run(model, mirror(images, 45), shape, { ...options, flip: true })
  expect(largestDifference(mirror(other.probabilities, 45), found.probabilities)).toBeLessThan(1e-5)
  const alone = run(model, mirror(images, 45), shape, options)
  expect(largestDifference(mirror(alone.probabilities, 45), found.probabilities)).toBeGreaterThan(1e-3)
})

// --- several images, memory ------------------------------------------------------------------------------------------------

test("images of a batch are as each by itself", () => {
  using model = unet()
  const shape = [3, 23, 18] as const
  const images = noise(shape)
  const options = { scales: [0.75, 1], flip: true, window: [12, 12] } as const
  const together = run(model, images, shape, options)
  for (let k = 0; k < 3; k++) {
    const part = <T extends Float32Array | Uint8Array>(of: T): T =>
      of.subarray((k * of.length) / 3, ((k + 1) * of.length) / 3) as T
    const alone = run(model, part(images), [1, 23, 18], options)
    expect(part(together.labels)).toEqual(alone.labels)
    expect(largestDifference(part(together.confidence), alone.confidence)).toBeLessThan(ROUNDING)
    expect(largestDifference(part(together.probabilities), alone.probabilities)).toBeLessThan(ROUNDING)
  }
})

test("a batch that does not fit into memory is seen image by image, with the same result", () => {
  using model = new Pointwise(3)
  const shape = [3, 300, 400] as const
  const images = noise(shape)
  let windows = 0
  const options = { memory: 12 * 2 ** 20, onProgress: () => void windows++ }
  const found = run(model, images, shape, options)
  expect(windows).toBe(3)
  expect(found.labels).toEqual(run(model, images, shape).labels)
})

test("a large image is seen in windows, and memory stays within its bound", () => {
  using model = new Pointwise(21)
  const [h, w] = [1200, 1500] // logits of the whole: 151 MB
  const images = noise([1, h, w])
  const bound = 64 * 2 ** 20
  segment(model, noise([1, 600, 600]), [1, 600, 600]) // what the model takes is measured once, and begins the count anew
  const peakOf = (options: SegmentOptions) => {
    const before = memory().liveBytes
    resetPeakMemory()
    const { labels } = segment(model, images, [1, h, w], options)
    return { labels, bytes: memory().peakBytes - before }
  }
  let windows = 0
  const bounded = peakOf({ memory: bound, onProgress: () => void windows++ })
  expect(windows).toBeGreaterThan(4)
  expect(bounded.bytes).toBeLessThan(bound)
  expect(bounded.bytes).toBeGreaterThan(bound / 4) // and what it may take is used
  const whole = peakOf({ window: null })
  expect(whole.bytes).toBeGreaterThan(151e6)
  const different = bounded.labels.filter((label, i) => label !== whole.labels[i]).length
  expect(different).toBeLessThan(20) // of 1.8 million, where two classes are as probable but for rounding
})

test("nothing stays behind", () => {
  using model = unet()
  const images = noise([2, 30, 30])
  const options = { scales: [0.5, 1], flip: true, window: [16, 16], ...everything } as const
  segment(model, images, [2, 30, 30], options)
  const before = [liveTensors(), memory().liveBytes]
  segment(model, images, [2, 30, 30], options)
  expect([liveTensors(), memory().liveBytes]).toEqual(before)
  const failing = new (class extends Left {
    calls = 0
    protected override forward(x: Tensor) {
      if (this.calls++ === 3) throw new Error("the model's own")
      return super.forward(x)
    }
  })().eval()
  expect(() => segment(failing, images, [2, 30, 30], options)).toThrow("the model's own")
  expect([liveTensors(), memory().liveBytes]).toEqual(before)
})

// --- aligned corners ---------------------------------------------------------------------------------------------------------

test("with aligned corners an image is padded to where logits lie over its pixels, and the result cropped", () => {
  /** Logits at stride 4 of the pixels 0, 4, 8, ... themselves. */
  class Strided extends TestModel {
    override readonly stride = 4
    upsampleLogits = true
    alignCorners = true
    protected override forward(x: Tensor) {
      const value = padToMultiple(x, 4).narrow(1, 0, 1)
      const picked = aten.avg_pool2d(value, 1, { stride: 4 }) // [N, 1, ceil(H / 4), ceil(W / 4)]
      const logits = aten.cat([picked.mul(0), picked], { dim: 1 })
      const size = [x.size(2), x.size(3)] as const
      return { logits: this.upsampleLogits ? aten.upsample_bilinear2d(logits, size, true) : logits }
    }
  }
  using model = new Strided().eval()
  const [h, w] = [6, 11] // seen as 9 x 13
  const ramp = Float32Array.from({ length: 3 * h * w }, (_, i) => (i < h * w ? (i % w) / 4 : 0))
  for (const options of [{}, { window: [5, 9] as const }]) {
    const { probabilities } = run(model, ramp, [1, h, w], options)
    // Linear between the picked pixels 0, 4 and 8; to the right of them come the zeros of the padding.
    for (let x = 0; x <= 8; x++) expect(probabilities[h * w + x]).toBeCloseTo(1 / (1 + Math.exp(-x / 4)), 5)
  }
})

// --- refused -----------------------------------------------------------------------------------------------------------------

test.each<[InferenceOptions, RegExp]>([
  [{ scales: [] }, /^scales: got none; expected different factors/],
  [{ scales: [1, 0] }, /^scales: got 1,0;/],
  [{ scales: [1, 1] }, /^scales: got 1,1;/],
  [{ scales: [Number.NaN] }, /^scales: got NaN;/],
  [{ window: [0, 5] }, /^window: got 0,5; expected height and width in whole pixels/],
  [{ window: [5.5, 5] }, /^window: got 5.5,5;/],
  [{ overlap: 1 }, /^overlap: got 1; expected the share .* from 0 to below 1/],
  [{ overlap: -0.1 }, /^overlap: got -0.1;/],
  [{ window: null, overlap: 0.5 }, /^overlap: got 0.5; expected none, since whole images have no windows/],
  [{ memory: 0 }, /^memory: got 0; expected bytes, above 0/],
])("%o is refused", (options, message) => {
  using model = new Left().eval()
  const attempt = () => segment(model, noise([1, 4, 4]), [1, 4, 4], options)
  expect(attempt).toThrow(UserError)
  expect(attempt).toThrow(message)
})

test("a model in training mode, and values that are not those of the shape, are refused", () => {
  using model = new Left()
  expect(() => segment(model, noise([1, 4, 4]), [1, 4, 4])).toThrow("call model.eval() first")
  model.eval()
  expect(() => segment(model, noise([1, 4, 4]), [1, 4, 5])).toThrow("got 48 values, expected [1, 3, 4, 5]")
})

/** Sees every fourth pixel, and enlarges what it says. */
class Coarse extends TestModel {
  override readonly stride = 4
  upsampleLogits = true
  readonly alignCorners: boolean
  readonly conv: Conv2d
  constructor(classes: number, alignCorners: boolean) {
    super()
    this.alignCorners = alignCorners
    this.conv = new Conv2d(3, classes, 1)
    this.eval()
  }
  protected override forward(x: Tensor) {
    const logits = this.conv.call(aten.avg_pool2d(x, 1, { stride: 4 }))
    const { alignCorners } = this
    return { logits: this.upsampleLogits ? interpolate(logits, [x.size(2), x.size(3)], { alignCorners }) : logits }
  }
}

test.each([false, true])(
  "labels alone, without the logits of all pixels, are the most probable classes, corners aligned: %s",
  (alignCorners) => {
    manualSeed(7)
    const classes = 9
    using model = new Coarse(classes, alignCorners)
    const [n, h, w] = [2, 45, 38] // aligned corners want 41 columns
    const images = tidy(() => randn([n, 3, h, w]).data() as Float32Array)
    const { labels } = segment(model, images, [n, h, w])
    const probabilities = segment(model, images, [n, h, w], { probabilities: true }).probabilities!
    let lacking = 0 // of the largest probability
    for (const [pixel, label] of labels.entries()) {
      const first = pixel + (classes - 1) * h * w * Math.floor(pixel / (h * w)) // where the pixel's first probability stands
      const all = Array.from({ length: classes }, (_, k) => probabilities[first + k * h * w]!)
      lacking = Math.max(lacking, Math.max(...all) - all[label]!)
    }
    expect(lacking).toBeLessThan(1e-6) // rounding
    expect(new Set(labels).size).toBeGreaterThan(4)
  },
)
