// The list of published weights, held against what torchvision says of them (weights.py).
import { expect, test } from "vitest"
import { isDefault, publishedWeights } from "../../src/weights/index.ts"
import { goldenJson } from "./golden.ts"

const golden = goldenJson("weights") as { weights: unknown }

test("says what torchvision says, of the same weights in the same order", () => {
  const ours = publishedWeights.map(({ preprocessing: { resize, crop, mean, std }, ...weights }) => ({
    ...{ name: weights.name, url: weights.url, parameters: weights.parameters, resize, crop: crop ?? null },
    ...{ mean: mean.join(" "), std: std.join(" "), classes: weights.classes },
    classNames: weights.classNames?.join(" ").replace("background", "__background__") ?? null,
    ...{ percent: weights.score.percent, on: weights.score.on, default: isDefault(weights) },
  }))
  expect(ours).toEqual(golden.weights)
})
