// The encoders by name. To add one: write its file beside resnet.ts and add one line here.
import { didYouMean, UserError } from "../../errors.ts"
import { tidy } from "../../torch/index.ts"
import type { Encoder, EncoderOptions, OutputStride } from "./encoder.ts"
import { MobileNetV2 } from "./mobilenet-v2.ts"
import { MobileNetV3 } from "./mobilenet-v3.ts"
import { ResNet, resnetShapes } from "./resnet.ts"
import { SqueezeNet } from "./squeezenet.ts"
import { VGG16 } from "./vgg.ts"

interface EncoderEntry {
  /** Which options it has. `width` is written into the name: mobilenet_v2_0.35. */
  readonly takes: readonly (keyof EncoderOptions)[]
  /** Which output strides it can have; default: all. */
  readonly outputStrides?: readonly [OutputStride, ...OutputStride[]]
  readonly create: (options: EncoderOptions) => Encoder
}

export const encoders = {
  resnet18: { takes: ["outputStride", "multiGrid"], create: (o) => new ResNet(resnetShapes.resnet18, o) },
  resnet34: { takes: ["outputStride", "multiGrid"], create: (o) => new ResNet(resnetShapes.resnet34, o) },
  resnet50: { takes: ["outputStride", "multiGrid"], create: (o) => new ResNet(resnetShapes.resnet50, o) },
  resnet101: { takes: ["outputStride", "multiGrid"], create: (o) => new ResNet(resnetShapes.resnet101, o) },
  mobilenet_v2: { takes: ["outputStride", "padding", "width"], create: (o) => new MobileNetV2(o) },
  mobilenet_v3_small: { takes: ["outputStride"], create: (o) => new MobileNetV3("mobilenet_v3_small", o) },
  mobilenet_v3_large: { takes: ["outputStride"], create: (o) => new MobileNetV3("mobilenet_v3_large", o) },
  vgg16_bn: { takes: ["outputStride"], create: (o) => new VGG16(o) },
  squeezenet1_1: { takes: ["outputStride"], outputStrides: [16], create: () => new SqueezeNet() },
} satisfies Record<string, EncoderEntry>

export type EncoderName = keyof typeof encoders
export const encoderNames = Object.keys(encoders) as EncoderName[]

const MIN_WIDTH = 0.05
const MAX_WIDTH = 8
const isWidth = (width: number): boolean => width >= MIN_WIDTH && width <= MAX_WIDTH

/**
 * An encoder with random weights.
 * @param name a registered one; mobilenet_v2 may carry a width: mobilenet_v2_0.35
 * @throws UserError naming the encoders there are, or the options this one has and the values they can have
 */
export function createEncoder(name: string, options: EncoderOptions = {}): Encoder {
  const { entry, width } = findEncoder(name)
  if (width !== undefined && options.width !== undefined) {
    throw new UserError(`The encoder ${name} has its width in its name; leave out width ${options.width}.`)
  }
  const given = { ...options, width: width ?? options.width }
  for (const [key, value] of Object.entries(given)) {
    if (value !== undefined && !entry.takes.includes(key as keyof EncoderOptions)) {
      throw new UserError(`The encoder ${name} has no ${key}; it has: ${entry.takes.join(", ") || "no options"}.`)
    }
  }
  if (given.width !== undefined && !isWidth(given.width)) {
    throw new UserError(`width is ${given.width}; ${name} can have ${MIN_WIDTH} to ${MAX_WIDTH} times its channels.`)
  }
  const { outputStride, multiGrid } = given
  const { outputStrides = [8, 16, 32] } = entry
  if (outputStride !== undefined && !outputStrides.includes(outputStride)) {
    throw new UserError(`outputStride is ${outputStride}; ${name} can have ${outputStrides.join(", ")}.`)
  }
  if (multiGrid?.some((factor) => !Number.isInteger(factor) || factor < 1)) {
    throw new UserError(`multiGrid is ${multiGrid.join(",")}; expected whole factors, such as 1,2,4.`)
  }
  return tidy(() => entry.create(given)) // frees what only the construction needed
}

/**
 * What `encoders` has under `base`, the name without the width.
 * @throws UserError when there is none of that name
 */
export function findEncoder(name: string): { base: EncoderName; entry: EncoderEntry; width: number | undefined } {
  const table = encoders as Record<string, EncoderEntry>
  const entry = Object.hasOwn(table, name) ? table[name] : undefined
  if (entry) return { base: name as EncoderName, entry, width: undefined }
  const [, base = "", digits = ""] = /^(.+)_(\d+(?:\.\d+)?)$/.exec(name) ?? []
  const wide = Object.hasOwn(table, base) ? table[base] : undefined
  const width = Number(digits)
  if (wide?.takes.includes("width") && isWidth(width)) return { base: base as EncoderName, entry: wide, width }
  throw new UserError(
    `Unknown encoder "${name}".${didYouMean(name, encoderNames)} There are: ${encoderNames.join(", ")}; mobilenet_v2 with any width, such as mobilenet_v2_0.35.`,
  )
}

export type { Encoder, EncoderOptions, OutputStride, Padding } from "./encoder.ts"
export { encoderState } from "./encoder-state.ts"
