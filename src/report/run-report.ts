// RUN/report.html: one self-contained page about a run. What was trained on what, how it went, how good it is and how sure that is,
// what it takes for what, where it errs and how, and which labels it doubts.
import { existsSync } from "node:fs"
import { basename, resolve } from "node:path"
import type { LabelMap } from "../data/label-map.ts"
import { openVocFolder, type VocFolder } from "../data/voc-folder.ts"
import { attempt } from "../errors.ts"
import { writeFileAtomic } from "../files.ts"
import { isPlain } from "../infer/segment.ts"
import type { ImageEvaluation } from "../metrics/evaluation.ts"
import { classSelection } from "../train/config.ts"
import { explainConfig } from "../train/explain-config.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { version } from "../version.ts"
import { runCharts } from "./curves.ts"
import { type FindingsOptions, findingsOf } from "./findings.ts"
import { chartGrid, figure, type Html, html, notice, page, section, strip } from "./html.ts"
import {
  classLegend,
  errorsLegend,
  imageScore,
  maskPicture,
  plainPicture,
  sampleRow,
  suspectFigure,
} from "./page-pictures.ts"
import { openPredictor, type Predictor, validationSet } from "./predictor.ts"
import { type PastPrediction, pastPredictions } from "./run-pictures.ts"
import {
  calibrationSection,
  classesSection,
  confusionSection,
  errorsSection,
  honestySection,
  scored,
  scoreSentence,
  scoresSection,
} from "./score-sections.ts"
import type { Suspect } from "./suspects.ts"
import { trainingSection } from "./training-section.ts"
import { inferenceText } from "./words.ts"

export interface ReportOptions extends FindingsOptions {
  /** Default: report.html in the run. */
  readonly out?: string
}

const BEST_IMAGES = 3
const WORST_IMAGES = 6
const SUSPECTS = 8
const PAST_EVALUATIONS = 4 // with image and truth they fill a row

/**
 * Writes the report of a run. What is not known of its present weights yet is measured first, see `findingsOf`.
 * @returns the file
 * @throws UserError when the run has no weights, or its data set is not there and its scores are not known
 */
export async function writeReport(run: RunFolder, { out, ...options }: ReportOptions = {}): Promise<string> {
  const { inference = {} } = options
  const { evaluation, diagnosis } = await findingsOf(run, options)
  const { config, labelMap } = run
  const records = run.records()
  const explanation = await explainConfig(config, { run })
  const data = options.data ?? config.data
  const valSet = existsSync(data) ? validationSet(run, data) : null
  const trainImages = attempt(
    () => trainSetOf(run, data).ids.length,
    () => null, // the training split need not be there
  )
  const images = { train: trainImages, val: evaluation.images.length }
  const all = scored(evaluation)
  const sections = [
    scoresSection(all),
    trainingSection(run, { explanation, images }),
    section("How it went", chartGrid(runCharts(records))),
    classesSection(all, records),
    honestySection(all),
    confusionSection(all),
    errorsSection(diagnosis.errors),
    calibrationSection(evaluation),
  ]
  if (valSet === null) {
    sections.push(
      section(
        "Pictures",
        notice(`The data set ${data} is not there now, so there are no pictures. Say where it is: --data.`),
      ),
    )
  } else {
    using predictor = openPredictor(run, valSet, inference)
    const shared = { predictor, labelMap, signal: options.signal }
    sections.push(
      await extremesSection(evaluation.images, shared),
      await pastSection(pastPredictions(run), valSet, labelMap),
      await suspectsSection(diagnosis.suspects, shared),
    )
  }
  const name = basename(resolve(run.path))
  const file = out ?? run.file("report.html")
  const text = page({
    title: `${name}: ${config.model}${config.encoder === null ? "" : ` on ${config.encoder}`}`,
    lead: html`${scoreSentence(all)} Validated on ${evaluation.images.length.toLocaleString("en")} images of ${evaluation.data}${isPlain(inference) ? "" : `, ${inferenceText(inference)}`}. Written by pixelwise ${version}.`,
    sections: sections.filter((part) => part !== null),
  })
  writeFileAtomic(file, text)
  return file
}

const trainSetOf = ({ config }: RunFolder, data: string): VocFolder =>
  openVocFolder(data, { split: config.trainSplit, ...classSelection(config) })

