// The models by name. To add one: write its file beside unet.ts and add one line here; the command line, the
// configuration's types and the contract tests follow.
import { didYouMean, UserError } from "../errors.ts"
import { tidy } from "../torch/index.ts"
import type { SegmentationModel } from "./model.ts"
import { UNet } from "./unet.ts"

export interface ModelOptions {
  numClasses: number
  width?: number
  depth?: number
  upsampling?: "transposed" | "bilinear"
}

type ModelFactory = (options: ModelOptions) => SegmentationModel

export const models = {
  unet: (options) => new UNet(options),
} satisfies Record<string, ModelFactory>

export type ModelName = keyof typeof models
export const modelNames = Object.keys(models) as ModelName[]

/** @throws UserError naming the models there are */
export function createModel(name: string, options: ModelOptions): SegmentationModel {
  const factory = (models as Record<string, ModelFactory>)[name]
  if (!factory) {
    throw new UserError(`Unknown model "${name}".${didYouMean(name, modelNames)} There are: ${modelNames.join(", ")}.`)
  }
  return tidy(() => factory(options)) // frees what only the construction needed
}

export type { SegmentationModel, SegmentationOutput } from "./model.ts"
export { UNet, type UNetOptions } from "./unet.ts"
