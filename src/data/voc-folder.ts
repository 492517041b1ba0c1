// A data set in the layout of PASCAL VOC: a folder with
//   JPEGImages/<id>.jpg (or .jpeg, .png)      the pictures
//   SegmentationClass/<id>.png                the masks; the palette index is the class, 255 is void (or grey alpha mattes)
//   ImageSets/Segmentation/<split>.txt        one id a line
//   label_map.json (or .yaml, .yml, .txt)     the classes, see label-map.ts
// Opening checks that all files are there; reading checks what is in them. Both name the file and what to do.
// Everingham et al. 2010, http://host.robots.ox.ac.uk/pascal/VOC/
import { readdirSync } from "node:fs"
import { extname, join } from "node:path"
import { didYouMean, UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import { readText } from "./files.ts"
import { inspectImage, readImage } from "./image.ts"
import { type ClassSelection, type LabelMap, readLabelMap, selectClasses } from "./label-map.ts"
import { type Mask, maskReader } from "./mask.ts"
import { checkMatteClasses, readMatte } from "./matte.ts"

export type Sample = {
  readonly id: string
  readonly width: number
  readonly height: number
  /** [height, width, 3] RGB, 8 bits */
  readonly image: Uint8Array
  /** [height, width] in 0..K-1, or 255 for void */
  readonly mask: Uint8Array
  /** [height, width] share of the foreground from 0 to 1; only where the masks are alpha mattes */
  readonly alpha?: Float32Array
}

export const imageExtensions = [".jpg", ".jpeg", ".png"]
export const maskExtensions = [".png"]

/** What SegmentationClass holds: labels, or grey alpha mattes of one foreground, see matte.ts. */
export const groundTruths = ["labels", "alpha"] as const
export type GroundTruth = (typeof groundTruths)[number]

/** All that is known of a data set, as plain data: it can be sent to a worker thread, see loader.ts. */
export type VocFiles = {
  readonly root: string
  readonly split: string
  readonly ids: readonly string[]
  readonly images: readonly string[]
  readonly masks: readonly string[]
  /** The classes as the masks number them. */
  readonly source: LabelMap
  /** The classes to train on: 0..K-1, and 255. */
  readonly labelMap: LabelMap
  /** [256] from the one to the other, see `selectClasses`. */
  readonly lookup: Uint8Array
  readonly groundTruth: GroundTruth
}

export type VocOptions = ClassSelection & {
  /** Name of a list in ImageSets/Segmentation: "train", "val". */
  readonly split: string
  /** Default: the label map in the folder. */
  readonly labelMap?: LabelMap
  /** Default: "labels". With "alpha" the label map has two classes, background and foreground. */
  readonly groundTruth?: GroundTruth
}

/** The masks of a split and what their numbers mean. */
export type VocMasks = Omit<VocFiles, "images">

/**
 * Opens one split of a data set in VOC layout.
 * @throws UserError when the folder, the list, the label map, or any image or mask of the list is missing, and for mattes
 *   with other than two classes
 */
export function openVocFolder(root: string, options: VocOptions): VocFolder {
  const { ids, images } = openVocImages(root, options.split)
  return new VocFolder({ ...findMasks(root, ids, options), images })
}

/**
 * Finds the pictures of one split alone, which is all that predicting needs: a test split has no masks.
 * @throws UserError when the folder, the list, or any image of the list is missing
 */
export function openVocImages(root: string, split: string): Pick<VocFiles, "ids" | "images"> {
  const ids = readSplit(root, split)
  return { ids, images: locate(ids, join(root, "JPEGImages"), "image", imageExtensions) }
}

/**
 * Opens the masks of one split alone, which is all that scoring predictions needs: the pictures may be elsewhere.
 * @throws UserError as `openVocFolder`, but for images
 */
export const openVocMasks = (root: string, options: VocOptions): VocMasks =>
  findMasks(root, readSplit(root, options.split), options)

function findMasks(
  root: string,
  ids: readonly string[],
  { split, labelMap, groundTruth = "labels", ...selection }: VocOptions,
): VocMasks {
  const masks = locate(ids, join(root, "SegmentationClass"), "mask", maskExtensions)
  const source = labelMap ?? findLabelMap(root)
  if (groundTruth === "alpha") {
    const given = Object.keys(selection).filter((key) => selection[key as keyof ClassSelection] !== undefined)
    if (given.length > 0) {
      throw new UserError(`${given.join(", ")}: alpha mattes have no classes to choose from; leave that out.`)
    }
    checkMatteClasses(source)
  }
  return { root, split, ids, masks, source, groundTruth, ...selectClasses(source, selection) }
}

/** A function that reads mask files of these masks' kind. */
export const masksReader = ({ source, lookup, groundTruth }: VocMasks): ((file: string) => Mask) =>
  groundTruth === "alpha" ? readMatte : maskReader(source, lookup)

/** Where samples come from, by their position in the split. */
export interface SampleSource {
  readSample(index: number): Promise<Sample>
}

export class VocFolder implements SampleSource {
  readonly files: VocFiles
  readonly #readMask: (file: string) => Mask

  /** Use `openVocFolder`, which checks the files; this trusts them. */
  constructor(files: VocFiles) {
    this.files = files
    this.#readMask = masksReader(files)
  }

  get ids(): readonly string[] {
    return this.files.ids
  }

  get labelMap(): LabelMap {
    return this.files.labelMap
  }

  /** The mask alone. */
  readMask(index: number): Mask {
    return this.#readMask(this.files.masks[index]!)
  }

  /**
   * Image and mask, on the pixel grid as stored: an EXIF orientation turns neither, because it says nothing about
   * which way round the mask was drawn. Where it makes their sizes differ, the message says so.
   * @throws UserError naming the file that is missing, damaged, of another size, or has a label outside the map
   */
  async readSample(index: number): Promise<Sample> {
    const mask = this.readMask(index)
    const { width, height, data } = await readImage(this.files.images[index]!)
    if (width !== mask.width || height !== mask.height) throw await this.#sizesDiffer(index, mask)
    const { labels, alpha } = mask
    return { id: this.ids[index]!, width, height, image: data, mask: labels, ...(alpha && { alpha }) }
  }

  /**
   * The mask, after a look at its image that finds most of what `readSample` would refuse and takes a tenth of its time.
   * @throws UserError as `readSample`
   */
  async checkSample(index: number): Promise<Mask> {
    const mask = this.readMask(index)
    const { width, height } = await inspectImage(this.files.images[index]!)
    if (width !== mask.width || height !== mask.height) throw await this.#sizesDiffer(index, mask)
    return mask
  }

  async #sizesDiffer(index: number, mask: Mask): Promise<UserError> {
    const { images, masks } = this.files
    const { width, height, orientation } = await inspectImage(images[index]!)
    const turned = orientation >= 5 && width === mask.height && height === mask.width
    return new UserError(
      `Image ${images[index]} is ${width}x${height} and its mask ${masks[index]} is ${mask.width}x${mask.height}; ` +
        `they must have the same size.` +
        (turned ? " The image has an EXIF orientation that viewers apply: save it upright, without that tag." : ""),
    )
  }
}

