// How a configuration transforms its training images: the loader's transform, made of the flat options.
import { median } from "../arrays.ts"
import type { Census } from "../data/census.ts"
import type { LabelMap } from "../data/label-map.ts"
import { normalizations, type TransformSpec } from "../data/transforms/index.ts"
import { didYouMean, UserError } from "../errors.ts"
import { type NameKey, normalizationOf, type TrainConfig } from "./config.ts"
import type { ResolvedConfig } from "./prepare.ts"

/** In --crop-classes: the classes with fewer pixels than the median class. */
const rare = "rare"

/** The training crops of a configuration. @throws UserError when `cropClasses` names what is not there */
export function trainTransform(config: ResolvedConfig, labelMap: LabelMap, census: Census): TransformSpec {
  const { crop, scale, scaleStep, fill, alignCorners, flip, verticalFlip } = config
  const { brightness, contrast, saturation, hue, grayscale, blur } = config
  const { resizeRange, resizeFactor, rotation, rotationProbability, padPixel, cropClasses, classCrop, blurSigma } =
    config
  return {
    name: "randomCrop",
    cropSize: crop,
    range: resizeRange ? { min: resizeRange[0], max: resizeRange[1], factor: resizeFactor ?? undefined } : undefined,
    scale,
    scaleStep,
    fill,
    alignCorners,
    rotation: rotation ?? undefined,
    rotationProbability: rotationProbability ?? undefined,
    padPixel: padPixel ?? undefined,
    classCrop: cropClasses ? (classCrop ?? 0.5) : 0,
    cropClasses: cropClasses ? labelsOf(cropClasses, labelMap, census) : undefined,
    flip,
    verticalFlip,
    brightness,
    contrast,
    saturation,
    hue,
    grayscale,
    blur,
    blurSigma: blurSigma ?? undefined,
    ...normalizations[normalizationOf(config)],
  }
}

/** The labels of classes by name; a class of the data set that is called "rare" goes before our word. */
function labelsOf(names: readonly string[], { classes }: LabelMap, { pixels }: Census): number[] {
  const known = classes.map(({ name }) => name)
  const labels = names.flatMap((name) => {
    if (known.includes(name)) return [known.indexOf(name)]
    if (name === rare) return rareClasses(pixels)
    throw new UserError(
      `cropClasses: there is no class "${name}"; expected ${rare}, or some of ${known.join(", ")}.${didYouMean(name, [rare, ...known])}`,
    )
  })
  const absent = labels.filter((label) => pixels[label] === 0).map((label) => known[label])
  if (labels.length === 0 || absent.length > 0) {
    const what = labels.length === 0 ? "No class is rarer than the others" : `No training mask has ${absent.join(", ")}`
    throw new UserError(`cropClasses: ${what}; expected classes that occur. The classes are ${known.join(", ")}.`)
  }
  return [...new Set(labels)]
}

/** Those that occur, with fewer pixels than the median of those that occur. */
export function rareClasses(pixels: ArrayLike<number>): number[] {
  const middle = median(Array.from(pixels).filter((count) => count > 0))
  return Array.from(pixels, (count, label) => ({ count, label }))
    .filter(({ count }) => count > 0 && count < middle)
    .map(({ label }) => label)
}

/** @throws UserError for an option that is about another one, which is not given, or for a range that is reversed */
export function refuseIdleTransforms(config: TrainConfig, name: NameKey): void {
  const about = (key: keyof TrainConfig, isIdle: boolean, other: string) => {
    if (config[key] !== null && isIdle) throw new UserError(`${name(key)} is about ${other}, which is not given.`)
  }
  about("resizeFactor", config.resizeRange === null, name("resizeRange"))
  about("rotationProbability", config.rotation === null, name("rotation"))
  about("classCrop", config.cropClasses === null, name("cropClasses"))
  about("blurSigma", config.blur === 0, name("blur"))
  for (const key of ["resizeRange", "rotation", "blurSigma"] as const) {
    const range = config[key]
    if (range && range[0] > range[1])
      throw new UserError(`${name(key)} is ${range.join(",")}: the smaller comes first.`)
  }
  if (config.padPixel !== null && config.fill && config.rotation === null) {
    throw new UserError(
      `${name("padPixel")} is what lies beyond pictures, and ${name("fill")} leaves nothing of that: turn it off, or leave this out.`,
    )
  }
  if (config.groundTruth === "alpha" && config.classes !== null) {
    throw new UserError(
      `${name("classes")} chooses among labels, and alpha mattes (${name("groundTruth")}) have but background and foreground: leave it out.`,
    )
  }
}
