// Which trainings can have a CUDA graph; what it does in one: trainer.test.ts.
import { expect, test } from "vitest"
import { buildInfo, CudaGraph, ones } from "../torch/index.ts"
import { parseConfig } from "./config.ts"

test.each<[Record<string, unknown>, string]>([
  [
    { device: "cpu" },
    'Option "cudaGraph" is for CUDA, and Option "device" is cpu: give a device such as cuda, or make it false.',
  ],
  [
    { precision: "float16" },
    'Option "cudaGraph" cannot be had with float16, whose loss has a scale that changes: take bfloat16.',
  ],
  [{ accumulate: 2 }, 'Option "cudaGraph" cannot be had with Option "accumulate": a graph writes its gradients anew.'],
  [
    { topK: 0.25, miningSteps: 0.5 },
    'Option "cudaGraph" cannot be had with Option "miningSteps", which counts other pixels in each step.',
  ],
  [{ ohemThreshold: 0.7 }, "which waits for the GPU in each step. Take"],
  [
    { upsampleLogits: false },
    'cannot be had with Option "upsampleLogits" false, which waits for the GPU in each step.',
  ],
  [{ groundTruth: "alpha" }, 'cannot be had with Option "groundTruth" alpha, which waits'],
  [
    { loss: "dice + lovasz-softmax" },
    "cannot be had with the loss lovasz-softmax, which waits for the GPU in each step.",
  ],
])("%o", (options, message) => {
  expect(() => parseConfig({ data: "none", device: "cuda", cudaGraph: true, ...options })).toThrow(message)
})

test.skipIf(buildInfo().cudaDevices > 0)("without a GPU it says so", () => {
  expect(() => new CudaGraph("cuda:0", () => [ones([1])])).toThrow(/CUDA/)
})
