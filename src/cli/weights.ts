// pixelwise weights: what is published, what of it is here, and the way to get it.
import { existsSync } from "node:fs"
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { clock } from "../report/words.ts"
import {
  cachedPath,
  fetchWeights,
  findWeights,
  isDefault,
  publishedWeights,
  suggestWeights,
  type Weights,
  weightsFolder,
} from "../weights/index.ts"
import { interruptSignal } from "./interrupt.ts"
import { createOutput, type Output, table } from "./output.ts"

export function define(command: Command): void {
  command
    .argument("[names...]", "weights to download; without names all are listed")
    .option("--json", "print JSON: one object for the list, or one per download")
    .addHelpText(
      "after",
      `
A model's name alone means its best weights: resnet50 is resnet50.imagenet1k_v2. The path is printed. What is here is not
downloaded again, but its checksum is compared. An interrupted download goes on where it stopped.

Environment:
  PIXELWISE_CACHE         a folder to keep weights in; now ${weightsFolder()}
  PIXELWISE_WEIGHTS_URL   a mirror: http(s)://host/folder or file:///folder with the files under their published names
  NODE_USE_ENV_PROXY=1    go through the proxy of HTTPS_PROXY

Examples:
  $ pixelwise weights
  $ pixelwise weights resnet50 deeplabv3_resnet50
  $ PIXELWISE_WEIGHTS_URL=file:///srv/weights pixelwise weights resnet18`,
    )
    .action(async (names: string[], options: { json?: boolean }) => {
      const output = createOutput(options)
      if (names.length === 0) list(output)
      else await download(names.map(named), output)
    })
}

function named(name: string): Weights {
  const weights = findWeights(name)
  if (weights) return weights
  throw new UserError(
    `There are no published weights "${name}".${suggestWeights(name)} "pixelwise weights" without a name lists them.`,
  )
}

function list(output: Output): void {
  const weights = publishedWeights.map((entry) => {
    const path = cachedPath(entry)
    return { ...entry, default: isDefault(entry), path, cached: existsSync(path) }
  })
  const rows = weights.map(({ name, default: best, parameters, mebibytes, score, cached }) => [
    best ? `${name} *` : name,
    `${(parameters / 1e6).toFixed(1)} M`,
    `${mebibytes.toFixed(1)} MiB`,
    `${score.metric} ${score.percent.toFixed(1)}`,
    cached ? "yes" : "",
  ])
  const folder = weightsFolder()
  output.result({ folder, weights }, table(["name", "parameters", "size", "score", "here"], rows))
  output.say(
    `\n* what the model's name alone means. Scores in per cent: acc@1 on ImageNet, mIoU on COCO with VOC's classes.\nKept in ${folder}`,
  )
}

async function download(all: readonly Weights[], output: Output): Promise<void> {
  const signal = interruptSignal(() => output.say("Stopped; the same command goes on from here."))
  for (const entry of all) {
    const started = performance.now()
    let first: number | undefined // bytes that an earlier call brought
    const path = await fetchWeights(entry, {
      signal,
      onProgress(received, total) {
        first ??= received
        const left = (((performance.now() - started) / 1000) * (total - received)) / (received - first) // seconds
        const remaining = Number.isFinite(left) ? `, ${clock(left)} left` : ""
        output.progress(received / total, `${entry.name}, ${mib(received)} of ${mib(total)} MiB${remaining}`)
      },
    })
    output.endProgress()
    output.result({ name: entry.name, path }, path)
  }
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)
