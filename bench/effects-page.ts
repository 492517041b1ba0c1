// docs/effects.md and its curves, from the runs of effects.ts.

import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { groupBy } from "../src/arrays.ts"
import { lineChart } from "../src/report/charts/line.ts"
import { standaloneSvg } from "../src/report/charts/standalone.ts"
import { evaluationsOf } from "../src/report/curves.ts"
import { type EvaluationRecord, RunFolder } from "../src/train/run-folder.ts"

interface Run {
  readonly set: string
  readonly variant: string
  readonly seed: number
  readonly path: string
}

export function writeEffects(
  runs: readonly Run[],
  options: Readonly<Record<string, readonly string[]>>,
  { steps, recipe, folder }: { steps: number; recipe: readonly string[]; folder: string },
): void {
  const tables = Array.from(
    groupBy(runs, ({ set }) => set),
    ([set, ofSet]) => {
      const variants = Array.from(
        groupBy(ofSet, ({ variant }) => variant),
        ([name, same]) => ({
          name,
          evaluations: same.map(({ path }) => evaluationsOf(RunFolder.open(path).records())),
        }),
      )
      writeFileSync(join(folder, `effects-${set}.svg`), chart(set, variants))
      return table(set, variants, options)
    },
  )
  writeFileSync(
    join(folder, "effects.md"),
    page(tables, { steps, recipe, seeds: new Set(runs.map(({ seed }) => seed)).size }),
  )
}

interface Variant {
  readonly name: string
  /** Of each seed. */
  readonly evaluations: readonly (readonly EvaluationRecord[])[]
}

type Of = (record: EvaluationRecord) => number | null

/** "51.2 (49.9 to 52.4)" per cent: the mean over the seeds, and the smallest and largest. */
function spread({ evaluations }: Variant, of: Of): string {
  const values = evaluations.map((records) => 100 * (of(records.at(-1)!) ?? Number.NaN))
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

function table(
  set: string,
  variants: readonly Variant[],
  options: Readonly<Record<string, readonly string[]>>,
): string {
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
    ]
  })
  const head = ["", "options", "mean IoU", "against plain, seed by seed", "mean accuracy", `IoU of ${rarest}`]
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`)
  return `## ${set}\n\n${lines.join("\n")}\n\n![Mean IoU over the steps, mean of the seeds](effects-${set}.svg)\n`
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

const page = (
  tables: readonly string[],
  { steps, recipe, seeds }: { steps: number; recipe: readonly string[]; seeds: number },
): string =>
  `<!-- Written by bench/effects.ts -->
# What class weights, hard pixels and a slow start change

LR-ASPP on a pretrained MobileNetV2 of width 0.35, ${steps} steps with \`${recipe.join(" ")}\`, ${seeds} seeds; per cent on the validation split, mean
(smallest to largest) over the seeds. Within a seed all variants see the same pictures in the same order. Where the seeds do not agree about the sign, nothing was shown: the
spread within a row is what chance alone does. The last column is the rarest class of the split.

\`\`\`sh
node scripts/with-node.mjs bench/effects.ts --voc VOC2012 --camvid CAMVID --weights mobilenet_v2_0.35.safetensors --out runs/effects --steps ${steps}
\`\`\`

${tables.join("\n")}`

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
