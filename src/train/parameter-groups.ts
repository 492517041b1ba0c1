// How each parameter is trained: the factors of its learning rate and of its gradient, and its weight decay, as a pure
// function of what the parameter is and of the configuration. What is printed about a run and what the optimizer does are
// the same function.
//
//   parameter                          multiplier of TensorFlow's DeepLab     weight decay of TensorFlow's DeepLab
//   weight of the encoder              1                                      4e-5, none where depthwise
//   bias of a convolution there        2                                      none
//   batch-norm there                   1                                      none
//   weight of a last layer             m                                      4e-5, none where depthwise
//   bias of a convolution there        2 m                                    none
//   batch-norm there                   m                                      none
// Chen et al. 2017, https://arxiv.org/abs/1706.05587; the last layers are all but the encoder, or those of the logits.
import type { SegmentationModel } from "../models/index.ts"
import { BatchNorm2d, Conv2d, GroupNorm } from "../nn/index.ts"
import { createOptimizer, type Optimizer, type ParameterSettings } from "../optim/index.ts"
import type { TrainConfig } from "./config.ts"
import { momentumOf } from "./optimisation.ts"

/** What a parameter is. */
export interface ParameterPlace {
  /** Its name in the state dict. */
  readonly name: string
  readonly kind: "weight" | "depthwise weight" | "bias" | "norm"
  /** Whether it belongs to a layer that gives logits. */
  readonly isLogits: boolean
  /** Whether it belongs to an auxiliary head. */
  readonly isAux: boolean
  /**
   * The encoder's stages from its own to the last, both counted; 0 outside the encoder. A stage ends at a feature map: of
   * five, the first is 5, the last 1.
   */
  readonly stagesLeft: number
  /** Whether it learns; frozen ones have settings, but no steps. */
  readonly learns: boolean
}

/** Every parameter of a model, in order. */
export function parameterPlaces(model: SegmentationModel): ParameterPlace[] {
  const { backbone, logitLayers } = model
  const stagesLeft = new Map<unknown, number>()
  if (backbone) {
    const last = backbone.strides.length - 1
    for (const [, module] of backbone.namedModules()) stagesLeft.set(module, 1) // behind the last map: of its stage
    for (let map = last; map >= 0; map--) {
      for (const layer of backbone.layersOf(map)) {
        for (const [, module] of layer.namedModules()) stagesLeft.set(module, last - map + 1)
      }
    }
  }
  const owners = new Map(model.namedModules())
  return Array.from(model.namedParameters(), ([name, parameter]) => {
    const [, path = "", field = ""] = /^(?:(.*)\.)?([^.]*)$/.exec(name) ?? []
    const owner = owners.get(path)
    return {
      name,
      kind: kindOf(owner, field),
      isLogits: logitLayers.some((layer) => path === layer || path.startsWith(`${layer}.`)),
      isAux: name.startsWith("aux_classifier."),
      stagesLeft: stagesLeft.get(owner) ?? 0,
      learns: parameter.requiresGrad,
    }
  })
}

function kindOf(owner: unknown, field: string): ParameterPlace["kind"] {
  if (owner instanceof BatchNorm2d || owner instanceof GroupNorm) return "norm"
  if (field === "bias") return "bias"
  const isDepthwise = owner instanceof Conv2d && owner.groups > 1 && owner.weight.size(1) === 1
  return isDepthwise ? "depthwise weight" : "weight"
}

export type GroupOptions = Pick<
  TrainConfig,
  | "headRate"
  | "auxRate"
  | "layerDecay"
  | "biasMultiplier"
  | "lastLayerMultiplier"
  | "lastLayers"
  | "multiplierForm"
  | "weightDecay"
  | "decayExempt"
>

/** How a configuration trains a parameter. */
export function settingsOf(place: ParameterPlace, config: GroupOptions): ParameterSettings {
  const { kind, isLogits, isAux, stagesLeft } = place
  const isHead = stagesLeft === 0
  const isLast = config.lastLayers === "logits" ? isLogits : isHead
  const multiplier = (kind === "bias" ? config.biasMultiplier : 1) * (isLast ? config.lastLayerMultiplier : 1)
  const headRate = (isAux ? config.auxRate : null) ?? config.headRate ?? 1
  const rate = (isHead ? headRate : 1) * config.layerDecay ** stagesLeft
  return {
    rate: config.multiplierForm === "rate" ? rate * multiplier : rate,
    gradient: config.multiplierForm === "gradient" ? multiplier : 1,
    weightDecay: exemptKinds[config.decayExempt].includes(kind) ? 0 : config.weightDecay,
  }
}

const exemptKinds: Record<TrainConfig["decayExempt"], readonly ParameterPlace["kind"][]> = {
  none: [],
  "norms-and-biases": ["norm", "bias"],
  deeplab: ["norm", "bias", "depthwise weight"],
}

/** The optimizer of a run, with its parameter's settings. The caller owns it. */
export function optimizerFor(model: SegmentationModel, config: TrainConfig & { learningRate: number }): Optimizer {
  const { optimizer: name, learningRate, nesterov, betas, eps, weightDecay } = config
  const momentum = momentumOf(config)
  const options = { momentum, nesterov, weightDecay, ...(betas && { betas }), ...(eps && { eps }) }
  const optimizer = createOptimizer(name, model.namedParameters(), learningRate, options)
  const settings = new Map(parameterPlaces(model).map((place) => [place.name, settingsOf(place, config)]))
  optimizer.groupOf = (parameter) => settings.get(parameter) ?? {}
  return optimizer
}
