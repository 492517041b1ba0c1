// Averages over scales, mirrored views and windows against PyTorch (inference.py), with the same network and weights.
import "../all-levers.ts"
import { expect, test } from "vitest"
import { segment } from "../../src/infer/segment.ts"
import type { SegmentationModel, SegmentationOutput } from "../../src/models/index.ts"
import { Conv2d, interpolate, Module } from "../../src/nn/index.ts"
import { aten, fromData, type Tensor } from "../../src/torch/index.ts"
import { expectClose, Golden } from "./golden.ts"

/** Net of inference.py: logits at stride 4. */
class TinyNet extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly first = new Conv2d(3, 6, 3, { stride: 2, padding: 1 })
  readonly second = new Conv2d(6, 8, 3, { stride: 2, padding: 1 })
  readonly head = new Conv2d(8, 4, 1)
  readonly stride = 4
  readonly logitLayers = ["head"]
  upsampleLogits = true
  alignCorners = false

  protected override forward(image: Tensor): SegmentationOutput {
    const deep = aten.relu(this.second.call(aten.relu(this.first.call(image)))) // [N, 8, H/4, W/4]
    const logits = this.head.call(deep)
    const size = [image.size(2), image.size(3)] as const
    return { logits: this.upsampleLogits ? interpolate(logits, size, { alignCorners: this.alignCorners }) : logits }
  }
}

const golden = new Golden("inference")
const model = new TinyNet().loadStateDict(golden.under("state/")).eval()
const [, , h, w] = golden.get("image").shape as [number, number, number, number]
const images = golden.get("image").data() as Float32Array

// Of a probability: float32 in another order, and positions that PyTorch computes in float32 (3e-6 pixels here) and we in float64.
const TOLERANCE = 3e-6
const scales = [0.5, 0.75, 1, 1.25]

test.each([
  ["plain", {}],
  ["flip", { flip: true }],
  ["scales", { scales }],
  ["scales and flip", { scales, flip: true }],
  ["windows", { window: [20, 24] }],
  ["windows of scale 0.75", { scales: [0.75], window: [16, 19] }],
  ["windows of scale 1.5", { scales: [1.5], window: [32, 30], overlap: 0.25 }],
  ["aligned scales and flip", { scales: [0.5, 1, 1.25], flip: true, alignCorners: true }],
] as const)("%s", (name, { alignCorners = false, ...options }: { alignCorners?: boolean } & object) => {
  model.alignCorners = alignCorners
  const found = segment(model, images, [1, h, w], { ...options, probabilities: true, confidence: true })
  const expected = golden.get(name)
  expectClose(fromData(found.probabilities!, [1, 4, h, w]), expected, TOLERANCE, "probabilities")
  expectClose(fromData(found.confidence!, [1, h, w]), expected.max({ dim: 1 }), TOLERANCE, "confidence")
  expect(Array.from(found.labels, BigInt)).toEqual([...(aten.argmax(expected, { dim: 1 }).data() as BigInt64Array)])
})
