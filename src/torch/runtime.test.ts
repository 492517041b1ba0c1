// Devices that are not there. What happens on those that are was never tested: CI has none.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { buildInfo, checkDevice, fromData, setCudnnBenchmark } from "./index.ts"

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
