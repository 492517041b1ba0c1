// pixelwise doctor: what this machine has, what is missing, and the commands that get it. Works without the addon.
import { existsSync } from "node:fs"
import { availableParallelism, cpus, totalmem } from "node:os"
import type { Command } from "commander"
import { builtLibtorch } from "../../scripts/libtorch.mjs"
import { canInstall, findNeeds, instructions, sentence, slower } from "../../scripts/needs.mjs"
import { jpegProblem } from "../data/jpeg.ts"
import { version } from "../version.ts"
import { createOutput } from "./output.ts"

export function define(command: Command): void {
  command
    .option("--json", "print one JSON object")
    .addHelpText("after", "\nExamples:\n  $ pixelwise doctor\n  $ pixelwise doctor --json")
    .action(async ({ json }: { json?: boolean }) => {
      const output = createOutput({ json })
      const { libtorch, looked, missing, slow } = findNeeds()
      const addon = await loadAddon()
      const report = {
        pixelwise: version,
        node: process.versions.node,
        processor: cpus()[0]?.model.trim() ?? "unknown",
        cores: availableParallelism(),
        memoryGiB: Number((totalmem() / 2 ** 30).toFixed(1)),
        libtorch: libtorch ?? null,
        lookedAt: looked,
        addon:
          "error" in addon
            ? { loads: false, problem: addon.error }
            : { loads: true, builtAgainst: builtLibtorch() ?? null, ...addon },
        missing,
        slow,
      }
      const healthy = report.addon.loads && slow.length === 0
      output.result(report, describe(report, addon))
      if (healthy) output.say("\nEverything that training needs is here.")
      else {
        const needs = [...missing, ...slow]
        if (needs.length > 0) output.say(`\n${sentence(needs, looked)}\n${instructions({ missing: needs, looked })}`)
        if (!report.addon.loads)
          output.say(
            `\nThe native addon ${existsSync(addonFile) ? "does not load" : "is not built"}. Run: npm run setup${canInstall() ? "" : " (after the commands above)"}`,
          )
        process.exitCode = 1
      }
    })
}

const addonFile = new URL("../../build/native/pixelwise.node", import.meta.url)

interface Addon {
  libtorch: string
  threads: number
  cpuCapability: string
  cudaDevices: number
  /** What can connect processes. */
  processes: readonly string[]
  bfloat16: string | null
  operatorsShareThreads: boolean
  openBlasKernels: string | null
  narrowProducts: boolean
}

async function loadAddon(): Promise<Addon | { error: string }> {
  try {
    const { areProductsNarrow, buildInfo, groupBackends, threads } = await import("../torch/index.ts")
    const { libtorch, config, cudaDevices, bfloat16, operatorsShareThreads, openBlasKernels } = buildInfo()
    return {
      libtorch,
      threads: threads(),
      cpuCapability: /CPU capability usage: (\S+)/.exec(config)?.[1] ?? "unknown",
      cudaDevices,
      processes: groupBackends(),
      bfloat16,
      operatorsShareThreads,
      openBlasKernels,
      narrowProducts: areProductsNarrow(),
    }
  } catch (error) {
    const { message, cause } = error as Error
    return { error: cause instanceof Error ? cause.message : message }
  }
}

interface Report {
  pixelwise: string
  node: string
  processor: string
  cores: number
  memoryGiB: number
  libtorch: ReturnType<typeof findNeeds>["libtorch"] | null
  lookedAt: ReturnType<typeof findNeeds>["looked"]
  slow: ReturnType<typeof findNeeds>["slow"]
}

function describe(
  { pixelwise, node, processor, cores, memoryGiB, libtorch, lookedAt, slow }: Report,
  addon: Addon | { error: string },
): string {
  const lines: [string, string][] = [
    ["pixelwise", pixelwise],
    ["Node", node],
    ["processor", `${processor}, ${cores} cores, ${memoryGiB} GiB`],
    [
      "libtorch",
      libtorch
        ? `${libtorch.version} in ${libtorch.root} (${libtorch.source}${libtorch.cuda ? ", built with CUDA" : ""})`
        : "not found",
    ],
    ...lookedAt.map(({ place, problem }): [string, string] => ["  looked at", `${place}: ${problem}`]),
  ]
  if ("error" in addon) lines.push(["addon", addon.error])
  else {
    lines.push(
      ["addon", `loads, with libtorch ${addon.libtorch}`],
      [
        "  threads",
        `${addon.threads} (set OMP_NUM_THREADS or --threads to change)${addon.operatorsShareThreads ? "" : "; pixelwise's own operators use one: the compiler had no OpenMP"}`,
      ],
      ["  CPU kernels", `${addon.cpuCapability} in libtorch's own (oneDNN and pixelwise choose by themselves)`],
      ["  products", products(addon, slow.includes("blas"))],
      ["  JPEG", jpegProblem === null ? "libjpeg-turbo" : `sharp, ${slower.jpeg}: ${jpegProblem}`],
      ["  CUDA devices", `${addon.cudaDevices === 0 ? "none" : addon.cudaDevices}; --device cuda is untested here`],
      ["  bfloat16", addon.bfloat16 ?? "no instructions for it: --precision bfloat16 is slower than float32"],
      [
        "  processes",
        addon.processes.length === 0
          ? "cannot be connected: libtorch's gloo headers were missing (Debian: libgloo-dev)"
          : `connected by ${addon.processes.map((name) => (name === "nccl" ? "nccl (untested here)" : name)).join(" and ")}`,
      ],
    )
  }
  return lines.map(([name, value]) => `${name.padEnd(16)}${value}`).join("\n")
}

/** Which BLAS multiplies matrices, and whether as fast as this processor could. */
function products({ openBlasKernels, narrowProducts }: Addon, isReference: boolean): string {
  if (isReference) return `the reference BLAS: ${slower.blas}`
  if (openBlasKernels === null) return "another library than OpenBLAS"
  const told = process.env.OPENBLAS_CORETYPE
  const why = told
    ? `OPENBLAS_CORETYPE is ${told}: unset it, and OpenBLAS chooses by itself`
    : "it may be older than the processor; a newer one, or OPENBLAS_CORETYPE=SkylakeX, would use it"
  return `OpenBLAS for ${openBlasKernels}${narrowProducts ? `, without this processor's AVX-512, which makes training slower (${why})` : ""}`
}
