// pixelwise models: the models there are, with their size and cost; with a name, one of them layer by layer.
import type { Command } from "commander"
import { UserError } from "../errors.ts"
import { createModel, encoderNames, type ModelOptions, modelNames, models, presets } from "../models/index.ts"
import { formatCount, formatSummary, type ReceptiveField, summary } from "../nn/index.ts"
import { createOutput, table } from "./output.ts"

interface Options {
  size: string
  classes: string
  encoder?: string
  outputStride?: string
  width?: string
  depth?: string
  json?: boolean
}

const MAX_SIZE = 8192 // pixels

export function define(command: Command): void {
  command
    .argument("[name]", "the model to show layer by layer; all are listed when left out")
    .option("--size <pixels>", "height and width of the image: 512, or H,W", "256")
    .option("--classes <count>", "classes", "21")
    .option("--encoder <name>", `encoder of the named model: ${encoderNames.join(", ")}`)
    .option("--output-stride <pixels>", "pixels of the image per pixel of the encoder's coarsest map: 8, 16, 32")
    .option("--width <channels>", "channels: of UNet's first level, of FCN-8s's head")
    .option("--depth <count>", "how deep layers are shown inside each other; 0: the model alone")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Multiply-adds are those of convolutions and matrix products, as papers count them (ResNet-50 at 224x224: 4.09 G). Stride:
pixels of the image per pixel of the coarsest map. Receptive field: the pixels that one output pixel sees; "image" when a
path sees all of it, and in brackets what the other paths see.

Examples:
  $ pixelwise models
  $ pixelwise models deeplabv3 --encoder mobilenet_v2 --size 512 --depth 2`,
    )
    .action((name: string | undefined, { json, ...options }: Options) => {
      const output = createOutput({ json })
      const inputShape = [1, 3, ...parseSize(options.size)]
      const numClasses = whole("--classes", options.classes)
      if (name !== undefined) {
        const { encoder, outputStride, width, depth } = options
        const result = summarise(name, inputShape, {
          numClasses,
          encoder,
          // createModel says which there are
          outputStride: outputStride === undefined ? undefined : (whole("--output-stride", outputStride) as 8),
          width: width === undefined ? undefined : whole("--width", width),
        })
        const shown = depth === undefined ? {} : { depth: whole("--depth", depth, 0) }
        output.result(result, formatSummary(result, shown))
        return
      }
      for (const key of ["encoder", "outputStride", "width", "depth"] as const) {
        if (options[key] !== undefined) {
          const flag = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
          throw new UserError(`--${flag} is for one model: pixelwise models <name> --${flag} ${options[key]}.`)
        }
      }
      const rows = modelNames.map((model, k) => {
        output.progress(k / modelNames.length, model)
        const { rows: _, ...totals } = summarise(model, inputShape, { numClasses })
        return { model, encoder: encoderOf(model), ...totals }
      })
      output.endProgress()
      output.result(
        { inputShape, numClasses, models: rows },
        table(
          ["model", "parameters", "multiply-adds", "stride", "receptive field"],
          rows.map(({ model, encoder, parameters, multiplyAdds, stride, receptiveField }) => [
            encoder === null || model.endsWith(encoder) ? model : `${model} (${encoder})`,
            formatCount(parameters),
            formatCount(multiplyAdds),
            String(stride),
            short(receptiveField),
          ]),
        ),
      )
      output.say(`\nAt ${inputShape.join("x")}, ${numClasses} classes. Encoders: ${encoderNames.join(", ")}.`)
    })
}

/** Makes the model, runs it once and frees it. */
function summarise(name: string, inputShape: readonly number[], options: ModelOptions) {
  using model = createModel(name, options)
  return { name, stride: model.stride, ...summary(model, inputShape) }
}

function encoderOf(name: string): string | null {
  if (Object.hasOwn(presets, name)) return presets[name as keyof typeof presets].encoder
  return models[name as keyof typeof models].encoder
}

/** "204", "12x20", "image (427)" */
function short({ size, wholeImage }: ReceptiveField): string {
  const local = size ? (size[0] === size[1] ? String(size[0]) : size.join("x")) : ""
  return wholeImage ? `image${local && ` (${local})`}` : local
}

function parseSize(text: string): [number, number] {
  const [height, width = height, ...more] = text.split(/[,x]/).map((part) => whole("--size", part.trim()))
  if (more.length > 0 || Math.max(height as number, width as number) > MAX_SIZE)
    throw new UserError(`--size is ${text}; expected one number or H,W, of at most ${MAX_SIZE} pixels.`)
  return [height as number, width as number]
}

function whole(flag: string, text: string, least = 1): number {
  const value = Number(text)
  if (text === "" || !Number.isSafeInteger(value) || value < least)
    throw new UserError(`${flag} is ${JSON.stringify(text)}; expected a whole number of at least ${least}.`)
  return value
}