const splitFolder = (root: string) => join(root, "ImageSets", "Segmentation")

/** Names of the lists that a data set has. @throws UserError when their folder cannot be opened */
export function listSplits(root: string): string[] {
  return listFolder(splitFolder(root), "split lists")
    .filter((name) => name.endsWith(".txt"))
    .map((name) => name.slice(0, -4))
    .sort()
}

/** The ids of a list, in its order. @throws UserError when there is none of this name, it is empty, or a line is not an id */
export function readSplit(root: string, split: string): string[] {
  listFolder(root, "data set")
  const folder = splitFolder(root)
  const splits = listSplits(root)
  if (!splits.includes(split)) {
    const existing = splits.length > 0 ? `expected one of ${splits.join(", ")}` : "there are no lists at all"
    throw new UserError(`There is no split "${split}" in ${folder}; ${existing}.${didYouMean(split, splits)}`)
  }
  const file = join(folder, `${split}.txt`)
  const lines = readText(file, "split list").split("\n")
  const ids: string[] = []
  for (const [number, line] of lines.entries()) {
    const id = line.trim()
    if (id === "") continue
    // An id is a file name and never a path: a list from elsewhere must not reach outside the folder.
    if (/[/\\\0]/.test(id) || id === "." || id === "..") {
      throw new UserError(
        `Split list ${file}, line ${number + 1}: "${id}" is not an id; expected a name without folders.`,
      )
    }
    ids.push(id)
  }
  if (ids.length === 0) throw new UserError(`Split list ${file} is empty; expected one id a line, such as 2007_000032.`)
  return ids
}

