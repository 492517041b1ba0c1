// crossEntropy against torch.nn.functional.cross_entropy, with void pixels, class weights (one of them 0) and smoothed labels;
// focal against the formula of its paper, for one class by sigmoid.
import { expect, test } from "vitest"
import { crossEntropy, focal } from "../../src/losses/index.ts"
import type { Tensor } from "../../src/torch/index.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

const golden = new Golden("cross-entropy")

// Measured: bit-equal on the libtorch that made the golden values. float32 rounds at 6e-8, and the loss sums 17 pixels.
const TOLERANCE = 1e-6

test.each(
  ["plain", "weighted"].flatMap((kind) => (["mean", "sum", "none"] as const).map((reduction) => ({ kind, reduction }))),
)("$kind $reduction: loss and gradient", ({ kind, reduction }) => {
  const logits = copyOf(golden.get("logits")).requiresGrad_()
  const weight = kind === "weighted" ? golden.get("weight") : undefined
  const loss = crossEntropy(logits, golden.get("target"), { weight, reduction })
  expectClose(loss, golden.get(`${kind} ${reduction}/loss`), TOLERANCE, "loss")
  loss.sum().backward()
  expectClose(logits.grad, golden.get(`${kind} ${reduction}/grad`), TOLERANCE, "gradient")
  const gradientOfVoid = (logits.grad as Tensor).mul(golden.get("target").eq(255).unsqueeze(1))
  expect(gradientOfVoid.abs().max().item()).toBe(0)
})

test.each(
  ["plain", "weighted"].flatMap((kind) => (["mean", "none"] as const).map((reduction) => ({ kind, reduction }))),
)("$kind $reduction with smoothed labels: loss and gradient", ({ kind, reduction }) => {
  const logits = copyOf(golden.get("logits")).requiresGrad_()
  const weight = kind === "weighted" ? golden.get("weight") : undefined
  const loss = crossEntropy(logits, golden.get("target"), { weight, reduction, labelSmoothing: 0.1 })
  expectClose(loss, golden.get(`${kind} smoothed ${reduction}/loss`), TOLERANCE, "loss")
  loss.sum().backward()
  expectClose(logits.grad, golden.get(`${kind} smoothed ${reduction}/grad`), TOLERANCE, "gradient")
})

test("focal loss with two classes: loss and gradient", () => {
  const logits = copyOf(golden.get("focal/logits")).requiresGrad_()
  const losses = focal(logits, golden.get("focal/target"), { gamma: 2, reduction: "none" })
  expectClose(losses, golden.get("focal/loss"), TOLERANCE, "loss")
  losses.sum().backward()
  expectClose((logits.grad as Tensor).select(1, 1), golden.get("focal/grad"), TOLERANCE, "gradient")
})
