import { describe, expect, test } from "vitest"
import { findWeights, publishedWeights, suggestWeights } from "./registry.ts"

test("the checksum is the one in the file's name, and a parameter takes four bytes", () => {
  for (const { url, sha256, mebibytes, parameters } of publishedWeights) {
    expect(url).toMatch(new RegExp(`-${sha256}\\.pth$`))
    expect(sha256).toMatch(/^[0-9a-f]{8}$/)
    // buffers, names and the archive come on top: 0.2 to 2 % of it
    expect((mebibytes * 2 ** 20) / (4 * parameters)).toBeGreaterThan(1)
    expect((mebibytes * 2 ** 20) / (4 * parameters)).toBeLessThan(1.03)
  }
})

describe("findWeights", () => {
  test.each([
    ["resnet50.imagenet1k_v1", "resnet50.imagenet1k_v1"],
    ["resnet50", "resnet50.imagenet1k_v2"],
    ["resnet50.default", "resnet50.imagenet1k_v2"],
    ["ResNet50.IMAGENET1K_V1", "resnet50.imagenet1k_v1"],
    ["fcn_resnet50", "fcn_resnet50.coco_with_voc_labels_v1"],
    ["resnet5", undefined],
    ["default", undefined],
    ["", undefined],
  ])("%j is %s", (name, expected) => {
    expect(findWeights(name)?.name).toBe(expected)
  })
  test("a near miss is suggested", () => {
    expect(suggestWeights("resnet50.imagenet_v2")).toBe(' Did you mean "resnet50.imagenet1k_v2"?')
    expect(suggestWeights("resnet-18")).toBe(' Did you mean "resnet18"?')
  })
})
