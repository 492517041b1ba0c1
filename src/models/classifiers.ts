// The encoders as what they were trained as: classifiers of ImageNet's thousand classes, with torchvision's heads and
// names. That a downloaded encoder is read rightly shows in the classes it finds.
import {
  AdaptiveAvgPool2d,
  type AnyModule,
  Conv2d,
  Dropout,
  Hardswish,
  init,
  Linear,
  Module,
  ReLU,
  Sequential,
} from "../nn/index.ts"
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { createEncoder, type Encoder, type EncoderName, findEncoder, type Padding } from "./encoders/index.ts"

/** images [N, 3, H, W] -> logits [N, K], before softmax */
export class Classifier extends Module {
  readonly encoder: Encoder
  readonly head: Head

  constructor(encoder: Encoder, head: Head) {
    super()
    this.encoder = encoder
    this.head = head
  }

  override *children(): Iterable<[string, AnyModule]> {
    const { names, layers } = this.head
    if (names.encoder) yield [names.encoder, this.encoder]
    else yield* this.encoder.children()
    yield [names.head, layers]
  }

  protected override forward(images: Tensor): Tensor {
    const { layers, poolTo } = this.head
    const map = this.encoder.call(images).at(-1)! // [N, C, H/32, W/32]
    const x = poolTo === null ? map : aten.adaptive_avg_pool2d(map, poolTo).flatten({ startDim: 1 }) // [N, C poolTo^2]
    return layers.call(x).flatten({ startDim: 1 }) // [N, K], of [N, K, 1, 1] too
  }
}

interface Head {
  readonly layers: Sequential | Linear
  /** Height and width to which the last map is averaged, before it becomes a vector; null: the head does that. */
  readonly poolTo: number | null
  /** In state dicts; "": the encoder's layers stand beside the head. */
  readonly names: { readonly encoder: "" | "features"; readonly head: "fc" | "classifier" }
}

type MakeHead = (channels: number, numClasses: number) => Head

const names = { encoder: "features", head: "classifier" } as const

const resnet: MakeHead = (channels, numClasses) => ({
  layers: new Linear(channels, numClasses),
  poolTo: 1,
  names: { encoder: "", head: "fc" },
})

const mobilenetV2: MakeHead = (channels, numClasses) => ({
  layers: new Sequential(new Dropout(0.2), plainLinear(channels, numClasses)),
  poolTo: 1,
  names,
})

const mobilenetV3 =
  (hidden: number): MakeHead =>
  (channels, numClasses) => ({
    layers: new Sequential(
      plainLinear(channels, hidden),
      new Hardswish(),
      new Dropout(0.2),
      plainLinear(hidden, numClasses),
    ),
    poolTo: 1,
    names,
  })

const vgg16: MakeHead = (channels, numClasses) => ({
  layers: new Sequential(
    plainLinear(channels * 7 * 7, 4096),
    new ReLU(),
    new Dropout(),
    plainLinear(4096, 4096),
    new ReLU(),
    new Dropout(),
    plainLinear(4096, numClasses),
  ),
  poolTo: 7,
  names,
})

const squeezenet: MakeHead = (channels, numClasses) => {
  const conv = new Conv2d(channels, numClasses, 1)
  init.normal_(conv.weight, 0, 0.01)
  init.constant_(conv.bias!, 0)
  return { layers: new Sequential(new Dropout(), conv, new ReLU(), new AdaptiveAvgPool2d(1)), poolTo: null, names }
}

function plainLinear(inFeatures: number, outFeatures: number): Linear {
  const linear = new Linear(inFeatures, outFeatures)
  init.normal_(linear.weight, 0, 0.01)
  init.constant_(linear.bias!, 0)
  return linear
}

const heads: Record<EncoderName, MakeHead> = {
  resnet18: resnet,
  resnet34: resnet,
  resnet50: resnet,
  resnet101: resnet,
  mobilenet_v2: mobilenetV2,
  mobilenet_v3_small: mobilenetV3(1024),
  mobilenet_v3_large: mobilenetV3(1280),
  vgg16_bn: vgg16,
  squeezenet1_1: squeezenet,
}

/**
 * A classifier with random weights, whose state dict has the keys of torchvision's model of that name.
 * @param name an encoder's; mobilenet_v2 may carry a width: mobilenet_v2_0.35
 * @throws UserError naming the encoders there are
 */
export function createClassifier(
  name: string,
  { numClasses = 1000, padding }: { numClasses?: number; padding?: Padding } = {},
): Classifier {
  const { base } = findEncoder(name)
  return tidy(() => {
    const encoder = createEncoder(name, { padding })
    return new Classifier(encoder, heads[base](encoder.channels.at(-1)!, numClasses))
  })
}
