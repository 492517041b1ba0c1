// What configurations mean for the loss, and which of them are refused.
import { describe, expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { crossEntropy, dice } from "../losses/index.ts"
import { Generator, randint, randn, tensor, tidy } from "../torch/index.ts"
import { parseConfig } from "./config.ts"
import { miningOf, objectiveOf } from "./objective.ts"
import { resolveOpen } from "./prepare.ts"

const config = (changes: Record<string, unknown> = {}) => resolveOpen(parseConfig({ data: "none", ...changes }), null)

function makeCase() {
  const generator = new Generator(1)
  const labels = randint(0, 3, [2, 6, 5], { generator })
  labels.at(0, 1).fill_(255)
  const logits = randn([2, 3, 6, 5], { generator })
  return { logits, aux: randn([2, 3, 6, 5], { generator }), labels, weight: tensor([0.5, 1, 4]) }
}

const begin = { step: 0, progress: 0 }

test("left to itself: cross-entropy, and 0.4 of the auxiliary head's, to the bit as ever", () => {
  tidy(() => {
    const { logits, aux, labels } = makeCase()
    const before = crossEntropy(logits, labels).add(crossEntropy(aux, labels), { alpha: 0.4 })
    expect(objectiveOf(config())({ logits, aux }, { labels }, begin).item()).toBe(before.item())
  })
})

test("a sum, weights by the number of pixels, the auxiliary head's weight", () => {
  tidy(() => {
    const { logits, aux, labels, weight } = makeCase()
    const changes = { loss: "cross-entropy + 0.5 dice", classWeights: [0.5, 1, 4], weightReduction: "pixels" }
    const of = (each: typeof logits) =>
      crossEntropy(each, labels, { weight, reduction: "mean-over-pixels" }).item() +
      0.5 * dice(each, labels, { weight }).item()
    const loss = objectiveOf(config({ ...changes, auxWeight: 0.1 }), { weight })(
      { logits, aux },
      { labels },
      begin,
    ).item()
    expect(loss).toBeCloseTo(of(logits) + 0.1 * of(aux), 5)
  })
})

test("mining: annealed at once unless steps are given; OHEM's least is left to the loss", () => {
  expect(miningOf(config())).toBeUndefined()
  expect(miningOf(config({ topK: 0.25 }))).toEqual({ topK: 0.25, until: 0 })
  expect(miningOf(config({ topK: 0.25, miningSteps: 100 }))).toEqual({ topK: 0.25, until: 100 })
  expect(miningOf(config({ ohemThreshold: 0.7 }))).toEqual({ threshold: 0.7, minKept: undefined })
  expect(miningOf(config({ ohemThreshold: 0.7, ohemMinKept: 9 }))).toEqual({ threshold: 0.7, minKept: 9 })
})

test("a run from before these options: what it had is what the defaults say", () => {
  const { loss, classWeights, labelSmoothing, topK, ohemThreshold, upsampleLogits, imagePyramid } = config({
    loss: "cross-entropy",
  })
  expect({ loss, classWeights, labelSmoothing, topK, ohemThreshold, upsampleLogits, imagePyramid }).toEqual({
    loss: "cross-entropy",
    classWeights: "none",
    labelSmoothing: 0,
    topK: null,
    ohemThreshold: null,
    upsampleLogits: true,
    imagePyramid: null,
  })
})

describe("refused:", () => {
  test.each([
    [{ loss: "dise" }, /"loss" is "dise": There is no loss "dise"\. Did you mean "dice"/],
    [{ loss: "focal", labelSmoothing: 0.1 }, /"labelSmoothing" is for cross-entropy, and the loss is focal/],
    [{ focalGamma: 1 }, /"focalGamma" is for focal, and the loss is cross-entropy/],
    [{ topK: 0.5, ohemThreshold: 0.5 }, /two ways of choosing hard pixels: give one/],
    [{ miningSteps: 9 }, /"miningSteps" is about .*"topK", which is not given/],
    [{ ohemMinKept: 9 }, /"ohemMinKept" is about .*"ohemThreshold", which is not given/],
    [{ loss: "dice", topK: 0.5 }, /"topK" chooses among the losses of pixels, and dice has none/],
    [{ loss: "dice", ohemThreshold: 0.5 }, /"ohemThreshold" chooses among the losses of pixels/],
    [{ topK: 0 }, /"topK" is 0/],
    [{ effectiveBeta: 0.99 }, /"effectiveBeta" is about .*"classWeights" effective/],
    [{ classWeights: "effective", effectiveBeta: 1 }, /"effectiveBeta" is 1/],
    [{ classWeights: "invers" }, /expected none, inverse, median, enet, effective, or a number for each class/],
    [{ classWeights: [1, -1] }, /"classWeights" is \[1,-1\]/],
    [{ weightReduction: "pixels" }, /"weightReduction" is about .*"classWeights", which is not given/],
    [{ weightReduction: "pixels", classWeights: "enet", topK: 0.5 }, /divides by its own count/],
    [{ weightReduction: "pixels", classWeights: "enet", loss: "dice" }, /is about losses of pixels, and dice has none/],
    [{ groundTruth: "alpha", loss: "dice" }, /"loss" is "dice", and .*alpha has no labels to compare with/],
    [{ groundTruth: "alpha", classWeights: [1, 2] }, /"classWeights" cannot be had with .*alpha/],
    [{ groundTruth: "alpha", labelSmoothing: 0.1 }, /"labelSmoothing" cannot be had with .*alpha/],
    [{ groundTruth: "alpha", ohemThreshold: 0.7 }, /take .*"topK"/],
  ])("%j", (changes, message) => {
    expect(() => config(changes)).toThrow(UserError)
    expect(() => config(changes)).toThrow(message)
  })
})
