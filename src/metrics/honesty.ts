// The metric honesty table: one prediction, scored by every convention that people call "mIoU", "accuracy" or "Dice", and beside
// each what predicting background everywhere would claim. Two numbers from different rows cannot be compared.
import { sum } from "../arrays.ts"
import type { ConfusionMatrix } from "./confusion-matrix.ts"
import { type Evaluation, matrixOf, matrixOfImage } from "./evaluation.ts"
import { classImageMeanIoU, type ImageScore, imageMeanF1, imageMeanIoU } from "./image-scores.ts"
import { mean, ratio } from "./means.ts"
import {
  backgroundOnly,
  classScores,
  frequencyWeightedIoU,
  hits,
  meanAccuracy,
  meanF1,
  meanIoU,
  meanIoUPresent,
  meanIoUWithoutBackground,
  pixelAccuracy,
  type Score,
  trivialClass,
} from "./scores.ts"

/** One convention of scoring, and the number that it would claim. */
export interface HonestyRow {
  readonly name: string
  /** 0 to 1; null where undefined. */
  readonly value: number | null
  /** What predicting one class everywhere (background, or the largest) would claim by the same convention. */
  readonly trivial: number | null
  /** A sentence. */
  readonly whatItCounts: string
  /** A sentence: which classes or images the number leaves out, with their names or count; "" when it leaves out none. */
  readonly leavesOut: string
  /** A sentence: how the number misleads; absent where it does not. */
  readonly trap?: string
}

/** A set under one prediction. */
interface Scored {
  readonly matrix: ConfusionMatrix
  /** One per image. */
  readonly images: readonly ConfusionMatrix[]
  readonly voidPixels: number
  readonly background: number | null
}

type Convention = Pick<HonestyRow, "name" | "whatItCounts" | "trap"> & {
  readonly score: (scored: Scored) => Score | ImageScore
  /** What is true of the classes that it leaves out, when it leaves out some. */
  readonly leftOut: string
  /** It leaves out background. */
  readonly objectsOnly?: true
}

const absent = "in neither truth nor prediction"
const notInTruth = "not in the truth"

const conventions: readonly Convention[] = [
  {
    name: "mean IoU",
    score: ({ matrix }) => meanIoU(matrix),
    leftOut: absent,
    whatItCounts:
      "IoU of each class over all pixels of the set, then the mean over classes: the score of PASCAL VOC and Cityscapes.",
  },
  {
    name: "mean IoU without background",
    score: ({ matrix, background }) => meanIoUWithoutBackground(matrix, { background }),
    leftOut: absent,
    objectsOnly: true,
    whatItCounts: "The same mean over all classes but background, which is easy and large.",
  },
  {
    name: "mean IoU of present classes",
    score: ({ matrix }) => meanIoUPresent(matrix),
    leftOut: notInTruth,
    whatItCounts: "The same mean over the classes that the truth has.",
    trap: "Predicting a class that is nowhere lowers no class of its own.",
  },
  {
    name: "mean IoU, absent class as 1",
    score: ({ matrix }) => absentAs(1, matrix),
    leftOut: "",
    whatItCounts: "The mean over all classes, where a class in neither truth nor prediction counts as perfect.",
    trap: "Classes that the set does not have lift the score, whatever the model does.",
  },
  {
    name: "mean IoU, absent class as 0",
    score: ({ matrix }) => absentAs(0, matrix),
    leftOut: "",
    whatItCounts: "The mean over all classes, where a class in neither truth nor prediction counts as missed.",
    trap: "Classes that the set does not have lower the score, whatever the model does.",
  },
  {
    name: "mean IoU per image",
    score: ({ images }) => imageMeanIoU(images),
    leftOut: "",
    whatItCounts: "Each image's mean IoU over the classes in its truth or prediction, then the mean over images.",
    trap: "Images with little in them are easy and count as much as crowded ones: not comparable with the set's mean IoU.",
  },
  {
    name: "mean IoU per image, absent class as 1",
    score: ({ images }) => ({ ...mean(images.map((matrix) => absentAs(1, matrix).value)), leftOut: [] }),
    leftOut: "",
    whatItCounts: "Each image's mean over all classes, absent ones counted as perfect, then the mean over images.",
    trap: "An image has few of the classes, so most of what is averaged is 1.",
  },
  {
    name: "mean IoU per class and image",
    score: ({ images }) => classImageMeanIoU(images),
    leftOut: absent,
    whatItCounts: "Each class's mean IoU over the images with it in truth or prediction, then the mean over classes.",
    trap: "A small object counts as much as a large one: not comparable with the set's mean IoU.",
  },
  {
    name: "micro IoU",
    score: ({ matrix }) => ({ value: microIoU(matrix), leftOut: [] }),
    leftOut: "",
    whatItCounts: "Right pixels of all classes together / their unions together.",
    trap: "Pixel accuracy in another form: the largest class, mostly background, decides.",
  },
  {
    name: "frequency-weighted IoU",
    score: ({ matrix }) => frequencyWeightedIoU(matrix),
    leftOut: notInTruth,
    whatItCounts: "IoU of each class, weighted by its share of the true pixels.",
    trap: "The largest class, mostly background, decides.",
  },
  {
    name: "pixel accuracy (micro F1, micro recall)",
    score: ({ matrix }) => pixelAccuracy(matrix),
    leftOut: "",
    whatItCounts: "Share of right pixels.",
    trap: "Predicting only background scores the share of background.",
  },
  {
    name: "pixel accuracy, void divided by too",
    score: ({ matrix, voidPixels }) => ({
      value: ratio(hits(matrix), sum(matrix.counts) + voidPixels),
      leftOut: [],
    }),
    leftOut: "",
    whatItCounts: "Right pixels / all pixels, void pixels included, of which none can be right.",
    trap: "As pixel accuracy, and lower by the share of void pixels: a common mistake in scripts.",
  },
  {
    name: "mean accuracy (mean recall)",
    score: ({ matrix }) => meanAccuracy(matrix),
    leftOut: notInTruth,
    whatItCounts: "Share of each class's pixels that was found, then the mean over classes.",
    trap: "Rare classes painted too large cost nothing of their own, and background little.",
  },
  {
    name: "mean F1 (Dice)",
    score: ({ matrix }) => meanF1(matrix),
    leftOut: absent,
    whatItCounts: "2 IoU / (1 + IoU) of each class over all pixels of the set, then the mean over classes.",
    trap: "The same prediction has a higher F1 than IoU: never compare one with the other.",
  },
  {
    name: "mean F1 (Dice) per image",
    score: ({ images }) => imageMeanF1(images),
    leftOut: "",
    whatItCounts: "Each image's mean F1 over the classes in its truth or prediction, then the mean over images.",
    trap: "Both higher than IoU and averaged over images, where easy images count as much as hard ones.",
  },
]

