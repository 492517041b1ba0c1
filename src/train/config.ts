// The configuration of a training run: one flat object. It is what the command line's flags, a --config file and the
// library's callers fill in, and what the run folder keeps.
import { z } from "zod"
import { type NormalizationName, normalizationNames } from "../data/transforms/index.ts"
import { groundTruths, type VocOptions } from "../data/voc-folder.ts"
import { didYouMean, UserError } from "../errors.ts"
import { classWeightingNames, EFFECTIVE_BETA } from "../losses/class-weights.ts"
import { lossNames } from "../losses/index.ts"
import { type ModelOptions, modelNames, pyramidMerges } from "../models/index.ts"
import { optimizerNames, scheduleNames } from "../optim/index.ts"
import { precisions } from "../torch/index.ts"
import { refuseUncapturable } from "./captured-step.ts"
import { refuseIdleLosses } from "./objective.ts"
import { refuseIdleOptimisation } from "./optimisation.ts"
import { idleInProtocol, optionsOfProtocol, protocolNames } from "./protocols.ts"
import { refuseIdleTransforms } from "./transforms.ts"

const size = z.tuple([z.int().positive(), z.int().positive()])
const fraction = z.number().min(0).max(1)
const jitter = z.number().min(0).nullable().default(null)
// optim/schedules.ts's Position
const isPosition = (value: number) => value < 1 || Number.isInteger(value)
const position = z.number().positive().refine(isPosition, "expected a whole number of steps, or a share below 1")

