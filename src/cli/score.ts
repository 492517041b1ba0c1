// pixelwise score: the scores of predictions that lie in files, of whatever tool, against the masks of a split.
import { type Command, Option } from "commander"
import type { LabelMap } from "../data/label-map.ts"
import { firstFew, type Numbering, numberings, openPredictionFolder } from "../data/prediction-folder.ts"
import { type GroundTruth, groundTruths, openVocMasks, type VocMasks } from "../data/voc-folder.ts"
import { didYouMean, UserError } from "../errors.ts"
import { scorePredictions } from "../infer/score-predictions.ts"
import { checkOut, showEvaluation } from "./evaluation-output.ts"
import { createOutput, type Output } from "./output.ts"

interface Options {
  pred?: string
  constant?: string
  truth: string
  split: string
  classes?: string[]
  others?: "void" | "background"
  numbering: Numbering
  groundTruth: GroundTruth
  boundary?: boolean
  out?: string
  json?: boolean
}

export function define(command: Command): void {
  command
    .option("--pred <folder>", "predictions: <id>.png for each id of the split, or a folder with VOC's results/ in it")
    .option("--constant <class>", "instead of --pred: score predicting this class everywhere")
    .requiredOption("--truth <root>", "the data set with the masks; its pictures are not needed")
    .option("--split <name>", "split list", "val")
    .option("--classes <a,b,...>", "classes to score, by name; all when left out", (text) =>
      text.split(",").map((name) => name.trim()),
    )
    .addOption(
      new Option("--others <name>", "what becomes of pixels of classes that are not chosen (default: void)").choices([
        "void",
        "background",
      ]),
    )
    .addOption(
      new Option(
        "--numbering <whose>",
        "numbers in the predictions: as in the data set's masks, or 0, 1, ... in the order of --classes",
      )
        .choices(numberings)
        .default("dataset"),
    )
    .addOption(
      new Option("--ground-truth <kind>", "what the masks are: labels, or grey alpha mattes of one foreground")
        .choices(groundTruths)
        .default("labels"),
    )
    .option("--boundary", "measure boundary IoU, boundary F1 and Hausdorff distances too: takes several times as long")
    .option("--out <file>", "write everything that was measured, image by image, as JSON")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
A prediction is a palette or grey PNG of the picture's size, whose numbers are the classes. It has a class wherever the truth has one:
the truth alone says which pixels do not count. PNG files of other ids are named and not scored.

Examples:
  $ pixelwise score --pred out --truth VOC2012 --split val
  $ pixelwise score --pred out --truth VOC2012 --classes background,cat,dog --others background
  $ pixelwise score --constant background --truth VOC2012`,
    )
    .action(score)
}

async function score(options: Options): Promise<void> {
  const { pred, constant, truth, split, classes, others, numbering, groundTruth, boundary } = options
  const output = createOutput(options)
  if ((pred === undefined) === (constant === undefined)) {
    throw new UserError("Give either --pred, the folder of predictions, or --constant, a class to predict everywhere.")
  }
  checkOut(options.out, "evaluation.json")
  const masks = openVocMasks(truth, { split, classes, others, groundTruth })
  const { about, predictions } =
    pred === undefined ? constantOf(constant!, masks.labelMap) : filesOf(pred, numbering, masks, output)
  const evaluation = await scorePredictions(masks, predictions, {
    boundary,
    onProgress: (done, total) => output.progress(done / total, `${done} of ${total} images`),
  })
  showEvaluation(evaluation, { ...about, truth, split }, output, options)
}

function filesOf(path: string, numbering: Numbering, masks: VocMasks, output: Output) {
  const { folder, files, extra } = openPredictionFolder(path, masks)
  if (extra.length > 0) {
    output.say(
      `Not scored, because "${masks.split}" does not list them: ${extra.length} of the PNG files in ${folder} (${firstFew(extra)}).`,
    )
  }
  return { about: { predictions: folder, extra }, predictions: { files, numbering } }
}

function constantOf(name: string, { classes }: LabelMap) {
  const known = classes.map((entry) => entry.name)
  if (!known.includes(name)) {
    throw new UserError(
      `--constant: there is no class "${name}"; expected one of ${known.join(", ")}.${didYouMean(name, known)}`,
    )
  }
  return { about: { constant: name }, predictions: { constant: known.indexOf(name) } }
}