interface Shared {
  readonly predictor: Predictor
  readonly labelMap: LabelMap
  readonly signal?: AbortSignal
}

// --- images -----------------------------------------------------------------------------------------------------------------

/** The images with the lowest and the highest mean IoU of their own. */
export function extremes(images: readonly ImageEvaluation[], classes: number) {
  const ranked = images
    .flatMap((image) => {
      const score = imageScore(image, classes)
      return score === null ? [] : [{ image, score }]
    })
    .sort((a, b) => a.score - b.score)
  const worst = ranked.slice(0, Math.min(WORST_IMAGES, Math.ceil(ranked.length / 2)))
  // An image of background alone is easy, and tells nothing.
  const others = ranked.slice(worst.length)
  const telling = others.filter(({ image }) => new Set(image.confusion.map(([truth]) => truth)).size > 1)
  const best = telling.slice(-BEST_IMAGES).reverse()
  return { worst: worst.map(({ image }) => image), best: best.map(({ image }) => image) }
}

async function extremesSection(
  images: readonly ImageEvaluation[],
  { predictor, labelMap, signal }: Shared,
): Promise<Html> {
  const { worst, best } = extremes(images, labelMap.classes.length)
  const rows = async (chosen: readonly ImageEvaluation[]) => {
    const parts: Html[] = []
    for (const image of chosen) {
      signal?.throwIfAborted()
      parts.push(await sampleRow(await predictor.predict(image.id), image, labelMap))
    }
    return parts
  }
  return section(
    "Worst and best images",
    html`<p>By the mean IoU of each image, over the classes in its truth or prediction. In the errors, what is right is dark.</p>`,
    classLegend(labelMap),
    errorsLegend(),
    await rows(worst),
    best.length > 0 && html`<h3>The best</h3>`,
    await rows(best),
  )
}

/** Of many things some, evenly spread, the first and the last among them. */
export function spread<T>(things: readonly T[], count: number): T[] {
  if (things.length <= count) return [...things]
  return Array.from({ length: count }, (_, k) => things[Math.round((k * (things.length - 1)) / (count - 1))]!)
}

async function pastSection(
  past: ReadonlyMap<string, readonly PastPrediction[]>,
  valSet: VocFolder,
  labelMap: LabelMap,
): Promise<Html | null> {
  const parts: Html[] = []
  for (const [id, predictions] of past) {
    const index = valSet.ids.indexOf(id)
    if (index < 0) continue // the split is another one now
    const { image: data, mask: labels, width, height } = await valSet.readSample(index)
    const picture = { width, height, data }
    const figures = [
      figure(await plainPicture(picture, id), "image"),
      figure(await maskPicture(picture, { width, height, labels }, labelMap, `${id}, the truth`), "truth"),
    ]
    for (const { step, mask } of spread(predictions, PAST_EVALUATIONS)) {
      const at = `step ${step.toLocaleString("en")}`
      figures.push(figure(await maskPicture(picture, mask, labelMap, `${id} at ${at}`), at))
    }
    parts.push(html`<h3>${id}</h3>`, strip(figures))
  }
  if (parts.length === 0) return null
  return section(
    "Predictions over time",
    html`<p>The same images at each evaluation${
      [...past.values()].some(({ length }) => length > PAST_EVALUATIONS) && ", or at some of them, evenly spread"
    }.</p>`,
    parts,
  )
}

async function suspectsSection(suspects: readonly Suspect[], { predictor, labelMap, signal }: Shared): Promise<Html> {
  const title = "Labels that may be wrong"
  const ofImages = suspects.filter(({ id }, k) => suspects.findIndex((other) => other.id === id) === k)
  const shown = ofImages.slice(0, SUSPECTS)
  if (shown.length === 0) {
    return section(
      title,
      html`<p>There is no region in which the model is sure of something else than the label says.</p>`,
    )
  }
  const parts: Html[] = []
  for (const suspect of shown) {
    signal?.throwIfAborted()
    parts.push(await suspectFigure(suspect, await predictor.predict(suspect.id), labelMap))
  }
  return section(
    title,
    html`<p>Regions in which the model is sure, and sure of something else than the label. Either the label is wrong or the model is; both are worth a look. ${
      suspects.length > shown.length
        ? `The ${shown.length} most suspicious of ${suspects.length}, one of each image; the others stand in diagnosis.json.`
        : ""
    }</p>`,
    chartGrid(parts),
  )
}