/** Scores under the conventions that people confuse, side by side. The first row is the one to quote. */
export function honestyTable(evaluation: Evaluation): readonly HonestyRow[] {
  const { classes, background } = evaluation
  const whole = scored(evaluation)
  const everywhere = trivialClass(whole.matrix, background)
  const trivial: Scored = {
    ...whole,
    matrix: backgroundOnly(whole.matrix, everywhere),
    images: whole.images.map((matrix) => backgroundOnly(matrix, everywhere)),
  }
  return conventions
    .filter(({ objectsOnly }) => !objectsOnly || background !== null)
    .map(({ name, score, whatItCounts, trap, leftOut, objectsOnly }) => {
      const result = score(whole)
      const missing = result.leftOut.map((k) => classes[k] as string)
      const images = "imagesLeftOut" in result ? result.imagesLeftOut.length : 0
      const parts = [
        ...(objectsOnly ? [classes[background as number] as string] : []),
        ...(missing.length > 0 ? [`${missing.join(", ")} (${leftOut})`] : []),
        ...(images > 0 ? [`${images} ${images === 1 ? "image that is" : "images that are"} all void`] : []),
      ]
      const leavesOut = parts.length > 0 ? `${parts.join("; ")}.` : ""
      return {
        name,
        value: result.value,
        trivial: score(trivial).value,
        whatItCounts,
        leavesOut,
        ...(trap && { trap }),
      }
    })
}

function scored(evaluation: Evaluation): Scored {
  const { classes, images, background } = evaluation
  const matrix = matrixOf(evaluation)
  const pixels = sum(images.map(({ width, height }) => width * height))
  return {
    matrix,
    images: images.map((image) => matrixOfImage(image, classes.length)),
    voidPixels: pixels - sum(matrix.counts),
    background,
  }
}

const absentAs = (value: number, matrix: ConfusionMatrix): Score =>
  mean(classScores(matrix).map(({ iou }) => iou ?? value))

/** Each wrong pixel is in two unions, each right one in one. */
function microIoU(matrix: ConfusionMatrix): number | null {
  const [right, pixels] = [hits(matrix), sum(matrix.counts)]
  return ratio(right, 2 * pixels - right)
}
