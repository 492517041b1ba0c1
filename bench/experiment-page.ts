// docs/<name>.md and its curves, from the runs of an experiment.

import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { groupBy } from "../src/arrays.ts"
import { lineChart } from "../src/report/charts/line.ts"
import { standaloneSvg } from "../src/report/charts/standalone.ts"
import { evaluationsOf } from "../src/report/curves.ts"
import { type EvaluationRecord, RunFolder } from "../src/train/run-folder.ts"
import { type Experiment, type ExperimentRun, recipe, type Variants } from "./experiment.ts"

export interface ExperimentPage {
  readonly title: string
  readonly intro: string
  /** What stands in the tables besides. */
  readonly columns?: readonly { readonly head: string; readonly cell: (runs: readonly ExperimentRun[]) => string }[]
}

export function writeExperiment(
  name: string,
  { runs, steps, root }: Experiment,
  options: Variants,
  { title, intro, columns = [] }: ExperimentPage,
): void {
  const folder = join(root, "docs")
  const tables = Array.from(
    groupBy(runs, ({ set }) => set),
    ([set, ofSet]) => {
      const variants = Array.from(
        groupBy(ofSet, ({ variant }) => variant),
        ([name, same]) => ({
          name,
          evaluations: same.map(({ path }) => evaluationsOf(RunFolder.open(path).records())),
          cells: columns.map(({ cell }) => cell(same)),
        }),
      )
      const curves = `${name}-${set}.svg`
      writeFileSync(join(folder, curves), chart(set, variants))
      const heads = columns.map(({ head }) => head)
      return `## ${set}\n\n${table(variants, options, heads)}\n\n![Mean IoU over the steps, mean of the seeds](${curves})\n`
    },
  )
  const page = `<!-- Written by bench/${name}.ts -->
# ${title}

${intro}

\`\`\`sh
node scripts/with-node.mjs bench/${name}.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/${name} --steps ${steps}
\`\`\`

${tables.join("\n")}`
  writeFileSync(join(folder, `${name}.md`), page)
}

/** What was compared, and how to read it. */
export const about = ({ runs, steps }: Experiment): string =>
  `LR-ASPP on a pretrained MobileNetV2 of width 0.35, ${steps} steps with \`${recipe.join(" ")}\`, ${new Set(runs.map(({ seed }) => seed)).size} seeds; per cent on the validation split, mean
(smallest to largest) over the seeds. Within a seed all variants see the same pictures in the same order. Where the seeds do not agree about the sign, nothing was shown: the
spread within a row is what chance alone does.`

interface Variant {
  readonly name: string
  /** Of each seed. */
  readonly evaluations: readonly (readonly EvaluationRecord[])[]
  /** Of the columns besides. */
  readonly cells: readonly string[]
}

type Of = (record: EvaluationRecord) => number | null

/** "51.2 (49.9 to 52.4)" per cent: the mean over the seeds, and the smallest and largest. */
const spread = ({ evaluations }: Variant, of: Of): string =>
  spreadOf(evaluations.map((records) => of(records.at(-1)!) ?? Number.NaN))

/** The same of shares. */
export function spreadOf(shares: readonly number[]): string {
  const values = shares.map((share) => 100 * share)
  const one = (value: number) => value.toFixed(1)
  return `${one(mean(values))} (${one(Math.min(...values))} to ${one(Math.max(...values))})`
}

/** The difference to the plain run of the same seed: the order of the images is the same, so less of it is chance. */
function gain(variant: Variant, plain: Variant, of: Of): string {
  if (variant === plain) return ""
  const differences = variant.evaluations.map(
    (records, seed) => 100 * (of(records.at(-1)!)! - of(plain.evaluations[seed]!.at(-1)!)!),
  )
  return differences.map((value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1)).join(", ")
}

function table(variants: readonly Variant[], options: Variants, heads: readonly string[]): string {
  const [plain] = variants as [Variant]
  const { classes } = plain.evaluations[0]!.at(-1)!.scores
  const rarest = classes.reduce((a, b) => (b.truthPixels < a.truthPixels ? b : a)).name
  const meanIoU: Of = ({ scores }) => scores.meanIoU
  const accuracy: Of = ({ scores }) => scores.meanAccuracy
  const ofRarest: Of = ({ scores }) => scores.classes.find(({ name }) => name === rarest)!.iou
  const rows = variants.map((variant) => {
    return [
      variant.name,
      options[variant.name]!.length > 0 ? `\`${options[variant.name]!.join(" ")}\`` : "",
      spread(variant, meanIoU),
      gain(variant, plain, meanIoU),
      spread(variant, accuracy),
      spread(variant, ofRarest),
      ...variant.cells,
    ]
  })
  const head = [
    "",
    "options",
    "mean IoU",
    `against ${plain.name}, seed by seed`,
    "mean accuracy",
    `IoU of ${rarest}`,
    ...heads,
  ]
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")
}

function chart(set: string, variants: readonly Variant[]): string {
  const series = variants.map(({ name, evaluations }) => ({
    name,
    marks: true,
    points: evaluations[0]!.map(
      ({ step }, k) => [step, 100 * mean(evaluations.map((records) => records[k]!.scores.meanIoU ?? 0))] as const,
    ),
  }))
  const title = `Mean IoU on ${set}, mean of ${variants[0]!.evaluations.length} seeds`
  return standaloneSvg([lineChart({ title, x: { name: "step" }, y: { name: "mean IoU", unit: "per cent" }, series })], {
    title,
  })
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
