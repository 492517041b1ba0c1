// The page of `pixelwise compare`: several runs side by side.
import { shownMetrics } from "../metrics/index.ts"
import { flagOf } from "../train/config.ts"
import { version } from "../version.ts"
import { lineChart, type Series } from "./charts/line.ts"
import { scatterChart } from "./charts/scatter.ts"
import {
  type ComparedRun,
  type Comparison,
  differentMeans,
  type ImageDifference,
  mostDifferent,
  type Pair,
  verdict,
} from "./comparison.ts"
import { evaluationsOf, type Point, runningMean, scorePoints, stepsOf, thin } from "./curves.ts"
import { chartGrid, dataTable, details, figure, type Html, html, notice, page, row, section } from "./html.ts"
import { classLegend, maskPicture, plainPicture } from "./page-pictures.ts"
import { openPredictor, type Predictor, validationSet } from "./predictor.ts"
import { duration, list, metricTitles, optionText, percent, range, signed } from "./words.ts"

/** Images with the largest gains shown of each pair, and as many with the largest losses. */
const SHOWN_IMAGES = 3

/**
 * One self-contained HTML file.
 * @param data where the data set is, for the pictures; null: there are none
 */
export async function comparisonPage(comparison: Comparison, { data }: { data: string | null }): Promise<string> {
  const { runs, pairs } = comparison
  const [first] = runs as [ComparedRun]
  const sections = [
    scoresSection(comparison),
    configurationSection(comparison),
    curvesSection(runs),
    classesSection(comparison),
    await imagesSection(comparison, data),
  ]
  return page({
    title: list(runs.map(({ name }) => name)),
    lead: html`${pairs.map((pair) => html`${verdict(first, pair)} `)}The intervals are over images; what another seed would change they do not say. Written by pixelwise ${version}.`,
    sections,
  })
}

function scoresSection({ runs, pairs }: Comparison): Html {
  const [first] = runs as [ComparedRun]
  const { evaluation, scores } = first
  const different = differentMeans(runs)
  return section(
    "Scores",
    different !== null && notice(different),
    dataTable({
      caption: `Per cent, over ${evaluation.images.length.toLocaleString("en")} images; in brackets the 95 % intervals`,
      head: ["", ...runs.map(({ name }) => name), `only ${scores.trivial.name}`],
      rows: shownMetrics(scores).map((metric) => [
        metricTitles[metric],
        ...runs.map(({ scores, intervals }) => withRange(scores[metric] ?? null, intervals.means[metric])),
        percent(scores.trivial[metric] ?? null),
      ]),
    }),
    html`<h3>Against ${first.name}</h3>`,
    dataTable({
      caption: "Points, by the same images in both (paired bootstrap)",
      head: ["", ...pairs.map(({ other }) => other.name), ...pairs.map(({ other }) => `${other.name} better in`)],
      rows: shownMetrics(scores).map((metric) => [
        metricTitles[metric],
        ...pairs.map(({ means }) => differenceText(means[metric]!)),
        ...pairs.map(({ means }) => `${percent(means[metric]!.probability)} %`),
      ]),
    }),
  )
}

const withRange = (value: number | null, interval: { readonly low: number | null; readonly high: number | null }) =>
  value === null ? "-" : `${percent(value)} (${range(interval)})`

const differenceText = ({ difference, low, high }: Pair["classes"][number]): string =>
  difference === null
    ? "-"
    : `${signed(difference)} (${low === null || high === null ? "-" : `${signed(low)} to ${signed(high)}`})`

function configurationSection({ runs, pairs, options }: Comparison): Html {
  const [first] = runs as [ComparedRun]
  return section(
    "What is different in them",
    options.length === 0
      ? html`<p>Nothing: their configurations are the same.</p>`
      : dataTable({
          head: ["option", ...runs.map(({ name }) => name)],
          rows: options.map(({ key, values }) => [html`<code>${flagOf(key)}</code>`, ...values.map(optionText)]),
        }),
    pairs
      .filter(({ configuration }) => configuration.facts.length > 0)
      .map(({ other, configuration }) =>
        details(
          `What that means: ${other.name} against ${first.name}`,
          dataTable({
            head: ["part", "what", first.name, other.name],
            rows: configuration.facts.map(({ section, name, a, b }) => [section, name, a?.text ?? "-", b?.text ?? "-"]),
            words: [0, 1, 2, 3],
          }),
        ),
      ),
    dataTable({
      head: ["", ...runs.map(({ name }) => name)],
      rows: [
        ["steps", ...runs.map(({ records }) => (stepsOf(records).at(-1)?.step ?? 0).toLocaleString("en"))],
        ["time", ...runs.map(({ records }) => duration(records.at(-1)?.seconds ?? 0))],
      ],
    }),
  )
}

