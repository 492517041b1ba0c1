// An image of 20 megapixels, 21 classes: its logits alone would take 1.7 GB. Inference chooses windows by itself, and stays within its
// bound. Measured on two cores that were busy with other work too, LR-ASPP on mobilenet_v2_0.35, with confidences:
//   bound 2 GiB (the default)  15 windows  14 s  tensors at most 1.28 GiB, the process grew by 2.12 GiB (0.1 of them results)
//   bound 0.5 GiB              96 windows  17 s  tensors at most 0.39 GiB, the process grew by 0.70 GiB
import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { segment } from "../../src/infer/segment.ts"
import { createModel } from "../../src/models/index.ts"
import { manualSeed, memory, resetPeakMemory } from "../../src/torch/index.ts"

const [h, w] = [3651, 5478]
const bound = 2 ** 30

/** Bytes that this process had resident at most so far; Linux only. */
function mostResident(): number | undefined {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024
  } catch {
    return undefined
  }
}

test("20 megapixels within a gibibyte", () => {
  manualSeed(1)
  using model = createModel("lraspp", { numClasses: 21, encoder: "mobilenet_v2_0.35" }).eval()
  const images = Float32Array.from({ length: 3 * h * w }, (_, i) => Math.sin(i / 37))
  segment(model, images.subarray(0, 3 * 600 * 600), [1, 600, 600]) // what the model takes is measured once
  const [before, resident] = [memory().liveBytes, mostResident()]
  resetPeakMemory()
  let windows = 0
  const onProgress = (_done: number, total: number) => {
    windows = total
  }
  const { labels, confidence } = segment(model, images, [1, h, w], {
    memory: bound,
    confidence: true,
    onProgress,
  })
  expect(windows).toBeGreaterThan(4)
  expect(memory().peakBytes - before).toBeLessThan(bound)
  // Besides: results, their copies on the way out of tensors, blocks that are kept for the next tensors.
  const results = labels.byteLength + confidence!.byteLength
  if (resident !== undefined) expect(mostResident()! - resident).toBeLessThan(bound + 2 * results + 256 * 2 ** 20)
})
