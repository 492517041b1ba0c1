// pixelwise eval: the scores of a trained model on a split, at full image size.
import type { Command } from "commander"
import { openVocFolder } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { evaluate, evaluationLoader, summarize } from "../infer/evaluate.ts"
import { classSelection } from "../train/config.ts"
import { RunFolder } from "../train/run-folder.ts"
import { trainedModel } from "../train/trained-model.ts"
import { createOutput } from "./output.ts"
import { scoresTable } from "./scores-table.ts"

interface Options {
  run: string
  data?: string
  split?: string
  json?: boolean
}

export function define(command: Command): void {
  command
    .requiredOption("--run <folder>", "the run whose best model is scored")
    .option("--data <root>", "data set (default: the run's own)")
    .option("--split <name>", "split list (default: the run's validation split)")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nExamples:\n  $ pixelwise eval --run runs/first\n  $ pixelwise eval --run runs/first --data VOC2012 --split val --json",
    )
    .action(async (options: Options) => {
      const output = createOutput(options)
      const run = RunFolder.open(options.run)
      const { config, labelMap } = run
      const [data, split] = [options.data ?? config.data, options.split ?? config.valSplit]
      const dataset = openVocFolder(data, { split, ...classSelection(config) })
      const names = (map: typeof labelMap) => map.classes.map(({ name }) => name).join(", ")
      if (names(dataset.labelMap) !== names(labelMap)) {
        throw new UserError(
          `${data} has the classes ${names(dataset.labelMap)}; the run ${run.path} was trained on ${names(labelMap)}.`,
        )
      }
      const { model, weights, normalization } = trainedModel(run)
      output.say(`${weights} on ${dataset.ids.length} images of ${data}, split ${split}`)
      await using loader = evaluationLoader(dataset, { normalization })
      let done = 0
      const matrix = await evaluate(model, loader.pass(), labelMap.classes.length, {
        onBatch: ({ ids }) => {
          done += ids.length
          output.progress(done / dataset.ids.length, `${done} of ${dataset.ids.length} images`)
        },
      })
      model.dispose()
      output.endProgress()
      const scores = summarize(matrix, labelMap)
      output.result(
        { run: run.path, weights, data, split, images: dataset.ids.length, scores, confusion: matrix },
        scoresTable(scores),
      )
    })
}