function locate(ids: readonly string[], folder: string, what: string, extensions: readonly string[]): string[] {
  const find = fileFinder(listFolder(folder, `${what}s`))
  const missing = ids.filter((id) => find(id, extensions) === undefined)
  if (missing.length > 0) {
    const id = missing[0]!
    const jpeg = what === "mask" && find(id, [".jpg", ".jpeg"])
    throw new UserError(
      `There is no ${what} for "${id}": expected ${join(folder, id)}${extensions.join(" or ")}.` +
        (missing.length > 1 ? ` ${missing.length} of ${ids.length} ${what}s are missing.` : "") +
        (jpeg ? ` There is a ${jpeg}, but JPEG changes labels: export the masks as PNG.` : ""),
    )
  }
  return ids.map((id) => join(folder, find(id, extensions)!))
}

/**
 * From an id to its file name, among the names in a folder: the first of the extensions that it has, in whatever case.
 * Reading the folder once takes 30 ms for 10,582 ids; asking the disk for each takes far longer.
 */
export function fileFinder(
  names: readonly string[],
): (id: string, extensions: readonly string[]) => string | undefined {
  const byExtension = new Map<string, Map<string, string>>() // extension -> id -> file name
  for (const name of names) {
    const extension = extname(name)
    const known = byExtension.get(extension.toLowerCase()) ?? new Map()
    byExtension.set(extension.toLowerCase(), known.set(name.slice(0, name.length - extension.length), name))
  }
  return (id, extensions) =>
    extensions.map((extension) => byExtension.get(extension)?.get(id)).find((name) => name !== undefined)
}

const labelMapNames = ["label_map.json", "label_map.yaml", "label_map.yml", "label_map.txt"]

/** The file with a data set's label map, if there is one. @throws UserError when the folder cannot be opened */
export function labelMapFile(root: string): string | undefined {
  const present = listFolder(root, "data set")
  const name = labelMapNames.find((candidate) => present.includes(candidate))
  return name && join(root, name)
}

/** The label map in a data set's folder. @throws UserError when there is none, or it is malformed */
export function findLabelMap(root: string): LabelMap {
  const file = labelMapFile(root)
  if (file !== undefined) return readLabelMap(file)
  throw new UserError(
    `There is no label map in ${root}; expected ${labelMapNames.join(", ")}. ` +
      `Simplest: write the class names into ${join(root, "label_map.txt")}, one a line, in the order of their numbers.`,
  )
}

/** Names in a folder of a data set. @throws UserError when it cannot be opened */
export function listFolder(folder: string, what: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason = code === "ENOTDIR" ? "it is a file, not a folder" : fileProblem(error)
    throw new UserError(
      `Cannot open the ${what} folder ${folder}: ${reason}. Expected JPEGImages/, SegmentationClass/ and ` +
        `ImageSets/Segmentation/ in the data set's folder.`,
      { cause: error },
    )
  }
}
