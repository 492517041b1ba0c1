import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { buildInfo } from "./index.ts"

const flags = process.platform === "linux" ? /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] : ""
const isWide = ["avx512f", "avx512bw", "avx512dq", "avx512vl"].every((name) => flags?.split(" ").includes(name))
const canChoose = process.arch === "x64" && buildInfo().openBlasKernels !== null

/** Where OpenBLAS is told which instructions to use. */
function leversWith(kernels: string): Record<string, boolean> {
  const index = new URL("./index.ts", import.meta.url).href
  const script = `const { levers } = await import(${JSON.stringify(index)}); console.log(JSON.stringify(levers))`
  const env = { ...process.env, OPENBLAS_CORETYPE: kernels }
  return JSON.parse(spawnSync(process.execPath, ["-e", script], { env, encoding: "utf8" }).stdout)
}

test.skipIf(!canChoose)(
  "convolutions are products where OpenBLAS has the processor's instructions, other levers always on",
  () => {
    const { pointwise, winograd, ...others } = leversWith("Haswell")
    expect([pointwise, winograd]).toEqual([!isWide, !isWide])
    expect(Object.values(others).every(Boolean)).toBe(true)
    if (isWide) expect(Object.values(leversWith("SkylakeX")).every(Boolean)).toBe(true)
  },
)
