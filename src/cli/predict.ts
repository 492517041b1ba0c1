// pixelwise predict: palette PNG masks and overlays for pictures of any size, or for a split of a data set.
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs"
import { basename, extname, join } from "node:path"
import type { Command } from "commander"
import { readBytes } from "../data/files.ts"
import { type ImageHeader, inspectImage, type RgbImage, readImage } from "../data/image.ts"
import { type LabelMap, paletteOf, vocColor } from "../data/label-map.ts"
import { isWrittenBy, writeIndexedPng } from "../data/png.ts"
import { toTensorData } from "../data/transforms/index.ts"
import { findLabelMap, labelMapFile, openVocImages } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { fileProblem, makeFolder, writeFileAtomic } from "../files.ts"
import { sameSized } from "../infer/same-size.ts"
import { type Segmentation, segment } from "../infer/segment.ts"
import type { ImageSize } from "../metrics/image-size.ts"
import { encodePng } from "../report/canvas.ts"
import { overlay } from "../report/pictures.ts"
import { fromData, saveSafetensors, tidy } from "../torch/index.ts"
import { RunFolder } from "../train/run-folder.ts"
import { trainedModel } from "../train/trained-model.ts"
import { addDeviceOption, addInferenceOptions, type InferenceFlags, inferenceOptions } from "./inference-options.ts"
import { createOutput } from "./output.ts"

interface Options extends InferenceFlags {
  run: string
  out: string
  data?: string
  split?: string
  comp6?: boolean
  probabilities?: boolean
  device?: string
  json?: boolean
}

const EXTENSIONS = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif"]

export function define(command: Command): void {
  command
    .argument("[images...]", "image files, or folders of them")
    .requiredOption("--run <folder>", "the run whose best model is used")
    .requiredOption("--out <folder>", "where masks/<name>.png and overlays/<name>.png are written")
    .option("--data <root>", "instead of images: predict a split of this data set; its masks are not needed")
    .option("--split <name>", "its split list (default: the run's validation split, of the run's own data set)")
    .option("--comp6", "write PASCAL VOC's results layout too; always so for a split")
    .option("--probabilities", "write probabilities/<name>.safetensors too")
  addInferenceOptions(command)
  addDeviceOption(command)
  command
    .option("--json", "print one JSON object per image")
    .addHelpText(
      "after",
      `
Images are JPEG, PNG, WebP, TIFF or GIF. What is written to the folder:
  masks/<name>.png                  one label per pixel, as palette index: the run's classes 0, 1, ..., with the label map's colours
  overlays/<name>.png               the image, tinted in those colours
  results/VOC2012/Segmentation/comp6_test_cls/<id>.png
                                    for PASCAL VOC's server and for "pixelwise score": numbers as in the data set's own label map
                                    (also where --classes chose some of them), with VOC's palette
  probabilities/<name>.safetensors  "probabilities", float16 [classes, height, width]; their names are in its metadata

Files that an earlier predict wrote there are replaced; others never.

Examples:
  $ pixelwise predict --run runs/first --out out photo.jpg
  $ pixelwise predict --run runs/first --out out --data VOC2012 --split val
  $ pixelwise predict --run runs/first --out out --scales 0.5,0.75,1,1.25,1.5 --flip photos
  $ pixelwise predict --run runs/first --out out --window 512 satellite.tif`,
    )
    .action(predict)
}

