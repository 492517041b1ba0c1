// Which models have their channels side by side: those whose encoder filters each channel by itself.
import { expect, test } from "vitest"
import { createModel, type ModelOptions, preferredMemoryFormat } from "./index.ts"

test.each([
  ["lraspp", { encoder: "mobilenet_v2_0.1" }, "channels_last"],
  ["deeplabv3plus", { encoder: "mobilenet_v2_0.1" }, "channels_last"],
  ["deeplabv3plus", { encoder: "resnet18" }, "contiguous"], // its decoder's do not count
  ["unet", { width: 2 }, "contiguous"], // has no encoder
] as [string, Partial<ModelOptions>, string][])("%s %o: %s", (name, options, expected) => {
  using model = createModel(name, { numClasses: 2, ...options })
  expect(preferredMemoryFormat(model)).toBe(expected)
})
