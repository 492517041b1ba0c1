// crossEntropy against torch.nn.functional.cross_entropy, with void pixels and class weights (one of them 0).
import { expect, test } from "vitest"
import { crossEntropy } from "../../src/losses/index.ts"
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