const schema = z.strictObject({
  protocol: z
    .enum(protocolNames)
    .nullable()
    .default(null)
    .describe("published way of training, whose options hold where no others are given"),

  // What is learned from
  data: z.string().min(1).describe("root of the VOC-style data set"),
  trainSplit: z.string().min(1).default("train").describe("split list to train on"),
  valSplit: z.string().min(1).default("val").describe("split list to evaluate on"),
  classes: z.array(z.string()).nullable().default(null).describe("classes to learn, by name; all when left out"),
  others: z
    .enum(["void", "background"])
    .default("void")
    .describe("what becomes of pixels of classes that are not chosen"),
  groundTruth: z
    .enum(groundTruths)
    .default("labels")
    .describe("what the masks are: labels, or grey alpha mattes of one foreground"),

  // What learns. null: as in the model's paper
  model: z.enum(modelNames).default("unet").describe("model"),
  encoder: z.string().nullable().default(null).describe("encoder, such as resnet50 or mobilenet_v2_0.35"),
  outputStride: z
    .literal([8, 16, 32])
    .nullable()
    .default(null)
    .describe("pixels of the image per pixel of the encoder's coarsest map: 8, 16, 32"),
  multiGrid: z
    .array(z.int().positive())
    .nullable()
    .default(null)
    .describe("dilation factors in the last stage of a ResNet: 1,2,4"),
  atrousRates: z
    .array(z.int().positive())
    .nullable()
    .default(null)
    .describe("rates of DeepLab's parallel convolutions"),
  aux: z.boolean().nullable().default(null).describe("whether an auxiliary head on an earlier map learns too"),
  auxWeight: z.number().min(0).nullable().default(null).describe("weight of the auxiliary head's loss (default: 0.4)"),
  imagePyramid: z
    .array(z.number().positive())
    .nullable()
    .default(null)
    .describe(
      "sizes in which the model looks at each image, as factors: 0.5,0.75,1; each has a loss, as their merger has",
    ),
  pyramidMerge: z
    .enum(pyramidMerges)
    .nullable()
    .default(null)
    .describe("how --image-pyramid's logits become one; max when left out"),
  width: z
    .int()
    .min(1)
    .max(4096)
    .nullable()
    .default(null)
    .describe("channels: of UNet's first level, of FCN-8s's head"),
  depth: z.int().min(1).max(7).nullable().default(null).describe("how often UNet halves the image"),
  upsampling: z.enum(["transposed", "bilinear"]).nullable().default(null).describe("how UNet enlarges again"),

  // What it begins with
  weights: z
    .string()
    .nullable()
    .default(null)
    .describe("pretrained weights of the encoder: a file, or a name that `pixelwise weights` lists"),
  initFrom: z
    .string()
    .nullable()
    .default(null)
    .describe("weights of the whole model: a run, a file or a name; other classes get a new last layer"),
  initializeLastLayer: z.boolean().default(true).describe("whether the last layer, too, comes from --init-from"),
  freeze: z
    .literal([0, 2, 4, 8, 16])
    .nullable()
    .default(null)
    .describe(
      "layers up to the encoder's map of this stride keep their weights: 2, 4, 8, 16; 0: all learn; 4 with --weights, else 0, when left out",
    ),
  batchNorm: z
    .enum(["auto", "train", "frozen", "unfold"])
    .default("auto")
    .describe("the encoder's batch-norm: auto unfolds what was folded, and trains"),
  batchNormMomentum: z
    .number()
    .positive()
    .max(1)
    .nullable()
    .default(null)
    .describe(
      "how far a step moves batch-norm's running statistics; DeepLab's decay 0.9997 is 0.0003; the model's own when left out",
    ),
  batchNormBatches: z
    .int()
    .min(0)
    .default(16)
    .describe(
      "training batches, unscaled, that batch-norm's statistics are measured on before each evaluation; 0: as training left them",
    ),
  syncBatchNorm: z
    .boolean()
    .default(false)
    .describe(
      "whether batch-norm takes its statistics over the batches of all processes, where several train together",
    ),
  normalization: z
    .enum(normalizationNames)
    .nullable()
    .default(null)
    .describe("of pixel values; by the weights when left out"),
  padding: z
    .enum(["symmetric", "tensorflow"])
    .nullable()
    .default(null)
    .describe("of MobileNetV2's strided convolutions; by the weights when left out"),

  // How
  loss: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      `loss, or a sum such as "cross-entropy + 0.5 dice", of ${lossNames.join(", ")}; hausdorff is in pixels squared and wants a small factor; cross-entropy when left out, with --weights and --ground-truth labels and jaccard`,
    ),
  classWeights: z
    .union([z.enum(["none", ...classWeightingNames]), z.array(z.number().min(0))], {
      error: `expected none, ${classWeightingNames.join(", ")}, or a number for each class`,
    })
    .default("none")
    .describe(
      `weights of the classes: none, ${classWeightingNames.join(", ")} (from the training masks), or a number for each`,
    ),
  effectiveBeta: z
    .number()
    .positive()
    .lt(1)
    .nullable()
    .default(null)
    .describe(`beta of the class weights "effective": closer to 1, closer to inverse; ${EFFECTIVE_BETA} when left out`),
  weightReduction: z
    .enum(["weights", "pixels"])
    .default("weights")
    .describe(
      "what weighted losses of pixels are divided by: the sum of their weights, as PyTorch, or their number, as DeepLab",
    ),
  labelSmoothing: fraction
    .nullable()
    .default(null)
    .describe(
      "share of cross-entropy's target that is spread over all classes; 0 when left out, 0.05 where the loss is left out too, with --weights",
    ),
  focalGamma: z
    .number()
    .min(0)
    .nullable()
    .default(null)
    .describe("how much focal loss turns easy pixels down; 2 when left out"),
  topK: z
    .number()
    .positive()
    .max(1)
    .nullable()
    .default(null)
    .describe("share of the pixels, those of the largest losses, that count; all when left out"),
  miningSteps: z
    .number()
    .min(0)
    .refine(isPosition, "expected a whole number of steps, or a share of the run below 1")
    .nullable()
    .default(null)
    .describe("steps, or share of the run, in which that share falls from 1 to --top-k; 0, at once, when left out"),
  ohemThreshold: z
    .number()
    .positive()
    .max(1)
    .nullable()
    .default(null)
    .describe("only pixels whose class has at most this probability count (online hard example mining)"),
  ohemMinKept: z
    .int()
    .min(0)
    .nullable()
    .default(null)
    .describe("but at least so many of a batch; a sixteenth of its pixels when left out"),
  upsampleLogits: z
    .boolean()
    .default(true)
    .describe(
      "whether logits are enlarged to the labels' size for the loss; otherwise labels are made as small as they are",
    ),
  optimizer: z.enum(optimizerNames).default("adamw").describe("optimizer"),
  learningRate: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("base learning rate; 2e-4 with --weights, else 1e-3, when left out"),
  headRate: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("factor of the learning rate of all but the encoder; 10 with --weights, else 1, when left out"),
  auxRate: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("the same for the auxiliary head; as for the other heads when left out"),
  momentum: fraction.nullable().default(null).describe("momentum of sgd; 0.9 when left out"),
  nesterov: z.boolean().default(false).describe("whether sgd's momentum looks ahead (Nesterov)"),
  betas: z
    .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
    .nullable()
    .default(null)
    .describe("what adam, adamw and lion keep of their two means a step; 0.9,0.999 (lion: 0.9,0.99) when left out"),
  eps: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("what adam and adamw add to the root of the mean square; 1e-8 when left out"),
  weightDecay: z.number().min(0).default(1e-4).describe("weight decay"),
  decayExempt: z
    .enum(["none", "norms-and-biases", "deeplab"])
    .default("none")
    .describe("what weight decay leaves alone; deeplab: depthwise weights, batch-norm and biases"),
  biasMultiplier: z.number().min(0).default(1).describe("factor for the biases of convolutions; DeepLab's is 2"),
  lastLayerMultiplier: z.number().min(0).default(1).describe("factor for the last layers, on top of the biases'"),
  lastLayers: z
    .enum(["head", "logits"])
    .nullable()
    .default(null)
    .describe("which layers are the last: head is all but the encoder; head when left out"),
  multiplierForm: z
    .enum(["gradient", "rate"])
    .nullable()
    .default(null)
    .describe(
      "what the two multipliers multiply: the gradient, L2 included, or the learning rate (a gradient's factor nearly cancels in adam, adamw and lion)",
    ),
  layerDecay: z
    .number()
    .positive()
    .max(1)
    .default(1)
    .describe("factor of the encoder's learning rates from each stage to the one before it; the head's is 1"),
  clipNorm: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("longest gradient, all parameters together, before multipliers and weight decay"),
  clipValue: z.number().positive().nullable().default(null).describe("largest number in a gradient; before clip-norm"),
  accumulate: z
    .int()
    .positive()
    .default(1)
    .describe("batches whose gradients are averaged for one step, where memory is short"),
  schedule: z.enum(scheduleNames).default("poly").describe("how the learning rate changes over the run"),
  power: z.number().positive().nullable().default(null).describe("exponent of poly; 0.9 when left out"),
  endLearningRate: z
    .number()
    .min(0)
    .nullable()
    .default(null)
    .describe("learning rate at the end; 0 when left out, one-cycle: 4e-6 of the base rate"),
  decaySteps: position
    .nullable()
    .default(null)
    .describe(
      "steps, or below 1 the share of the run, after which poly and cosine are at their end; all when left out",
    ),
  stepSize: position.nullable().default(null).describe("steps, or share of the run, from one fall of step to the next"),
  milestones: z
    .array(position)
    .min(1)
    .nullable()
    .default(null)
    .describe("steps, or shares of the run, at which multi-step falls"),
  gamma: z.number().positive().max(1).nullable().default(null).describe("factor of each fall; 0.1 when left out"),
  peakAt: z
    .number()
    .positive()
    .lt(1)
    .nullable()
    .default(null)
    .describe("share of the run in which one-cycle rises; 0.3 when left out"),
  restartEvery: position
    .nullable()
    .default(null)
    .describe("steps, or share of the run, of the first cycle of warm-restarts"),
  restartGrowth: z
    .number()
    .min(1)
    .nullable()
    .default(null)
    .describe("how many times as long each cycle is as the one before; 1 when left out"),
  slowStart: position
    .nullable()
    .default(null)
    .describe("steps, or share of the run, at the slow rate, before the schedule begins"),
  slowStartLearningRate: z.number().min(0).nullable().default(null).describe("the slow rate; 1e-4 when left out"),
  slowStartForm: z
    .enum(["constant", "linear"])
    .nullable()
    .default(null)
    .describe("whether it stays so, or rises in a line to the base rate; constant when left out"),
  warmup: fraction
    .nullable()
    .default(null)
    .describe(
      "share of the run in which the learning rate rises from a hundredth; 0.03 when left out, 0 with slow-start or one-cycle",
    ),
  average: z
    .number()
    .min(0)
    .lt(1)
    .default(0.999)
    .describe("how much of the averaged weights, which are evaluated and saved, a step keeps; 0 takes the last ones"),
  batchSize: z.int().positive().default(8).describe("images a step"),
  crop: size.default([256, 256]).describe("height,width in pixels of the training crops; one number for squares"),
  resizeRange: z
    .tuple([z.int().positive(), z.int().positive()])
    .nullable()
    .default(null)
    .describe(
      "pixels that training images get first: of the shorter side, but at most so many of the longer; 513,1025",
    ),
  resizeFactor: z
    .int()
    .min(2)
    .nullable()
    .default(null)
    .describe("sides after --resize-range are multiples of this, plus 1: the output stride"),
  scale: z
    .tuple([z.number().positive(), z.number().positive()])
    .default([0.5, 2])
    .describe("smallest,largest random scale"),
  scaleStep: z.number().min(0).default(0).describe("scales in steps of this, such as 0.25; 0 for any in between"),
  fill: z
    .boolean()
    .default(true)
    .describe("whether pictures that would not fill the crop are enlarged; otherwise they are padded"),
  alignCorners: z
    .boolean()
    .default(false)
    .describe(
      "whether scaling pictures, masks and logits keeps the centres of the corner pixels in place, as DeepLab's, or the edges, as PyTorch's",
    ),
  rotation: z
    .tuple([z.number().min(-360).max(360), z.number().min(-360).max(360)])
    .nullable()
    .default(null)
    .describe("smallest,largest rotation in degrees, counter-clockwise: -10,10"),
  rotationProbability: fraction.nullable().default(null).describe("probability of a rotation; 1 when left out"),
  padPixel: z
    .tuple([z.number().min(0).max(255), z.number().min(0).max(255), z.number().min(0).max(255)])
    .nullable()
    .default(null)
    .describe("R,G,B from 0 to 255 of what lies beyond the picture; the normalization's mean when left out"),
  cropClasses: z
    .array(z.string())
    .min(1)
    .nullable()
    .default(null)
    .describe("classes that crops are aimed at, by name; rare: those with fewer pixels than the median class"),
  classCrop: fraction
    .nullable()
    .default(null)
    .describe("probability that a crop contains one of --crop-classes where its picture does; 0.5 when left out"),
  flip: fraction.default(0.5).describe("probability of a left-right flip"),
  verticalFlip: fraction.default(0).describe("probability of an up-down flip"),
  brightness: jitter.describe(
    "random brightness: 0.4 is a factor from 0.6 to 1.4; 0.3 with --weights, else 0, when left out",
  ),
  contrast: jitter.describe("random contrast: a factor about the mean grey; when left out as brightness"),
  saturation: jitter.describe("random saturation: a factor about each pixel's grey; when left out as brightness"),
  hue: z.number().min(0).max(0.5).default(0).describe("random hue: largest shift, as a part of the colour circle"),
  grayscale: fraction.default(0).describe("probability of a picture without colour"),
  blur: fraction.default(0).describe("probability of a Gaussian blur"),
  blurSigma: z
    .tuple([z.number().positive(), z.number().positive()])
    .nullable()
    .default(null)
    .describe("smallest,largest standard deviation of the blur in pixels; 0.1,2 when left out"),

  // How long: exactly one of the three
  steps: z.int().positive().nullable().default(null).describe("length in optimizer steps"),
  epochs: z.number().positive().nullable().default(null).describe("length in passes over the training split"),
  budget: z.number().positive().nullable().default(null).describe("length in time, evaluations included: 90s, 10m, 2h"),
  evaluations: z
    .int()
    .positive()
    .default(10)
    .describe("how often the model is evaluated in a run (a budget may allow fewer)"),

  // On what
  precision: z
    .enum(precisions)
    .default("float32")
    .describe(
      "of the forward pass and its gradients, in training and evaluation; weights, batch-norm and loss stay float32",
    ),
  seed: z.int().min(0).default(0).describe("seed of weights, order and augmentation"),
  workers: z.int().min(0).nullable().default(null).describe("threads that load images; by the cores when left out"),
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/, "expected cpu, cuda, or cuda:1 for the second")
    .default("cpu")
    .describe("what computes: cpu, cuda, cuda:1 (CUDA has not been tested)"),
  cudaGraph: z
    .boolean()
    .default(false)
    .describe("whether a step's forward and backward are captured as one CUDA graph (has not been tested)"),
  threads: z.int().positive().nullable().default(null).describe("threads that compute; all cores when left out"),
  cache: z
    .int()
    .min(0)
    .nullable()
    .default(null)
    .describe("MiB of memory for decoded training images; an eighth of all memory when left out, 0 for none"),
})

