// Top-k and online hard example mining, through the step's loss, against their definitions in NumPy.
import { describe, expect, test } from "vitest"
import { createObjective, parseLoss } from "../../src/losses/objective.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

const golden = new Golden("mining")
const TOLERANCE = 1e-12 // float64 on both sides; sums of 60 pixels in another order
const keys = [...golden.tensors.keys()].filter((key) => key.endsWith("/loss")).map((key) => key.slice(0, -5))

function miningOf(key: string) {
  const topK = / top-k ([\d.]+) step (\d+) of (\d+)$/.exec(key)
  if (topK) return { step: Number(topK[2]), mining: { topK: Number(topK[1]), until: Number(topK[3]) } }
  const ohem = / ohem ([\d.]+) at least (\d+)$/.exec(key)!
  return { step: 0, mining: { threshold: Number(ohem[1]), minKept: Number(ohem[2]) } }
}

describe("loss and gradient", () => {
  test.each(keys)("%s", (key) => {
    const { step, mining } = miningOf(key)
    const weight = key.startsWith("weighted") ? golden.get("weight") : undefined
    const logits = copyOf(golden.get("logits")).requiresGrad_()
    const objective = createObjective({ terms: parseLoss("cross-entropy"), weight, mining })
    const loss = objective({ logits }, { labels: golden.get("target") }, { step, progress: 0 })
    expectClose(loss, golden.get(`${key}/loss`), TOLERANCE, "loss")
    loss.backward()
    expectClose(logits.grad, golden.get(`${key}/grad`), TOLERANCE, "gradient")
  })
})

test("all cases are here", () => expect(keys).toHaveLength(22))
