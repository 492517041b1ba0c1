// The models by name. To add one: write its file beside unet.ts and add one line here; the command line, the
// configuration's types and the contract tests follow.

import { didYouMean, UserError } from "../errors.ts"
import { tidy } from "../torch/index.ts"
import { DeepLabV3 } from "./deeplabv3.ts"
import { DeepLabV3Plus } from "./deeplabv3plus.ts"
import { createEncoder, type Encoder, type EncoderOptions, findEncoder, type OutputStride } from "./encoders/index.ts"
import { FCN } from "./fcn.ts"
import { FCNSkip } from "./fcn-skip.ts"
import { ImagePyramid, type PyramidMerge } from "./image-pyramid.ts"
import { LinkNet } from "./linknet.ts"
import { LRASPP } from "./lraspp.ts"
import { preferredMemoryFormat } from "./memory-format.ts"
import type { SegmentationModel } from "./model.ts"
import { PSPNet } from "./pspnet.ts"
import { SegNet } from "./segnet.ts"
import { UNet } from "./unet.ts"
import { EncoderUNet } from "./unet-encoder.ts"

/** `numClasses` and `encoder` are for all, the encoder's options for what has an encoder, of the others each takes its own. */
export interface ModelOptions extends Omit<EncoderOptions, "width"> {
  numClasses: number
  /** Name of an encoder; default: the one of the model's paper. */
  encoder?: string
  atrousRates?: readonly number[]
  aux?: boolean
  auxMap?: number
  width?: number
  depth?: number
  upsampling?: "transposed" | "bilinear"
  /** For every model: sizes in which it looks at the image, as factors (see ImagePyramid). */
  imagePyramid?: readonly number[]
  pyramidMerge?: PyramidMerge
  /** How smaller logits become as large as the image, see SegmentationModel. */
  alignCorners?: boolean
}

const ownOptions = ["atrousRates", "aux", "auxMap", "width", "depth", "upsampling"] as const
type OwnOption = (typeof ownOptions)[number]

export interface ModelEntry {
  /** The encoder when none is named; null: layers of its own. */
  readonly encoder: string | null
  /** The encoder's, when none is given and the encoder can have it. */
  readonly outputStride: OutputStride
  /** With an encoder. */
  readonly takes: readonly OwnOption[]
  readonly create: (encoder: Encoder, options: ModelOptions) => SegmentationModel
  /** Without one. */
  readonly own?: {
    readonly takes: readonly OwnOption[]
    readonly create: (options: ModelOptions) => SegmentationModel
  }
  /** Options that make it small, for tests that run every model; default: none. */
  readonly small?: Partial<ModelOptions>
}

