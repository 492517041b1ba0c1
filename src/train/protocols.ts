// Published training protocols: the options of a configuration that others trained with, so that their numbers can be
// compared with. A protocol is values for a configuration and nothing else; whatever its user gives wins over it.
import { takesOption } from "../models/index.ts"
import { type ScheduleEntry, schedules } from "../optim/index.ts"
import type { TrainConfig, TrainConfigInput } from "./config.ts"

/** To add one: its name here, and its options below. */
export const protocolNames = ["tf-deeplab", "torchvision"] as const
export type ProtocolName = (typeof protocolNames)[number]

type Protocol = Readonly<Omit<Partial<TrainConfigInput>, "data" | "protocol">>

/** What both do alike, and differently from this package's own defaults. */
const common = {
  optimizer: "sgd",
  momentum: 0.9,
  nesterov: false,
  schedule: "poly",
  power: 0.9,
  endLearningRate: 0,
  warmup: 0,
  headRate: 1, // all layers learn, and equally fast
  layerDecay: 1,
  freeze: 0,
  accumulate: 1,
  average: 0, // the last weights are evaluated,
  batchNormBatches: 0, // with the statistics that training left them
  loss: "cross-entropy",
  classWeights: "none",
  labelSmoothing: 0,
  upsampleLogits: true,
  initializeLastLayer: true,
  batchSize: 8,
  scale: [0.5, 2],
  fill: false,
  flip: 0.5,
  verticalFlip: 0,
  brightness: 0,
  contrast: 0,
  saturation: 0,
  hue: 0,
  grayscale: 0,
  blur: 0,
} as const satisfies Protocol

const values: Record<ProtocolName, Protocol> = {
  // TensorFlow's DeepLab: the flags of train.py, with the learning rate that its authors take on train_aug.
  // https://github.com/tensorflow/models/tree/master/research/deeplab; docs/deeplab.md has its flags one by one
  "tf-deeplab": {
    ...common,
    model: "deeplabv3plus",
    encoder: "mobilenet_v2", // model_variant
    outputStride: 16,
    steps: 30_000,
    learningRate: 0.007,
    weightDecay: 4e-5,
    decayExempt: "deeplab",
    biasMultiplier: 2,
    lastLayerMultiplier: 1,
    multiplierForm: "gradient",
    weightReduction: "pixels",
    batchNormMomentum: 0.0003, // batch_norm_decay 0.9997
    crop: [513, 513],
    scaleStep: 0.25,
    alignCorners: true,
    normalization: "symmetric",
  },
  // torchvision's references/segmentation: the defaults of train.py and presets.py, with --aux-loss, as its READMEs give it.
  // https://github.com/pytorch/vision/tree/main/references/segmentation
  // There a picture is flipped before it is padded, so its padding is always at the right; here it is flipped with it.
  torchvision: {
    ...common,
    model: "fcn",
    encoder: "resnet50",
    outputStride: 8,
    aux: true,
    auxWeight: 0.5,
    auxRate: 10,
    epochs: 30,
    learningRate: 0.01,
    weightDecay: 1e-4,
    decayExempt: "none",
    biasMultiplier: 1,
    lastLayerMultiplier: 1,
    weightReduction: "weights",
    batchNormMomentum: 0.1,
    resizeRange: [520, 1_000_000], // base_size, whatever the longer side is then
    scaleStep: 0,
    crop: [480, 480],
    padPixel: [0, 0, 0],
    alignCorners: false,
    normalization: "imagenet",
  },
}
export const protocols: Readonly<Record<ProtocolName, Protocol>> = values

/**
 * Where a protocol's value for an option does something. Elsewhere the option keeps its default: what a user chooses instead
 * of one thing takes that away which was about it.
 */
const acts: { readonly [Key in keyof TrainConfig]?: (config: TrainConfig, protocol: Protocol) => boolean } = {
  encoder: ({ model }, protocol) => model === protocol.model,
  outputStride: ({ model, encoder }, protocol) => model === protocol.model && encoder === protocol.encoder,
  aux: ({ model, encoder }) => takesOption(model, encoder, "aux"),
  auxWeight: (config) => hasAux(config),
  auxRate: (config) => hasAux(config),
  momentum: ({ optimizer }) => optimizer === "sgd",
  power: ({ schedule }) => takes(schedule, "power"),
  endLearningRate: ({ schedule }) => takes(schedule, "end"),
  decayExempt: ({ weightDecay }) => weightDecay > 0,
  multiplierForm: ({ biasMultiplier, lastLayerMultiplier }) => biasMultiplier !== 1 || lastLayerMultiplier !== 1,
  headRate: ({ weights }) => weights !== null, // else it is 1 anyway
  normalization: ({ weights, initFrom }) => weights === null && initFrom === null, // those know their own
  weightReduction: ({ classWeights, topK }) => classWeights !== "none" && topK === null,
  padPixel: ({ fill, rotation }) => !fill || rotation !== null,
}

const hasAux = ({ model, encoder, aux }: TrainConfig) => aux !== false && takesOption(model, encoder, "aux")
const takes = (name: TrainConfig["schedule"], option: string) =>
  (schedules[name] as ScheduleEntry).takes.some((taken) => taken === option)

const lengths = ["steps", "epochs", "budget"] as const

/**
 * What a protocol says to a configuration in which some options were given: of its options those that were not.
 * A length that was given, of whatever kind, replaces the protocol's.
 */
export function optionsOfProtocol(name: unknown, given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const protocol = protocolNames.some((known) => known === name) ? protocols[name as ProtocolName] : {}
  const hasLength = lengths.some((key) => given[key] !== undefined && given[key] !== null)
  const open = ([key]: [string, unknown]) =>
    !Object.hasOwn(given, key) && !(hasLength && lengths.some((length) => length === key))
  return Object.fromEntries(Object.entries(protocol).filter(open))
}

/** Those options of `keys` that the protocol set and that do nothing in this configuration. */
export function idleInProtocol(config: TrainConfig, keys: readonly string[]): string[] {
  const protocol = config.protocol === null ? {} : protocols[config.protocol]
  return keys.filter((key) => acts[key as keyof TrainConfig]?.(config, protocol) === false)
}