const defaults = schema.parse({ data: "." })

export type TrainConfig = z.output<typeof schema>
export type TrainConfigInput = z.input<typeof schema>

/** The keys with their descriptions, in order: the command line's help is made of them. */
export const configFields = schema.shape

/** The name of a key on the command line: --learning-rate. */
export const flagOf = (key: string): string => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** What the masks are and which of their classes are learned, as a data set takes it. */
export const classSelection = ({ classes, others, groundTruth }: TrainConfig): Omit<VocOptions, "split"> =>
  classes === null ? { groundTruth } : { groundTruth, classes, others }

/** What the configuration says about the model, as createModel takes it. */
export function modelOptions(config: TrainConfig): Omit<ModelOptions, "numClasses"> {
  const { encoder, outputStride, multiGrid, atrousRates, aux, width, depth, upsampling, padding } = config
  const { imagePyramid, pyramidMerge, alignCorners } = config
  const own = { encoder, outputStride, multiGrid, atrousRates, aux, width, depth, upsampling, padding }
  const options = { ...own, imagePyramid, pyramidMerge, alignCorners }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null))
}

/** How a run's images are normalised. */
export const normalizationOf = ({ normalization }: TrainConfig): NormalizationName => normalization ?? "imagenet"

const DEFAULT_BUDGET = 600 // seconds