export const models = {
  unet: {
    encoder: null,
    outputStride: 32,
    takes: [],
    create: (encoder, options) => new EncoderUNet(encoder, options),
    own: { takes: ["width", "depth", "upsampling"], create: (options) => new UNet(options) },
    small: { width: 4, depth: 3 },
  },
  linknet: {
    encoder: "resnet18",
    outputStride: 32,
    takes: [],
    create: (encoder, options) => new LinkNet(encoder, options),
  },
  segnet: {
    encoder: "vgg16_bn",
    outputStride: 32,
    takes: [],
    create: (encoder, options) => new SegNet(encoder, options),
  },
  fcn32s: {
    encoder: "vgg16_bn",
    outputStride: 32,
    takes: ["width"],
    create: (encoder, options) => new FCNSkip(encoder, { ...options, skips: 0 }),
    small: { encoder: "mobilenet_v2_0.35", width: 8 },
  },
  fcn16s: {
    encoder: "vgg16_bn",
    outputStride: 32,
    takes: ["width"],
    create: (encoder, options) => new FCNSkip(encoder, { ...options, skips: 1 }),
    small: { encoder: "squeezenet1_1", width: 8 },
  },
  fcn8s: {
    encoder: "vgg16_bn",
    outputStride: 32,
    takes: ["width"],
    create: (encoder, options) => new FCNSkip(encoder, { ...options, skips: 2 }),
    small: { width: 8 },
  },
  fcn: {
    encoder: "resnet50",
    outputStride: 8,
    takes: ["aux", "auxMap"],
    create: (encoder, options) => new FCN(encoder, options),
    small: { encoder: "resnet18", aux: true },
  },
  pspnet: {
    encoder: "resnet50",
    outputStride: 8,
    takes: ["aux", "auxMap"],
    create: (encoder, options) => new PSPNet(encoder, options),
    small: { encoder: "resnet18" },
  },
  deeplabv3: {
    encoder: "resnet50",
    outputStride: 16,
    takes: ["atrousRates", "aux", "auxMap"],
    create: (encoder, options) => new DeepLabV3(encoder, options),
    small: { encoder: "mobilenet_v2_0.35", aux: true },
  },
  deeplabv3plus: {
    encoder: "resnet50",
    outputStride: 16,
    takes: ["atrousRates"],
    create: (encoder, options) => new DeepLabV3Plus(encoder, options),
    small: { encoder: "resnet18" },
  },
  lraspp: {
    encoder: "mobilenet_v3_large",
    outputStride: 16,
    takes: [],
    create: (encoder, options) => new LRASPP(encoder, options),
  },
} satisfies Record<string, ModelEntry>

type Preset = { readonly model: keyof typeof models } & Partial<ModelOptions>

/** Whole models under torchvision's names, with its options: its checkpoints load unchanged. */
export const presets = {
  fcn_resnet50: { model: "fcn", encoder: "resnet50", outputStride: 8 },
  fcn_resnet101: { model: "fcn", encoder: "resnet101", outputStride: 8 },
  deeplabv3_resnet50: { model: "deeplabv3", encoder: "resnet50", outputStride: 8 },
  deeplabv3_resnet101: { model: "deeplabv3", encoder: "resnet101", outputStride: 8 },
  deeplabv3_mobilenet_v3_large: {
    model: "deeplabv3",
    encoder: "mobilenet_v3_large",
    outputStride: 16,
    atrousRates: [12, 24, 36],
    auxMap: -3,
  },
  lraspp_mobilenet_v3_large: { model: "lraspp", encoder: "mobilenet_v3_large", outputStride: 16 },
} as const satisfies Record<string, Preset>

export type ModelName = keyof typeof models | keyof typeof presets
export const modelNames = [...Object.keys(models), ...Object.keys(presets)] as ModelName[]

const encoderOptions = ["outputStride", "multiGrid", "padding"] as const

/**
 * A model with random weights: `createModel("deeplabv3", { encoder: "resnet50", numClasses: 21, outputStride: 16 })`.
 * @throws UserError naming the models there are, the options that this one has, or what one of them should be
 */
export function createModel(name: string, options: ModelOptions): SegmentationModel {
  const { entry, given } = resolve(name, options)
  const encoderName = given.encoder ?? entry.encoder
  const allowed = optionsOf(entry, encoderName)
  const refused = [...ownOptions, ...encoderOptions].filter((key) => given[key] !== undefined && !allowed.includes(key))
  if (refused.length > 0) {
    const which = given.encoder && entry.own ? `${name} with the encoder ${given.encoder}` : name
    throw new UserError(`The model ${which} has no ${refused.join(", ")}. Its options: encoder, ${allowed.join(", ")}.`)
  }
  const { imagePyramid, pyramidMerge, alignCorners = false } = given
  if (pyramidMerge !== undefined && imagePyramid === undefined)
    throw new UserError("pyramidMerge is about imagePyramid, which is not given.")
  return tidy(() => {
    const model = createPlain(entry, encoderName, given)
    model.to({ memoryFormat: preferredMemoryFormat() })
    model.alignCorners = alignCorners
    if (imagePyramid === undefined) return model
    try {
      return new ImagePyramid(model, { scales: imagePyramid, ...(pyramidMerge && { merge: pyramidMerge }) })
    } catch (error) {
      model.dispose()
      throw error
    }
  }) // frees what only the construction needed
}

