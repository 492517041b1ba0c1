// Threads; and devices that are not there: what happens on those that are was never tested, CI has none.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import {
  buildInfo,
  checkDevice,
  fromData,
  pointwiseConv2d,
  randn,
  setCudnnBenchmark,
  setThreads,
  startProfile,
  stopProfile,
  threads,
  tidy,
} from "./index.ts"

test("a device that libtorch does not find is refused in a sentence", () => {
  checkDevice("cpu")
  const { cudaDevices } = buildInfo()
  const missing = `cuda:${cudaDevices}`
  expect(() => checkDevice(missing)).toThrow(UserError)
  expect(() => checkDevice(missing)).toThrow(`device is ${missing}, but libtorch`)
  if (cudaDevices === 0) expect(() => checkDevice("cuda")).toThrow("finds no CUDA device; expected cpu, or a libtorch")
  setCudnnBenchmark(true) // a switch that nothing reads without CUDA
  setCudnnBenchmark(false)
})

test("data for the CPU are there at once", () => {
  using x = fromData(Float32Array.of(1, 2), [2], { device: "cpu" })
  expect([x.device, ...(x.data() as Float32Array)]).toEqual(["cpu", 1, 2])
})

test.runIf(buildInfo().operatorsShareThreads)("our own operators use as many threads as libtorch's", () => {
  const before = threads()
  try {
    for (const count of [1, 2, 3]) {
      setThreads(count)
      tidy(() => {
        const x = randn([1, 64, 96, 96]).contiguous({ memoryFormat: "channels_last" })
        startProfile(new Map())
        pointwiseConv2d(x, randn([64, 64, 1, 1]), null)
        const products = stopProfile().slices.filter(({ name }) => name === "pixelwise::product")
        expect(products.length).toBe(count)
        expect(new Set(products.map(({ thread }) => thread)).size).toBe(count)
      })
    }
  } finally {
    setThreads(before)
  }
})

// What npm run setup builds with: GCC, or a Clang that has libomp.
test("on Linux they do", () => {
  if (process.platform === "linux") expect(buildInfo().operatorsShareThreads).toBe(true)
})
