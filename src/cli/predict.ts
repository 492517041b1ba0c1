// pixelwise predict: palette PNG masks and overlays for pictures of any size.
import { mkdirSync, readdirSync, statSync } from "node:fs"
import { basename, extname, join } from "node:path"
import type { Command } from "commander"
import { inspectImage, readImage } from "../data/image.ts"
import { paletteOf } from "../data/label-map.ts"
import { writeIndexedPng } from "../data/png.ts"
import { toTensorData } from "../data/transforms/index.ts"
import { UserError } from "../errors.ts"
import { fileProblem, writeFileAtomic } from "../files.ts"
import { predictLabels } from "../infer/predict.ts"
import { encodePng } from "../report/canvas.ts"
import { overlay } from "../report/pictures.ts"
import { RunFolder } from "../train/run-folder.ts"
import { trainedModel } from "../train/trained-model.ts"
import { createOutput } from "./output.ts"

interface Options {
  run: string
  out: string
  json?: boolean
}

const EXTENSIONS = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif"]

export function define(command: Command): void {
  command
    .argument("<images...>", "image files, or folders of them")
    .requiredOption("--run <folder>", "the run whose best model is used")
    .requiredOption("--out <folder>", "where masks/<name>.png and overlays/<name>.png are written")
    .option("--json", "print one JSON object per image")
    .addHelpText(
      "after",
      `
Images are JPEG, PNG, WebP, TIFF or GIF. A mask holds one label per pixel, as palette index, with the label map's colours.

Examples:
  $ pixelwise predict --run runs/first --out out photo.jpg
  $ pixelwise predict --run runs/first --out out VOC2012/JPEGImages`,
    )
    .action(async (paths: string[], options: Options) => {
      const output = createOutput(options)
      const images = listImages(paths)
      const run = RunFolder.open(options.run)
      const { labelMap } = run
      const palette = paletteOf(labelMap)
      const { model, normalization } = trainedModel(run)
      const folders = { masks: join(options.out, "masks"), overlays: join(options.out, "overlays") }
      for (const path of images.values()) await inspectImage(path) // before anything is written
      for (const folder of Object.values(folders)) makeFolder(folder)

      for (const [k, [name, path]] of [...images].entries()) {
        const picture = await readImage(path, { upright: true })
        const { width, height } = picture
        using labels = predictLabels(model, toTensorData(picture, normalization), [1, height, width])
        using bytes = labels.to({ dtype: "uint8" })
        const mask = { width, height, labels: bytes.data() as Uint8Array }
        const files = { mask: join(folders.masks, `${name}.png`), overlay: join(folders.overlays, `${name}.png`) }
        writeFileAtomic(files.mask, writeIndexedPng(mask.labels, width, height, palette))
        writeFileAtomic(
          files.overlay,
          await encodePng(overlay(picture, mask, palette, { background: labelMap.background })),
        )
        output.progress((k + 1) / images.size, `${k + 1} of ${images.size} images`, { image: path, ...files })
      }
      model.dispose()
      output.endProgress()
      output.say(
        `Masks of ${images.size === 1 ? "one image" : `${images.size} images`} in ${folders.masks}, overlays in ${folders.overlays}`,
      )
    })
}

/** Result name -> file. @throws UserError for what is missing, holds no image, or would overwrite another result */
function listImages(paths: readonly string[]): Map<string, string> {
  const images = new Map<string, string>()
  for (const path of paths.flatMap(expand)) {
    const name = basename(path, extname(path))
    const other = images.get(name)
    if (other !== undefined)
      throw new UserError(
        `${other} and ${path} would both be written as ${name}.png. Give them different names, or predict them apart.`,
      )
    images.set(name, path)
  }
  return images
}

function expand(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path]
    const inside = readdirSync(path).filter((name) => EXTENSIONS.includes(extname(name).toLowerCase()))
    if (inside.length === 0)
      throw new UserError(`The folder ${path} holds no images; expected ${EXTENSIONS.join(", ")}.`)
    return inside.sort().map((name) => join(path, name))
  } catch (cause) {
    if (cause instanceof UserError) throw cause
    throw new UserError(`Cannot read image ${path}: ${fileProblem(cause)}.`, { cause })
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true })
  } catch (cause) {
    throw new UserError(`Cannot make the folder ${path}: ${fileProblem(cause)}.`, { cause })
  }
}
