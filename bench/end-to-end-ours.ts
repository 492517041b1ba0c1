// One side of from-files.ts. Arguments: threads, data set's root, split, images, model. Reads the task from standard input:
//   "evaluate"    the whole images of the split by a model with random weights; answers with the seconds
//   "first-step"  trains as `pixelwise train` does; answers when the first step is done
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { openVocFolder, VocFolder } from "../src/data/voc-folder.ts"
import { evaluate, evaluationLoader } from "../src/infer/evaluate.ts"
import { meanIoU } from "../src/metrics/scores.ts"
import { createModel } from "../src/models/index.ts"
import { setThreads } from "../src/torch/index.ts"
import { parseConfig } from "../src/train/config.ts"
import { startRun } from "../src/train/run.ts"

const [threads, data, split, images, name] = process.argv.slice(2) as [string, string, string, string, string]
setThreads(Number(threads))

async function evaluateSplit(): Promise<void> {
  const { files, labelMap } = openVocFolder(data, { split })
  const some = <T>(all: readonly T[]) => all.slice(0, Number(images))
  const dataset = new VocFolder({
    ...files,
    ids: some(files.ids),
    images: some(files.images),
    masks: some(files.masks),
  })
  const numClasses = labelMap.classes.length
  using model = createModel(name, { numClasses }).eval()
  const start = performance.now()
  await using loader = evaluationLoader(dataset)
  meanIoU(await evaluate(model, loader.pass(), numClasses))
  console.log((performance.now() - start) / 1000)
}

async function trainOneStep(): Promise<void> {
  const out = mkdtempSync(join(tmpdir(), "pixelwise-bench-"))
  process.on("exit", () => rmSync(out, { recursive: true, force: true }))
  const config = parseConfig({ data, model: name, steps: 1, batchSize: 4, crop: [256, 256], threads: Number(threads) })
  await startRun(config, join(out, "run"), {
    onStep: () => {
      console.log(1)
      process.exit()
    },
  })
}

for await (const task of createInterface({ input: process.stdin })) {
  await (task === "evaluate" ? evaluateSplit() : trainOneStep())
}