async function predict(paths: string[], options: Options): Promise<void> {
  const output = createOutput(options)
  const inference = inferenceOptions(options)
  const isSplit = options.data !== undefined || options.split !== undefined
  if (isSplit === paths.length > 0) {
    throw new UserError(
      isSplit
        ? "Give either image files, or a data set's split with --data and --split."
        : "There is nothing to predict: give image files or folders, or a data set's split with --data and --split.",
    )
  }
  const listed = isSplit ? undefined : listImages(paths)
  const run = RunFolder.open(options.run)
  const { config, labelMap } = run
  const root = options.data ?? config.data
  const images = listed ?? splitImages(root, options.split ?? config.valSplit)
  const numbers = isSplit || options.comp6 ? numbersIn(root, config.data, labelMap) : undefined
  const folders = {
    mask: join(options.out, "masks"),
    overlay: join(options.out, "overlays"),
    ...(numbers && { comp6: join(options.out, "results", "VOC2012", "Segmentation", "comp6_test_cls") }),
    ...(options.probabilities && { probabilities: join(options.out, "probabilities") }),
  }
  const filesOf = (name: string): ResultFiles => ({
    mask: join(folders.mask, `${name}.png`),
    overlay: join(folders.overlay, `${name}.png`),
    ...(folders.comp6 && { comp6: join(folders.comp6, `${name}.png`) }),
    ...(folders.probabilities && { probabilities: join(folders.probabilities, `${name}.safetensors`) }),
  })
  refuseToReplace([...images.keys()].map(filesOf), [...images.values()])
  const isUpright = !isSplit // pictures of a data set stay as they are stored, which is how its masks are drawn
  const headers = await inspectAll([...images.values()]) // before anything is written
  const sizes = headers.map((header) => sizeOf(header, isUpright))
  const {
    model: trained,
    normalization,
    precision,
  } = trainedModel(run, { ...(options.device && { device: options.device }) })
  using model = trained
  for (const path of Object.values(folders)) makeFolder(path)

  const all = [...images]
  let done = 0
  for (const count of sameSized(sizes)) {
    const batch: { name: string; path: string; picture: RgbImage }[] = []
    for (const [name, path] of all.slice(done, done + count))
      batch.push({ name, path, picture: await readImage(path, { upright: isUpright }) })
    const { width, height } = batch[0]!.picture
    const pixels = width * height
    const input = new Float32Array(count * 3 * pixels)
    for (const [k, { picture }] of batch.entries()) input.set(toTensorData(picture, normalization), k * 3 * pixels)
    const found = segment(model, input, [count, height, width], {
      precision,
      ...inference,
      probabilities: options.probabilities,
      onProgress: (windows, total) => {
        const text = total > 1 ? `, ${windows} of ${total} windows of the next` : ""
        const share = (done + (count * windows) / total) / images.size
        if (windows < total) output.progress(share, `${done} of ${images.size} images${text}`)
      },
    })
    for (const [k, { name, path, picture }] of batch.entries()) {
      const files = filesOf(name)
      await writeResults(files, picture, resultOf(found, k, count), labelMap, numbers)
      done++
      output.progress(done / images.size, `${done} of ${images.size} images`, { image: path, ...files })
    }
  }
  output.endProgress()
  const kinds = { mask: "masks", overlay: "overlays", comp6: "VOC's results", probabilities: "probabilities" }
  const places = Object.entries(folders).map(([kind, path]) => `${kinds[kind as keyof typeof kinds]} in ${path}`)
  output.say(`${images.size === 1 ? "One image" : `${images.size} images`}: ${places.join(", ")}`)
}

const NAMED = 5

/** @throws UserError that names several of the files that are no pictures or cut off, so that they can be put right at once */
async function inspectAll(paths: readonly string[]): Promise<ImageHeader[]> {
  const headers: ImageHeader[] = []
  const problems: UserError[] = []
  for (const path of paths) {
    try {
      headers.push(await inspectImage(path))
    } catch (error) {
      if (!(error instanceof UserError)) throw error
      problems.push(error)
    }
  }
  const [first] = problems
  if (first === undefined) return headers
  if (problems.length === 1) throw first
  const more = problems.length > NAMED ? ` And ${problems.length - NAMED} more.` : ""
  const named = problems.slice(0, NAMED).map(({ message }) => message)
  throw new UserError(
    `${problems.length} of ${paths.length} images cannot be read, so none was predicted. ${named.join(" ")}${more}`,
    { cause: first },
  )
}