/** How to name a key to whoever wrote it: `--batch-size`, or `"batchSize" in config.yaml`. */
export type NameKey = (key: string) => string

/**
 * Fills in defaults and checks everything.
 * @throws UserError naming the first key that is wrong, what was got and what is expected
 */
export function parseConfig(
  input: Record<string, unknown>,
  nameKey: NameKey = (key) => `Option "${key}"`,
): TrainConfig {
  const own = Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined))
  const ofProtocol = optionsOfProtocol(own.protocol, own)
  const given: Record<string, unknown> = { ...ofProtocol, ...own }
  const name: NameKey = (key) => (key in ofProtocol ? `${nameKey(key)} of the protocol ${own.protocol}` : nameKey(key))
  const keys = Object.keys(schema.shape)
  for (const key of Object.keys(given)) {
    if (!keys.includes(key)) throw new UserError(`${name(key)} is unknown.${didYouMean(key, keys)}`)
  }
  // Shorthands, the same on the command line and in a file: budget 10m, crop 256.
  if (typeof given.budget === "string") given.budget = parseDuration(given.budget)
  if (typeof given.crop === "number") given.crop = [given.crop, given.crop]
  const parsed = schema.safeParse(given)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const key = String(issue.path[0])
    const value = given[key]
    if (value === undefined)
      throw new UserError(`${name(key)} is missing: the ${configFields[key as "data"].description}.`)
    const choices = issue.code === "invalid_value" ? issue.values.map(String) : []
    const hint = typeof value === "string" ? didYouMean(value, choices) : ""
    throw new UserError(`${name(key)} is ${JSON.stringify(value)}: ${expectation(issue)}${hint}`)
  }
  const idle = idleInProtocol(parsed.data, Object.keys(ofProtocol))
  const config = { ...parsed.data, ...Object.fromEntries(idle.map((key) => [key, defaults[key as "model"]])) }
  const lengths = (["steps", "epochs", "budget"] as const).filter((key) => config[key] !== null)
  if (lengths.length > 1) {
    throw new UserError(`${lengths.map(name).join(" and ")} exclude each other: give one length.`)
  }
  if (config.scale[0] > config.scale[1]) {
    throw new UserError(`${name("scale")} is ${config.scale.join(",")}: the smallest scale comes first.`)
  }
  if (given.others !== undefined && config.classes === null && given.others !== "void") {
    throw new UserError(
      `${name("others")} says what becomes of classes that are not chosen, but ${name("classes")} chooses none.`,
    )
  }
  refuseIdleTransforms(config, name)
  if (config.weights !== null && config.initFrom !== null) {
    throw new UserError(
      `${name("weights")} is for the encoder and ${name("initFrom")} for the whole model, encoder included: give one.`,
    )
  }
  const startsTrained = config.weights !== null || config.initFrom !== null
  if ((config.freeze ?? 0) > 0 && !startsTrained) {
    throw new UserError(
      `${name("freeze")} keeps layers as they are, and these would be random: give ${name("weights")} or ${name("initFrom")}.`,
    )
  }
  if (!config.initializeLastLayer && config.initFrom === null) {
    throw new UserError(`${name("initializeLastLayer")} is about ${name("initFrom")}, which is not given.`)
  }
  refuseIdleOptimisation(config, name)
  refuseIdleLosses(config, name)
  refuseUncapturable(config, name)
  return lengths.length === 0 ? { ...config, budget: DEFAULT_BUDGET } : config
}