type TakenOption = OwnOption | (typeof encoderOptions)[number]

function optionsOf({ own, takes }: ModelEntry, encoderName: string | null): readonly TakenOption[] {
  return encoderName === null ? own!.takes : [...takes, ...encoderOptions]
}

/** Whether a model takes an option, with the encoder of that name or (null) its own. */
export function takesOption(name: ModelName, encoder: string | null, option: TakenOption): boolean {
  const { entry } = resolve(name, { numClasses: 1 })
  return optionsOf(entry, encoderNameOf(name, encoder)).includes(option)
}

function createPlain(entry: ModelEntry, encoderName: string | null, given: ModelOptions): SegmentationModel {
  if (encoderName === null) return entry.own!.create(given)
  const { outputStrides } = findEncoder(encoderName).entry
  const canHave = outputStrides?.includes(entry.outputStride) ?? true
  const { outputStride = canHave ? entry.outputStride : undefined, multiGrid, padding } = given
  const encoder = createEncoder(encoderName, { outputStride, multiGrid, padding })
  try {
    return entry.create(encoder, given)
  } catch (error) {
    encoder.dispose()
    throw error
  }
}

/** The encoder that a model has when `encoder` is asked for, or none is; null: layers of its own. */
export function encoderNameOf(name: string, encoder: string | null): string | null {
  const preset = Object.hasOwn(presets, name) ? (presets as Record<string, Preset>)[name] : undefined
  return encoder ?? preset?.encoder ?? (models as Record<string, ModelEntry>)[name]?.encoder ?? null
}

function resolve(name: string, options: ModelOptions): { entry: ModelEntry; given: ModelOptions } {
  const given = Object.fromEntries(
    Object.entries(options).filter(([, value]) => value != null),
  ) as never as ModelOptions
  const preset = Object.hasOwn(presets, name) ? (presets as Record<string, Preset>)[name] : undefined
  const entry = (models as Record<string, ModelEntry>)[preset?.model ?? name]
  if (!entry || !Object.hasOwn(models, preset?.model ?? name)) {
    throw new UserError(`Unknown model "${name}".${didYouMean(name, modelNames)} There are: ${modelNames.join(", ")}.`)
  }
  if (preset?.encoder && given.encoder && given.encoder !== preset.encoder) {
    throw new UserError(`The model ${name} has the encoder ${preset.encoder}; for another one take ${preset.model}.`)
  }
  return { entry, given: { ...preset, ...given } }
}

// The classes too, for who constructs objects: tidy(() => new DeepLabV3(createEncoder("resnet50"), { numClasses: 21 })).
// A model disposes its encoder with itself; an encoder has stride 32 unless told otherwise.
export { Classifier, createClassifier } from "./classifiers.ts"
export { DeepLabV3, type DeepLabV3Options } from "./deeplabv3.ts"
export { DeepLabV3Plus, type DeepLabV3PlusOptions } from "./deeplabv3plus.ts"
export * from "./encoders/index.ts"
export { FCN, type FCNOptions } from "./fcn.ts"
export { FCNSkip, type FCNSkipOptions } from "./fcn-skip.ts"
export { ImagePyramid, type ImagePyramidOptions, type PyramidMerge, pyramidMerges } from "./image-pyramid.ts"
export { LinkNet } from "./linknet.ts"
export { LRASPP } from "./lraspp.ts"
export {
  callAtStride,
  callIn,
  deviceOf,
  logitStride,
  type SegmentationModel,
  type SegmentationOutput,
} from "./model.ts"
export { PSPNet, type PSPNetOptions } from "./pspnet.ts"
export { SegNet } from "./segnet.ts"
export { UNet, type UNetOptions } from "./unet.ts"
export { EncoderUNet } from "./unet-encoder.ts"
