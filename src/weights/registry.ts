// The weights that torchvision publishes for our models: where they are, how to recognise them, how images are prepared
// for them, and what they score. Written by hand from torchvision 0.14; tests/parity/weights.test.ts compares with
// what torchvision itself says. https://pytorch.org/vision/0.14/models.html
import { normalizations } from "../data/transforms/index.ts"
import { didYouMean } from "../errors.ts"

export type Weights = {
  /** "resnet50.imagenet1k_v2": torchvision's names of model and weights, in lower case */
  readonly name: string
  readonly model: string
  readonly url: string
  /**
   * First 8 hex digits of the file's SHA-256; they stand in its name too, see `check_hash` in
   * https://pytorch.org/docs/1.13/hub.html. They find every accident, and stop nobody who forges a file.
   */
  readonly sha256: string
  /** Size to 0.001 MiB, for display; the exact one is the server's to say. */
  readonly mebibytes: number
  /** Of the whole model, auxiliary heads included. */
  readonly parameters: number
  readonly kind: "classification" | "segmentation"
  /** How many, background included. */
  readonly classes: number
  /** In the order of their labels; ImageNet's thousand are left out. */
  readonly classNames?: readonly string[]
  readonly preprocessing: Preprocessing
  readonly score: { readonly metric: "acc@1" | "mIoU"; readonly percent: number; readonly on: string }
}

/** How images were prepared for the score: bilinear resize, centre crop, values to 0..1, minus mean, over std. */
export type Preprocessing = {
  /** The shorter side, in pixels. */
  readonly resize: number
  /** Height and width, in pixels; without it the whole image. */
  readonly crop?: number
  /** [R, G, B] of values in 0..1 */
  readonly mean: readonly [number, number, number]
  readonly std: readonly [number, number, number]
}

/** The labels of the models that were trained on COCO's images of VOC's classes; VOC 2012's order. */
export const vocClassNames: readonly string[] = [
  ...["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"],
  ...["diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"],
]

// Trained on ImageNet-1K.
//   model: [parameters, of IMAGENET1K_V1 and V2 each: [SHA-256, MiB, acc@1 in per cent]]
const imagenet = {
  resnet18: [11_689_512, ["f37072fd", 44.661, 69.758]],
  resnet34: [21_797_672, ["b627a593", 83.275, 73.314]],
  resnet50: [25_557_032, ["0676ba61", 97.781, 76.13], ["11ad3fa6", 97.79, 80.858]],
  resnet101: [44_549_160, ["63fe2227", 170.511, 77.374], ["cd907fc2", 170.53, 81.886]],
  mobilenet_v2: [3_504_872, ["b0353104", 13.555, 71.878], ["7ebf99e0", 13.598, 72.154]],
  mobilenet_v3_small: [2_542_856, ["047dcff4", 9.829, 67.668]],
  mobilenet_v3_large: [5_483_032, ["8738ca79", 21.114, 74.042], ["5c1a4163", 21.107, 75.274]],
  vgg16_bn: [138_365_992, ["6c64b313", 527.866, 73.36]],
  squeezenet1_1: [1_235_496, ["b8a52dc0", 4.729, 58.178]],
} satisfies Record<string, [number, ...[string, number, number][]]>

// Trained on COCO's images of VOC's classes.
//   model: [parameters, file, MiB, mIoU in per cent]
const coco = {
  deeplabv3_resnet50: [42_004_074, "deeplabv3_resnet50_coco-cd0a2569", 160.515, 66.4],
  deeplabv3_resnet101: [60_996_202, "deeplabv3_resnet101_coco-586e9e4e", 233.217, 67.4],
  deeplabv3_mobilenet_v3_large: [11_029_328, "deeplabv3_mobilenet_v3_large-fc3c493d", 42.301, 60.3],
  fcn_resnet50: [35_322_218, "fcn_resnet50_coco-1167a1af", 135.009, 60.5],
  fcn_resnet101: [54_314_346, "fcn_resnet101_coco-7ecb50ca", 207.711, 63.7],
  lraspp_mobilenet_v3_large: [3_221_538, "lraspp_mobilenet_v3_large-d234d4ea", 12.49, 57.9],
} satisfies Record<string, [number, string, number, number]>

const address = (file: string) => `https://download.pytorch.org/models/${file}.pth`

/** All of them; among those of one model the last is its default. */
export const publishedWeights: readonly Weights[] = [
  ...Object.entries(imagenet).flatMap(([model, [parameters, ...versions]]) =>
    versions.map(
      ([sha256, mebibytes, percent], k): Weights => ({
        ...{ name: `${model}.imagenet1k_v${k + 1}`, model, url: address(`${model}-${sha256}`), sha256, mebibytes },
        ...{ parameters, kind: "classification", classes: 1000 },
        // V2 cuts less away around the crop
        preprocessing: { resize: k === 0 ? 256 : 232, crop: 224, ...normalizations.imagenet },
        score: { metric: "acc@1", percent, on: "ImageNet-1K" },
      }),
    ),
  ),
  ...Object.entries(coco).map(
    ([model, [parameters, file, mebibytes, percent]]): Weights => ({
      ...{ name: `${model}.coco_with_voc_labels_v1`, model, url: address(file), sha256: file.slice(-8), mebibytes },
      ...{ parameters, kind: "segmentation", classes: vocClassNames.length, classNames: vocClassNames },
      preprocessing: { resize: 520, ...normalizations.imagenet },
      score: { metric: "mIoU", percent, on: "COCO-val2017-VOC-labels" },
    }),
  ),
]

/** Whether the model's bare name means these. */
export const isDefault = ({ model, name }: Pick<Weights, "model" | "name">): boolean =>
  findWeights(model)?.name === name

/** By name, ignoring case: "resnet50.imagenet1k_v2"; "resnet50" and "resnet50.default" are torchvision's DEFAULT. */
export function findWeights(name: string): Weights | undefined {
  const wanted = name.toLowerCase().replace(/\.default$/, "")
  return publishedWeights.findLast((weights) => weights.name === wanted || weights.model === wanted)
}

/** ` Did you mean "resnet50"?`, or "" when no name is close. */
export const suggestWeights = (name: string): string =>
  didYouMean(name, new Set(publishedWeights.flatMap(({ model, name }) => [model, name])))
