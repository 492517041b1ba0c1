// The losses of regions and distances, and the distances themselves, against regions.py: NumPy, SciPy, PyTorch's gradients.
import { expect, test } from "vitest"
import { boundary } from "../../src/losses/boundary.ts"
import { dice } from "../../src/losses/dice.ts"
import { generalizedDice } from "../../src/losses/generalized-dice.ts"
import { hausdorff } from "../../src/losses/hausdorff.ts"
import type { Loss } from "../../src/losses/index.ts"
import { jaccard } from "../../src/losses/jaccard.ts"
import { lovaszSoftmax } from "../../src/losses/lovasz-softmax.ts"
import { tversky } from "../../src/losses/tversky.ts"
import { squaredDistance, type Tensor } from "../../src/torch/index.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

const golden = new Golden("regions")

// float64 rounds at 1e-16, and sums have some hundred terms.
const TOLERANCE = 1e-13

const losses: Record<string, Loss> = {
  dice,
  "generalized-dice": generalizedDice,
  jaccard,
  tversky,
  "focal tversky": (logits, target, options) => tversky(logits, target, { ...options, gamma: 0.75 }),
  "lovasz-softmax": lovaszSoftmax,
  hausdorff,
  "hausdorff alpha 1": (logits, target, options) => hausdorff(logits, target, { ...options, alpha: 1 }),
  boundary,
}

test.each(Object.keys(losses).flatMap((name) => ["plain", "weighted"].map((kind) => ({ name, kind }))))(
  "$name $kind: loss and gradient",
  ({ name, kind }) => {
    const logits = copyOf(golden.get("logits")).requiresGrad_()
    const weight = kind === "weighted" ? golden.get("weight") : undefined
    const loss = (losses[name] as Loss)(logits, golden.get("target"), { weight })
    expectClose(loss, golden.get(`${name} ${kind}/loss`), TOLERANCE, "loss")
    loss.backward()
    expectClose(logits.grad, golden.get(`${name} ${kind}/grad`), TOLERANCE, "gradient")
    const gradientOfVoid = (logits.grad as Tensor).mul(golden.get("target").eq(255).unsqueeze(1))
    expect(gradientOfVoid.abs().max().item()).toBe(0)
  },
)

test.each([...golden.under("mask ").keys()])("distances of %s: to the bit", (name) => {
  const distance = squaredDistance(golden.get(`mask ${name}`))
    .to({ dtype: "float64" })
    .sqrt()
  expect(distance.data()).toEqual(golden.get(`distance ${name}`).data())
})
