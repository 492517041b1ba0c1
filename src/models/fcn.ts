// FCN as it is used today: a dilated encoder and a small convolutional head. (fcn-skip.ts has the paper's own FCN-32s,
// -16s and -8s.) Long et al. 2015, https://arxiv.org/abs/1411.4038; this form is torchvision's.
//
//   image -> encoder -> 3x3 -> 1x1 -> enlarge -> logits
import type { Encoder } from "./encoders/index.ts"
import { type AuxiliaryOptions, FCNHead, HeadModel } from "./head-model.ts"

export interface FCNOptions extends AuxiliaryOptions {
  numClasses: number
}

export class FCN extends HeadModel {
  constructor(encoder: Encoder, options: FCNOptions) {
    super(encoder, (channels) => new FCNHead(channels, options.numClasses), options)
  }
}
