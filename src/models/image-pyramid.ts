// Image pyramid: the same model looks at the image in several sizes, and what it says is merged.
// Chen et al. 2016, Attention to Scale, https://arxiv.org/abs/1511.03339 (max and average); TensorFlow's DeepLab has both.
//
//   image --- x 0.5  -- model -- logits -- enlarge -.
//         |-- x 0.75 -- model -- logits -- enlarge -+-- max or mean -- logits
//         `-- x 1 ----- model -- logits -- enlarge -'
import { UserError } from "../errors.ts"
import { type AnyModule, interpolate, Module } from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import type { Encoder } from "./encoders/index.ts"
import { callAtStride, enlarge, type SegmentationModel, type SegmentationOutput } from "./model.ts"

export const pyramidMerges = ["max", "average"] as const
export type PyramidMerge = (typeof pyramidMerges)[number]

export interface ImagePyramidOptions {
  /** Sizes of the image, as factors of its own. */
  scales: readonly number[]
  merge?: PyramidMerge
}

/**
 * Stands for the model that it is given, and owns it: the same state dict, the same names. Logits are merged at the size of the
 * largest map; of the one that the image itself would have, where all scales are below 1. In training the output has those of each scale too, of that size, for losses of their own; of an
 * auxiliary head it has the merged ones alone.
 */
export class ImagePyramid extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly stride: number
  readonly logitLayers: readonly string[]
  upsampleLogits?: boolean
  alignCorners: boolean
  readonly #model: SegmentationModel
  readonly #scales: readonly number[]
  readonly #merge: PyramidMerge

  /** @throws UserError when scales are missing, repeated or not above 0 */
  constructor(model: SegmentationModel, { scales, merge = "max" }: ImagePyramidOptions) {
    super()
    if (scales.length === 0 || new Set(scales).size < scales.length || !scales.every((s) => s > 0 && s < 100)) {
      throw new UserError(
        `imagePyramid is ${scales.join(",") || "empty"}; expected different factors of the image's size, such as 0.5,0.75,1.`,
      )
    }
    this.stride = model.stride
    this.logitLayers = model.logitLayers
    if (model.upsampleLogits !== undefined) this.upsampleLogits = true
    this.alignCorners = model.alignCorners ?? false
    this.#model = model
    this.#scales = scales
    this.#merge = merge
  }

  get backbone(): Encoder | undefined {
    return this.#model.backbone
  }

  dropAuxiliary(): void {
    this.#model.dropAuxiliary?.()
  }

  // What the model owns is named as if the model stood here.
  override *children(): Iterable<[string, AnyModule]> {
    yield* this.#model.children()
  }

  override *namedModules(prefix = ""): Iterable<[string, AnyModule]> {
    yield [prefix, this]
    yield* this.#model.namedModules(prefix)
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const outputs = this.#scales.map((scale) => callAtStride(this.#model, this.#scaled(image, scale)))
    const scales = this.#toOneSize(
      outputs.map(({ logits }) => logits),
      image,
    ) // each [N, K, h, w]
    const aux = this.#toOneSize(
      outputs.flatMap(({ aux }) => aux ?? []),
      image,
    )
    const atImage = { upsampleLogits: this.upsampleLogits !== false, alignCorners: this.alignCorners }
    return {
      logits: enlarge(this.#merged(scales), image, atImage), // [N, K, H, W]
      ...(aux.length > 0 && { aux: enlarge(this.#merged(aux), image, atImage) }),
      ...(this.training && scales.length > 1 && { scales }),
    }
  }

  #merged(maps: readonly Tensor[]): Tensor {
    const merge = this.#merge === "max" ? aten.maximum : aten.add_Tensor
    const merged = maps.reduce((a, b) => merge(a, b))
    return this.#merge === "average" && maps.length > 1 ? merged.div(maps.length) : merged
  }

  #scaled(image: Tensor, scale: number): Tensor {
    const side = (axis: number) => Math.max(1, Math.round(image.size(axis) * scale))
    return scale === 1 ? image : interpolate(image, [side(2), side(3)], this)
  }

  #toOneSize(maps: readonly Tensor[], image: Tensor): Tensor[] {
    const scale = Math.max(...this.#scales)
    const side = (axis: number) => {
      const largest = Math.max(...maps.map((map) => map.size(axis)))
      const stride = 2 ** Math.round(Math.log2((image.size(axis) * scale) / largest))
      return scale < 1 ? Math.ceil(image.size(axis) / Math.max(1, stride)) : largest
    }
    const size = [side(2), side(3)] as const
    return maps.map((map) => (map.size(2) === size[0] && map.size(3) === size[1] ? map : interpolate(map, size, this)))
  }
}
