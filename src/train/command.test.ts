import { expect, test } from "vitest"
import { givenOptions, trainCommand } from "./command.ts"
import { parseConfig, type TrainConfigInput } from "./config.ts"
import { resolveOpen, settleBatchNorm } from "./prepare.ts"

/** The configuration that a run keeps: what its user left open is decided. */
const kept = (given: TrainConfigInput, isFolded = false) => {
  const config = parseConfig({ ...given })
  const isPretrained = config.weights !== null || config.initFrom !== null
  const preprocessing = { normalization: "symmetric", padding: "tensorflow" } as const
  return settleBatchNorm(resolveOpen(config, isPretrained ? { preprocessing } : null), isFolded)
}

const runs: [string, TrainConfigInput, string[]][] = [
  ["as it is by default", { data: "VOC" }, ["budget", "data"]],
  [
    "steps and a few options",
    { data: "VOC", steps: 10, crop: [64, 96], loss: "dice" },
    ["crop", "data", "loss", "steps"],
  ],
  [
    "an encoder's weights",
    { data: "VOC", model: "lraspp", weights: "w.pth", epochs: 2 },
    [
      ...["batchNorm", "data", "epochs", "model", "normalization", "weights"], // what weights say is not known later
    ],
  ],
  ["a protocol", { data: "VOC", protocol: "tf-deeplab" }, ["data", "protocol"]],
  [
    "a protocol with another model and length",
    { data: "VOC", protocol: "tf-deeplab", model: "unet", budget: 60 },
    [...["budget", "data", "model", "protocol"]],
  ],
  ["a learning rate as by default", { data: "VOC", steps: 1, learningRate: 1e-3 }, ["data", "steps"]],
]

test.each(runs)("%s: only what makes the run is given, and gives the same again", (_, given, keys) => {
  const config = kept(given)
  const options = givenOptions(config)
  expect([...new Set([...Object.keys(options), ...(config.budget === null ? [] : ["budget"])])].sort()).toEqual(keys)
  expect(kept(options as TrainConfigInput)).toEqual(config)
})

test("folded batch-norm that was unfolded by itself is not asked for", () => {
  const config = kept({ data: "VOC", model: "lraspp", weights: "w.pth", steps: 1 }, true)
  expect(config.batchNorm).toBe("unfold")
  expect(givenOptions(config)).not.toHaveProperty("batchNorm")
})

test("the command: an option a line, words quoted where a shell would take them apart", () => {
  const config = kept({ data: "my data/it's", classes: ["a b", "c"], budget: 600, flip: 0 })
  expect(trainCommand(config, "runs/first").split(" \\\n  ")).toEqual([
    "npx pixelwise train",
    `--data 'my data/it'\\''s'`,
    "--classes 'a b,c'",
    "--flip 0",
    "--budget 10m",
    "--out runs/first",
  ])
  expect(trainCommand(kept({ data: "d", budget: 90 }), "r")).toContain("--budget 90s")
  expect(trainCommand(kept({ data: "d", protocol: "tf-deeplab", clipNorm: null, encoder: "resnet18" }), "r")).toContain(
    "--encoder resnet18",
  )
})
