// Pictures of samples for pages: the image, what should be seen in it, what was, and the errors by their kind.
import type { RgbImage } from "../data/image.ts"
import { type LabelMap, paletteOf } from "../data/label-map.ts"
import type { Mask } from "../data/mask.ts"
import type { ImageEvaluation } from "../metrics/evaluation.ts"
import { classScores, matrixOfImage, meanIoU } from "../metrics/index.ts"
import { fitInside, pageBox, resizeImage, sizeInside } from "./canvas.ts"
import { classifyErrors, errorKinds, errorLegend, errorPicture, wrongKinds } from "./errors.ts"
import { figure, type Html, html, image, row, swatches } from "./html.ts"
import { cropImage, cropMask, frame, nameObjects, overlay, resizeMask } from "./pictures.ts"
import type { Sample } from "./predictor.ts"
import { cropAround, type Suspect } from "./suspects.ts"
import { percent } from "./words.ts"

/** A picture as it is. */
export async function plainPicture(picture: RgbImage, alt: string): Promise<Html> {
  return image(await fitInside(picture, pageBox), { alt })
}

/** A picture under its mask, with the names of the objects on it. */
export async function maskPicture(picture: RgbImage, mask: Mask, labelMap: LabelMap, alt: string): Promise<Html> {
  const size = sizeInside(mask, pageBox)
  const small = resizeMask(mask, size)
  const { background } = labelMap
  const under = await resizeImage(picture, size)
  const tinted = overlay(under, small, paletteOf(labelMap), { background })
  return image(nameObjects(tinted, small, labelMap), { alt })
}

/** Image, prediction, truth and errors in a row, under what the numbers say. */
export async function sampleRow(sample: Sample, evaluated: ImageEvaluation, labelMap: LabelMap): Promise<Html> {
  const { id, image: picture, truth, prediction } = sample
  const background = labelMap.background ?? null
  const kinds = classifyErrors(prediction.labels, truth.labels, truth, { background })
  const errors = errorPicture(await fitInside(picture, pageBox), resizeKinds(kinds, truth))
  return html`<h3>${id}</h3>
<p>${scoresInWords(evaluated, labelMap)} ${kindsInWords(kinds)}</p>
${row(
  figure(await plainPicture(picture, `${id}, the image`), "image"),
  figure(await maskPicture(picture, prediction, labelMap, `${id}, what was predicted`), "prediction"),
  figure(await maskPicture(picture, truth, labelMap, `${id}, the truth`), "truth"),
  figure(await image(errors, { alt: `${id}, errors by their kind`, lossless: true }), "errors"),
)}`
}

const resizeKinds = (kinds: Uint8Array, { width, height }: Mask): Uint8Array =>
  resizeMask({ labels: kinds, width, height }, sizeInside({ width, height }, pageBox)).labels

/** Which colour is which class. */
export const classLegend = ({ classes, ignore }: LabelMap): Html => swatches([...classes, ignore])

/** Which colour is which kind of error. */
export const errorsLegend = (): Html =>
  swatches(errorLegend.map(({ name, meaning, color }) => ({ name: `${name}: ${meaning}`, color })))

/** The mean IoU of an image over the classes in its truth or prediction, 0 to 1. */
export const imageScore = (evaluated: ImageEvaluation, classes: number): number | null =>
  meanIoU(matrixOfImage(evaluated, classes)).value

/** "Mean IoU 41.2: background 88, cat 35, dog 0." */
function scoresInWords(evaluated: ImageEvaluation, { classes }: LabelMap): string {
  const matrix = matrixOfImage(evaluated, classes.length)
  const present = classScores(matrix).flatMap(({ iou }, k) =>
    iou === null ? [] : [`${classes[k]!.name} ${(100 * iou).toFixed(0)}`],
  )
  return `Mean IoU ${percent(meanIoU(matrix).value)}: ${present.join(", ")}.`
}

/** "Of its pixels 3.1 % are boundary errors, ..." */
function kindsInWords(kinds: Uint8Array): string {
  const counts = errorKinds.map(() => 0)
  for (const kind of kinds) counts[kind]! += 1
  const counted = kinds.length - counts[errorKinds.indexOf("void")]!
  const shares = wrongKinds
    .map((kind) => ({ kind, share: counts[errorKinds.indexOf(kind)]! / counted }))
    .filter(({ share }) => share >= 0.0005)
    .map(({ kind, share }) => `${errorLegend.find((entry) => entry.kind === kind)!.name} ${percent(share)} %`)
  return shares.length > 0 ? `Wrong pixels: ${shares.join(", ")}.` : "No wrong pixels."
}

/** A place where the truth may be wrong, with its surroundings. */
export async function suspectFigure(
  { box, truth, prediction, confidence, pixels, id }: Suspect,
  sample: Sample,
  labelMap: LabelMap,
): Promise<Html> {
  const around = cropAround(box, sample.image)
  const picture = cropImage(sample.image, around)
  const name = (label: number) => labelMap.classes[label]?.name ?? String(label)
  const masked = (mask: Mask, alt: string) => maskPicture(picture, cropMask(mask, around), labelMap, alt)
  const [left, top, width, height] = box
  const framed = frame(picture, [left - around[0], top - around[1], width, height])
  return html`<h3>${id}: ${name(truth)}, or ${name(prediction)}?</h3>
<p>The label says ${name(truth)}; the model is ${(100 * confidence).toFixed(0)} % sure of ${name(prediction)}, on ${pixels.toLocaleString("en")} pixels (columns ${left} to ${left + width - 1}, rows ${top} to ${top + height - 1}).</p>
${row(
  figure(await plainPicture(framed, `${id}, cut out`), "image"),
  figure(await masked(sample.truth, `${id}, its label`), "label"),
  figure(await masked(sample.prediction, `${id}, what was predicted`), "prediction"),
)}`
}
