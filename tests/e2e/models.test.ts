// `pixelwise models`: the list, one model layer by layer, and what it refuses.
import { expect, test } from "vitest"
import { modelNames } from "../../src/models/index.ts"
import { pixelwise } from "./cli.ts"

test("lists every model with what it costs", { timeout: 120_000 }, async () => {
  const { code, stdout } = await pixelwise("models", "--size", "32", "--classes", "2", "--json")
  expect(code).toBe(0)
  const { models, inputShape } = JSON.parse(stdout)
  expect(inputShape).toEqual([1, 3, 32, 32])
  expect(models.map(({ model }: { model: string }) => model)).toEqual(modelNames)
  for (const { parameters, multiplyAdds, stride, receptiveField } of models) {
    expect(parameters).toBeGreaterThan(1e6)
    expect(multiplyAdds).toBeGreaterThan(1e6)
    expect([8, 16, 32]).toContain(stride)
    expect(receptiveField.size[0]).toBeGreaterThan(200) // every model has local paths
  }
})

test("shows one model layer by layer, to a depth", async () => {
  const { code, stdout, stderr } = await pixelwise("models", "unet", "--size", "64,96", "--width", "4", "--depth", "1")
  expect([code, stderr]).toEqual([0, ""])
  const lines = stdout.trimEnd().split("\n")
  expect(lines[0]).toMatch(/^layer +output +parameters +multiply-adds +activations$/)
  expect(lines[2]).toMatch(/^UNet +1x21x64x96/)
  expect(lines.slice(3, 13).map((line) => line.trim().split(" ")[0])).toEqual(
    "down.0 down.1 down.2 down.3 down.4 up.3 up.2 up.1 up.0 head".split(" "),
  )
  expect(lines.at(-1)).toBe("receptive field  204 x 204 pixels")
})

test("--json has all layers, whatever is shown", async () => {
  const { stdout } = await pixelwise("models", "deeplabv3", "--encoder", "mobilenet_v2_0.35", "--size", "32", "--json")
  const { name, rows, receptiveField } = JSON.parse(stdout)
  expect(name).toBe("deeplabv3")
  expect(rows.length).toBeGreaterThan(100)
  expect(receptiveField.wholeImage).toBe(true)
})

test.each([
  [["unett"], /Unknown model "unett"\. Did you mean "unet"\?/],
  [["unet", "--size", "0"], /--size is "0"; expected a whole number of at least 1/],
  [["unet", "--size", "1,2,3"], /--size is 1,2,3; expected one number or H,W/],
  [["deeplabv3", "--encoder", "resnet51"], /Unknown encoder "resnet51"/],
  [["deeplabv3", "--output-stride", "7"], /outputStride/],
  [["--output-stride", "8"], /--output-stride is for one model: pixelwise models <name> --output-stride 8/],
] as const)("refuses %j in one sentence", async (args, message) => {
  const { code, stderr } = await pixelwise("models", ...args)
  expect(code).toBe(2)
  expect(stderr).toMatch(message)
  expect(stderr.trim().split("\n")).toHaveLength(1)
})
