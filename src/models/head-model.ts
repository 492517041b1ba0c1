// The plainest way from an encoder to labels: a head on its last map, and bilinear enlargement. FCN, DeepLabV3 and PSPNet
// differ in the head alone.
import { UserError } from "../errors.ts"
import { BatchNorm2d, Conv2d, Dropout, Module, ReLU, Sequential } from "../nn/index.ts"
import type { Tensor } from "../torch/index.ts"
import type { Encoder } from "./encoders/index.ts"
import { enlarge, type SegmentationModel, type SegmentationOutput } from "./model.ts"

export interface AuxiliaryOptions {
  /** Whether a second head, on an earlier map, helps the first layers to learn. */
  aux?: boolean
  /** Which map that is, counted as in Array.at. */
  auxMap?: number
}

export abstract class HeadModel extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly classifier: Sequential
  aux_classifier: FCNHead | null
  readonly stride: number
  upsampleLogits = true
  readonly logitLayers: readonly string[]
  readonly #auxMap: number

  /**
   * @param createHead the head for C channels, [N, C, H, W] of the last map -> [N, K, H, W]; its last layer gives the logits
   * @throws UserError when the encoder has no map `auxMap`
   */
  constructor(
    encoder: Encoder,
    createHead: (channels: number) => Sequential,
    { numClasses, aux = false, auxMap = -2 }: AuxiliaryOptions & { numClasses: number },
  ) {
    super()
    const { channels, strides } = encoder
    const auxChannels = Number.isInteger(auxMap) ? channels.at(auxMap) : undefined
    if (auxChannels === undefined) {
      const last = channels.length - 1
      throw new UserError(
        `auxMap is ${auxMap}; expected 0 (the encoder's finest map) to ${last}, or -1 (the coarsest) to ${-channels.length}.`,
      )
    }
    this.backbone = encoder
    this.classifier = createHead(channels.at(-1)!)
    this.aux_classifier = aux ? new FCNHead(auxChannels, numClasses) : null
    this.stride = strides.at(-1)!
    this.logitLayers = [`classifier.${this.classifier.modules.length - 1}`, ...(aux ? ["aux_classifier.4"] : [])]
    this.#auxMap = auxMap
  }

  dropAuxiliary(): void {
    this.aux_classifier?.dispose()
    this.aux_classifier = null
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    const logits = this.classifier.call(features.at(-1)!) // [N, K, H/s, W/s]
    const aux = this.aux_classifier?.call(features.at(this.#auxMap)!)
    return { logits: enlarge(logits, image, this), ...(aux && { aux: enlarge(aux, image, this) }) }
  }
}

/** [N, C, H, W] -> [N, K, H, W] through a quarter of the channels. */
export class FCNHead extends Sequential {
  constructor(inChannels: number, numClasses: number) {
    const hidden = Math.floor(inChannels / 4)
    super(
      new Conv2d(inChannels, hidden, 3, { padding: 1, bias: false }),
      new BatchNorm2d(hidden),
      new ReLU(),
      new Dropout(0.1),
      new Conv2d(hidden, numClasses, 1),
    )
  }
}
