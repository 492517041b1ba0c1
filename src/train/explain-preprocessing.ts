// What becomes of each training image, as facts: read off the transform that the loader is given.
import type { Census } from "../data/census.ts"
import type { LabelMap } from "../data/label-map.ts"
import { affineOf } from "../data/transforms/normalization.ts"
import { padValues, type RandomCropOptions, scaleFactors } from "../data/transforms/random-crop.ts"
import type { Known } from "./explain.ts"
import { type Fact, fact, number, round, triple } from "./facts.ts"
import type { ResolvedConfig } from "./prepare.ts"
import { trainTransform } from "./transforms.ts"

// Of data that is not there.
const nothing: LabelMap = { classes: [], ignore: { index: 255, name: "void", color: [0, 0, 0] }, background: undefined }
export const uncounted: Census = {
  pixels: new Float64Array(),
  images: new Uint32Array(),
  pixelsOfItsImages: new Float64Array(),
  ignored: 0,
}

/** In the order in which they happen. */
export function preprocessingFacts(config: ResolvedConfig, { data }: Known): Fact[] {
  const counted = data?.census ? data : null
  const asked = counted ? config : { ...config, cropClasses: null } // which classes those are, the data decides
  const spec = trainTransform(asked, counted?.labelMap ?? nothing, counted?.census ?? uncounted)
  const options = spec as RandomCropOptions
  const {
    range,
    scale = [1, 1],
    scaleStep = 0,
    fill = false,
    alignCorners = false,
    rotation,
    padPixel,
    cropSize,
  } = options
  const { rotationProbability = 1, flip = 0, verticalFlip = 0, mean = [0, 0, 0], std = [1, 1, 1] } = options
  const {
    brightness = 0,
    contrast = 0,
    saturation = 0,
    hue = 0,
    grayscale = 0,
    blur = 0,
    blurSigma = [0.1, 2],
  } = options
  const factors = scaleFactors(scale, scaleStep)
  const padded = padValues(padPixel, affineOf(options)).map((value) => round(value, 6))
  const pixel = padPixel ?? mean.map((value) => round(255 * value, 6))
  const size = cropSize.join("x")
  const padding = [
    ...(fill ? [] : [`at the bottom and right up to ${size}`]),
    ...(rotation ? ["beside what is rotated"] : []),
  ].join(", and ")
  const targets = counted
    ? (options.cropClasses ?? []).map((label) => counted.labelMap.classes[label]!.name)
    : config.cropClasses
  const aimed = config.cropClasses ? (config.classCrop ?? 0.5) : 0
  const jitter = Object.entries({ brightness, contrast, saturation }).filter(([, by]) => by > 0)
  const colors = [
    ...jitter.map(([name, by]) => `${name} x ${number(Math.max(0, 1 - by))} to ${number(1 + by)}`),
    ...(hue > 0 ? [`hue turned by up to ${number(hue)} of the circle`] : []),
  ]
  return [
    ...(range
      ? [
          fact(
            "resize",
            range,
            `shorter side to ${number(range.min)} pixels, the longer one to at most ${number(range.max)}${range.factor ? `; both then up to a multiple of ${range.factor}, plus 1` : ""}`,
          ),
        ]
      : []),
    fact(
      "scale",
      factors ? { factors, fill } : { from: scale[0], to: scale[1], fill },
      `${factors ? `one of ${factors.map(number).join(", ")}, all as likely` : scale[0] === scale[1] ? `always ${number(scale[0])}` : `any factor from ${number(scale[0])} to ${number(scale[1])}`}; size = trunc(size x factor)${fill ? `; more where that would not fill ${size}` : ""}`,
    ),
    fact(
      "coordinates",
      { alignCorners },
      alignCorners
        ? "align corners: pixel X of n' lies at X (n - 1) / (n' - 1); images bilinear, masks nearest"
        : "half pixels: pixel X of n' lies at (X + 0.5) n / n' - 0.5; images bilinear, masks nearest",
    ),
    ...(rotation
      ? [
          fact(
            "rotation",
            { degrees: rotation, probability: rotationProbability },
            `by ${number(rotation[0])} to ${number(rotation[1])} degrees, probability ${number(rotationProbability)}`,
          ),
        ]
      : []),
    padding
      ? fact(
          "padding",
          { pixel, normalized: padded, mask: 255 },
          `${padding}: pixel ${triple(pixel)}, which is ${triple(padded)} once normalised; mask 255, void`,
        )
      : fact("padding", null, "none: pictures fill the crop"),
    fact(
      "crop",
      { size: cropSize, classes: aimed > 0 ? targets : null, probability: aimed },
      `${size} pixels, anywhere${aimed > 0 ? `, or with probability ${number(aimed)} on a pixel of ${targets?.join(", ")}, where there is one` : ""}`,
    ),
    fact("left-right flip", flip, `probability ${number(flip)}`),
    ...(verticalFlip > 0 ? [fact("up-down flip", verticalFlip, `probability ${number(verticalFlip)}`)] : []),
    ...(colors.length > 0
      ? [fact("colour", { brightness, contrast, saturation, hue }, `${colors.join(", ")}, in random order`)]
      : []),
    ...(grayscale > 0 ? [fact("grey", grayscale, `probability ${number(grayscale)}`)] : []),
    ...(blur > 0
      ? [
          fact(
            "blur",
            { probability: blur, sigma: blurSigma },
            `Gaussian of ${number(blurSigma[0])} to ${number(blurSigma[1])} pixels, probability ${number(blur)}`,
          ),
        ]
      : []),
    fact(
      "normalisation",
      { name: config.normalization, mean, std },
      `${config.normalization}: (value / 255 - mean) / std, mean ${triple(mean.map((value) => round(value, 6)))}, std ${triple(std.map((value) => round(value, 6)))}`,
    ),
  ]
}