/** "90", "90s", "10m", "1.5h" in seconds. @throws UserError for anything else */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(s|m|h)?$/.exec(text.trim())
  const unit = { s: 1, m: 60, h: 3600 }[match?.[2] ?? "s"]
  const seconds = Number(match?.[1]) * (unit ?? Number.NaN)
  if (!(seconds > 0)) {
    throw new UserError(`Duration "${text}" is not understood; expected seconds, or something like 90s, 10m, 2h.`)
  }
  return seconds
}

/** What a value should have been, in words: the schema's own are a programmer's. */
function expectation(issue: z.core.$ZodIssue): string {
  const isNumber = "origin" in issue && (issue.origin === "number" || issue.origin === "int")
  if (issue.code === "too_small" && isNumber)
    return `expected ${issue.inclusive ? "at least" : "more than"} ${issue.minimum}.`
  if (issue.code === "too_big" && isNumber)
    return `expected ${issue.inclusive ? "at most" : "less than"} ${issue.maximum}.`
  const kind = issue.code === "invalid_type" ? kinds[issue.expected] : undefined
  return kind === undefined ? sentence(issue.message) : `expected ${kind}.`
}

const kinds: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  boolean: "true or false",
  tuple: "two numbers: a,b",
  array: "a list: a,b,...",
}

const sentence = (message: string) => `${message.replace(/^Invalid (option|input): /, "").replace(/\.$/, "")}.`