function curvesSection(runs: readonly ComparedRun[]): Html {
  const step = { name: "step" }
  const series = (points: (run: ComparedRun) => Point[], marks = false): Series[] =>
    runs.map((run) => ({ name: run.name, points: points(run), marks }))
  const meanIoU = { name: "mean IoU", unit: "per cent" }
  const loss = (run: ComparedRun) =>
    thin(runningMean(stepsOf(run.records).map(({ step, loss }) => [step, loss] as const)))
  const charts = [
    lineChart({
      title: "Validation",
      x: step,
      y: meanIoU,
      series: series(({ records }) => scorePoints(evaluationsOf(records), ({ scores }) => scores.meanIoU), true),
    }),
    lineChart({
      title: "Validation over time",
      x: { name: "time", unit: "minutes" },
      y: meanIoU,
      series: series(
        ({ records }) =>
          scorePoints(
            evaluationsOf(records),
            ({ scores }) => scores.meanIoU,
            ({ seconds }) => seconds / 60,
          ),
        true,
      ),
    }),
    lineChart({ title: "Training loss, running mean", x: step, y: { name: "loss" }, series: series(loss) }),
    lineChart({
      title: "Learning rate",
      x: step,
      y: { name: "learning rate" },
      series: series(({ records }) =>
        thin(stepsOf(records).map(({ step, learningRate }) => [step, learningRate] as const)),
      ),
    }),
  ]
  return section("How they went", chartGrid(charts.filter(({ text }) => text !== "")))
}

function classesSection({ runs, pairs }: Comparison): Html {
  const [first] = runs as [ComparedRun]
  return section(
    "IoU of each class",
    dataTable({
      caption: `Per cent; then points against ${first.name} with their 95 % intervals`,
      head: [
        "class",
        ...runs.map(({ name }) => name),
        ...pairs.map(({ other }) => `${other.name} against ${first.name}`),
      ],
      rows: first.scores.classes.map(({ name }, k) => [
        name,
        ...runs.map(({ scores }) => percent(scores.classes[k]!.iou)),
        ...pairs.map(({ classes }) => differenceText(classes[k]!)),
      ]),
    }),
  )
}

// --- image by image -------------------------------------------------------------------------------------------------------

async function imagesSection({ runs, pairs }: Comparison, data: string | null): Promise<Html> {
  const [first] = runs as [ComparedRun]
  const parts: Html[] = []
  for (const pair of pairs) {
    const { other, wins, losses, even, images } = pair
    parts.push(
      html`<h3>${other.name} against ${first.name}</h3>
<p>Better on ${wins} images, worse on ${losses}, the same to a point of mean IoU on ${even}.</p>`,
      figure(
        scatterChart({
          title: "Mean IoU of each image",
          x: { name: first.name, unit: "per cent" },
          y: { name: other.name, unit: "per cent" },
          points: images.map(({ first, other }) => [100 * first, 100 * other] as const),
          diagonal: true,
        }),
        `Above the line ${other.name} is better. Larger dots are several images.`,
      ),
      ...(data === null ? [] : await differentImages(first, pair, data)),
    )
  }
  return section("Image by image", data !== null && classLegend(first.run.labelMap), parts)
}

async function differentImages(first: ComparedRun, pair: Pair, data: string): Promise<Html[]> {
  const { other } = pair
  const { gained, lost } = mostDifferent(pair, SHOWN_IMAGES)
  using ofFirst = openPredictor(first.run, validationSet(first.run, data))
  using ofOther = openPredictor(other.run, validationSet(other.run, data))
  const parts: Html[] = []
  for (const image of [...gained, ...lost]) parts.push(await imageRow(image, [first, ofFirst], [other, ofOther]))
  return parts
}

async function imageRow(
  { id, first, other }: ImageDifference,
  [a, ofA]: readonly [ComparedRun, Predictor],
  [b, ofB]: readonly [ComparedRun, Predictor],
): Promise<Html> {
  const { image, truth, prediction } = await ofA.predict(id)
  const { prediction: otherPrediction } = await ofB.predict(id)
  const { labelMap } = a.run
  return html`<p><strong>${id}</strong>: mean IoU ${percent(first)} by ${a.name}, ${percent(other)} by ${b.name} (${signed(other - first)})</p>
${row(
  figure(await plainPicture(image, `${id}, the image`), "image"),
  figure(await maskPicture(image, prediction, labelMap, `${id} by ${a.name}`), a.name),
  figure(await maskPicture(image, otherPrediction, labelMap, `${id} by ${b.name}`), b.name),
  figure(await maskPicture(image, truth, labelMap, `${id}, the truth`), "truth"),
)}`
}