/** As the picture will be read. */
const sizeOf = ({ width, height, orientation }: ImageHeader, isUpright: boolean): ImageSize =>
  isUpright && orientation >= 5 ? { width: height, height: width } : { width, height }

/** The k-th image's part of what was found for a batch. */
function resultOf({ labels, probabilities }: Segmentation, k: number, count: number): Segmentation {
  const part = <T extends Uint8Array | Float32Array>(all: T) =>
    all.subarray((k * all.length) / count, ((k + 1) * all.length) / count) as T
  return { labels: part(labels), ...(probabilities && { probabilities: part(probabilities) }) }
}

interface ResultFiles {
  mask: string
  overlay: string
  comp6?: string
  probabilities?: string
}

/** @throws UserError when a result would replace an image that is to be predicted, or what no earlier predict wrote */
function refuseToReplace(results: readonly ResultFiles[], images: readonly string[]): void {
  const read = new Set(images.filter((file) => existsSync(file)).map((file) => realpathSync(file)))
  for (const files of results) {
    const existing = Object.values(files).filter((file) => existsSync(file))
    const own = existing.find((file) => read.has(realpathSync(file)))
    if (own !== undefined)
      throw new UserError(`The result ${own} would replace an image that is to be predicted. Choose another --out.`)
    if (existing.length === 0 || (existsSync(files.mask) && isWrittenBy(readBytes(files.mask, "mask"), SOFTWARE)))
      continue
    throw new UserError(
      `${existing[0]} exists and no earlier predict wrote it, so it is not replaced. Choose another --out.`,
    )
  }
}

/** Stands in the masks, so that they are known again. */
const SOFTWARE = "pixelwise predict"

/** @param numbers [K] of the classes in VOC's layout */
async function writeResults(
  files: ResultFiles,
  picture: RgbImage,
  { labels, probabilities }: Segmentation,
  labelMap: LabelMap,
  numbers: Uint8Array | undefined,
): Promise<void> {
  const { width, height } = picture
  const palette = paletteOf(labelMap)
  const { background } = labelMap
  writeFileAtomic(files.mask, writeIndexedPng(labels, width, height, palette, { software: SOFTWARE }))
  const shown = overlay(picture, { width, height, labels }, palette, { background })
  writeFileAtomic(files.overlay, await encodePng(shown))
  if (files.comp6 && numbers) {
    const numbered = labels.map((label) => numbers[label]!)
    writeFileAtomic(files.comp6, writeIndexedPng(numbered, width, height, vocPalette))
  }
  if (files.probabilities && probabilities) {
    const names = labelMap.classes.map(({ name }) => name)
    tidy(() => {
      const all = fromData(probabilities, [names.length, height, width]).to({ dtype: "float16" })
      saveSafetensors(files.probabilities!, new Map([["probabilities", all]]), { classes: JSON.stringify(names) })
    })
  }
}

const vocPalette = Array.from({ length: 256 }, (_, index) => vocColor(index))

/**
 * The number that each of the run's classes has in the label map of a data set: of `root`, or of the run's own data set where
 * `root` has no label map (as PASCAL VOC's test images have none).
 */
function numbersIn(root: string, ownRoot: string, { classes }: LabelMap): Uint8Array {
  const from = labelMapFile(root) ? root : ownRoot
  const source = findLabelMap(from).classes
  return Uint8Array.from(classes, ({ name }) => {
    const entry = source.find((candidate) => candidate.name === name)
    if (entry) return entry.index
    throw new UserError(
      `The run's class "${name}" is not in the label map of ${from}, so that it has no number in VOC's results; ` +
        `expected one of ${source.map((candidate) => candidate.name).join(", ")}. Masks alone are written for image files without --comp6.`,
    )
  })
}

/** Id -> file. */
function splitImages(root: string, split: string): Map<string, string> {
  const { ids, images } = openVocImages(root, split)
  return new Map(ids.map((id, k) => [id, images[k]!]))
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
