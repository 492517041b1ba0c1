// What every encoder is: images in, feature maps out, from fine to coarse. Decoders know nothing else about it.
import { chain, cropTo, Module } from "../../nn/index.ts"
import { aten, type Tensor } from "../../torch/index.ts"

/**
 * x [N, 3, H, W] -> features[i] [N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]; VGG and SqueezeNet round
 * down where a side does not divide. Its state dict has torchvision's names, without the classifier.
 */
export interface Encoder extends Module<[Tensor], Tensor[]> {
  readonly channels: readonly number[]
  /** Pixels of the image per pixel of the map. Most have 2, 4, 8, 16, 32; with output stride 16 the last are 16, 16. */
  readonly strides: readonly number[]
  /** The layers that a map depends on, by its position. */
  layersOf(map: number): readonly Module[]
}

export type OutputStride = 8 | 16 | 32

/** How stride-2 convolutions are padded: as in PyTorch, or as in TensorFlow, whose weights want it. */
export type Padding = "symmetric" | "tensorflow"

export interface EncoderOptions {
  /** Stride of the coarsest map. Below 32, later strides become dilation: same weights, finer maps, more to compute. */
  outputStride?: OutputStride
  /** Factors of the dilation of the last stage's blocks, such as 1, 2, 4. Chen et al. 2017, https://arxiv.org/abs/1706.05587 */
  multiGrid?: readonly number[]
  padding?: Padding
  /** Factor of all channels. */
  width?: number
}

/** One of a chain's layers whose output is a feature map. */
export interface Tap {
  readonly layer: number
  readonly channels: number
  readonly stride: number
}

/** Layers one after another, named "0", "1", ... as in torchvision's `features`, of which some give feature maps. */
export class ChainEncoder extends Module<[Tensor], Tensor[]> implements Encoder {
  readonly layers: readonly Module[]
  readonly taps: readonly Tap[]
  readonly channels: readonly number[]
  readonly strides: readonly number[]
  readonly #minSide: number

  /** @param minSide shorter sides are padded with zeros to this, and the maps cut back to ceil(side / stride) */
  constructor(layers: readonly Module[], taps: readonly Tap[], { minSide = 1 } = {}) {
    super()
    this.layers = layers
    this.taps = taps
    this.channels = taps.map(({ channels }) => channels)
    this.strides = taps.map(({ stride }) => stride)
    this.#minSide = minSide
  }

  override *children(): Iterable<[string, Module]> {
    for (const [k, layer] of this.layers.entries()) yield [String(k), layer]
  }

  layersOf(map: number): readonly Module[] {
    return this.layers.slice(0, this.taps[map]!.layer + 1)
  }

  protected override forward(image: Tensor): Tensor[] {
    const [, , h, w] = image.shape as [number, number, number, number]
    const [bottom, right] = [this.#minSide - h, this.#minSide - w].map((missing) => Math.max(0, missing))
    let x = bottom || right ? aten.constant_pad_nd(image, [0, right!, 0, bottom!]) : image
    const features: Tensor[] = []
    for (const [k, tap] of this.taps.entries()) {
      const done = k === 0 ? 0 : this.taps[k - 1]!.layer + 1
      x = chain(x, ...this.layers.slice(done, tap.layer + 1))
      const height = bottom ? Math.ceil(h / tap.stride) : x.size(2)
      const width = right ? Math.ceil(w / tap.stride) : x.size(3)
      features.push(cropTo(x, [height, width]))
    }
    return features
  }
}

/**
 * Turns the strides beyond an output stride into dilation, the "algorithme a trous": at every second pixel the dilated
 * network computes what the strided one does. Chen et al. 2017, https://arxiv.org/abs/1606.00915
 */
export class AtrousPlan {
  /** Of the maps so far. */
  stride = 1
  /** Of the convolutions that come next. */
  dilation = 1
  readonly #outputStride: number

  constructor(outputStride: number) {
    this.#outputStride = outputStride
  }

  /** Stride and dilation of a layer that strides by `wanted` where nothing is dilated. */
  next(wanted: number): { stride: number; dilation: number } {
    const { dilation } = this
    if (this.stride * wanted > this.#outputStride) {
      this.dilation *= wanted // for those behind it: its own input is as before
      return { stride: 1, dilation }
    }
    this.stride *= wanted
    return { stride: wanted, dilation }
  }
}
