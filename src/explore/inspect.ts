// What one image and its mask hold, as facts from which everything else is counted. Runs in worker threads (survey.ts), so
// that facts are plain data; a file that cannot be read is a fact too.
import { hash } from "node:crypto"
import sharp from "sharp"
import { connectedComponents } from "../data/components.ts"
import { readBytes } from "../data/files.ts"
import { inspectImage, readImage } from "../data/image.ts"
import { ignoreIndex, type LabelMap, unknownLabel } from "../data/label-map.ts"
import { maskReader, pixel } from "../data/mask.ts"
import { decodePng, maxPixels, type PngHeader, readPngHeader } from "../data/png.ts"
import { attempt, UserError } from "../errors.ts"
import type { DataFiles, Entry } from "./files.ts"
import type { ProblemName } from "./problem-kinds.ts"

/** All that inspecting needs to know of a data set. */
export type InspectorSetup = Pick<DataFiles, "source" | "labelMap" | "lookup">

export interface MaskFacts {
  readonly width: number
  readonly height: number
  /** Whether classes were told by colours, not by index. */
  readonly isRgb: boolean
  /** [K] pixels of each class. */
  readonly pixels: Uint32Array
  readonly void: number
  /** Numbers outside the label map: they count as void everywhere, but not in `void`. */
  readonly unknown: readonly UnknownLabel[]
  /** The connected pieces (8 neighbours) of each class but background: class and pixels. */
  readonly pieces: readonly (readonly [label: number, pixels: number])[]
  /** Equal for equal masks. */
  readonly digest: string
  /** How often the label changes along the rows: how much a mask shows, and so how unlikely an equal one is by chance. */
  readonly changes: number
}

export interface UnknownLabel {
  readonly value: number
  readonly pixels: number
  /** Where the first one is, in words. */
  readonly first: string
}

export interface ImageFacts {
  readonly width: number
  readonly height: number
  /** EXIF orientation, 1 to 8; 1 is upright. */
  readonly orientation: number
  /** Equal for equal files. */
  readonly digest: string
  /** [THUMBNAIL, THUMBNAIL, 3] */
  readonly thumbnail: Uint8Array
  /** Standard deviation of the channel in which it is largest, 0 to 127.5. */
  readonly deviation: number
}

/** Why a file has no facts. */
export interface Refusal {
  readonly problem: ProblemName
  readonly detail: string
}

/** What is known of an entry; null where there is no file, or no facts of it. */
export interface EntryFacts {
  readonly mask: MaskFacts | null
  readonly image: ImageFacts | null
  readonly maskRefusal: Refusal | null
  readonly imageRefusal: Refusal | null
}

/** Height and width of thumbnails, in pixels. */
export const THUMBNAIL = 32

/** Below this deviation (of 255 levels) an image counts as flat. */
export const FLAT = 4

/** A function that inspects entries; it throws nothing that a damaged file could cause. */
export function createInspector({
  source,
  labelMap,
  lookup,
}: InspectorSetup): (entries: readonly Entry[]) => Promise<EntryFacts[]> {
  const readMask = maskReader(source, lookup)
  return async (entries) => {
    const facts: EntryFacts[] = []
    for (const entry of entries) facts.push(await inspect(entry))
    return facts
  }

  async function inspect({ image, mask }: Entry): Promise<EntryFacts> {
    const maskFacts = mask === null ? null : inspectMask(mask)
    const imageFacts = image === null ? null : await inspectPicture(image)
    const refusal = (facts: object | null) => (facts !== null && "problem" in facts ? (facts as Refusal) : null)
    const [maskRefusal, imageRefusal] = [refusal(maskFacts), refusal(imageFacts)]
    return {
      mask: maskRefusal ? null : (maskFacts as MaskFacts | null),
      image: imageRefusal ? null : (imageFacts as ImageFacts | null),
      maskRefusal,
      imageRefusal,
    }
  }

  /** 2 ms for 500x375. */
  function inspectMask(file: string): MaskFacts | Refusal {
    const refuse = (problem: ProblemName) => (message: string) => ({ problem, detail: withoutFile(message, file) })
    const header = attempt(() => readPngHeader(readBytes(file, "mask"), file), refuse("unreadableMasks"))
    if ("problem" in header) return header
    const isRgb = header.color === "rgb" || header.color === "rgb+alpha"
    const mask = attempt(
      () => ({ ...readMask(file), unknown: [] as UnknownLabel[] }),
      (message) => withUnknownLabels(file, header) ?? refuse(problemOf(file, header))(message),
    )
    if ("problem" in mask) return mask
    const { width, height, labels, unknown } = mask
    return { width, height, isRgb, unknown, ...countLabels(labels, { width, height }, labelMap) }
  }

  /** The labels of a mask that has some outside the label map, those as `unknownLabel`; null where that is not its problem. */
  function withUnknownLabels(file: string, { depth }: PngHeader) {
    if (depth === 16) return null
    const png = attempt(
      () => decodePng(readBytes(file, "mask"), file),
      () => null,
    )
    if (png?.channels !== 1) return null
    const { width, height, data } = png
    const labels = data.map((value) => lookup[value]!)
    const pixels = new Uint32Array(256)
    for (let i = 0; i < data.length; i++) if (labels[i] === unknownLabel) pixels[data[i]!]! += 1
    const unknown = [...pixels.entries()]
      .filter(([, count]) => count > 0)
      .map(([value, count]) => ({ value, pixels: count, first: pixel(data.indexOf(value), width) }))
    return unknown.length > 0 ? { width, height, labels, unknown } : null // else its palette was renumbered
  }
}

function problemOf(file: string, { color, depth }: PngHeader): ProblemName {
  if (depth === 16 || color === "grey+alpha") return "unreadableMasks"
  const isWhole = attempt(
    () => decodePng(readBytes(file, "mask"), file) !== null,
    () => false,
  )
  if (!isWhole) return "unreadableMasks"
  return color === "palette" ? "renumberedPalettes" : "unknownColors"
}

/** What the labels of a mask say: 0..K-1, 255 for void, `unknownLabel`. */
export function countLabels(
  labels: Uint8Array,
  size: { width: number; height: number },
  { classes, background }: LabelMap,
): Pick<MaskFacts, "pixels" | "void" | "pieces" | "digest" | "changes"> {
  const counts = new Uint32Array(256)
  let changes = 0
  let last = labels[0]
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!
    counts[label]! += 1
    if (label !== last) changes++
    last = label
  }
  const ignore = [ignoreIndex, unknownLabel, ...(background === undefined ? [] : [background])]
  return {
    pixels: counts.slice(0, classes.length),
    void: counts[ignoreIndex]!,
    pieces: connectedComponents(labels, size, { ignore }).components.map(({ label, pixels }) => [label, pixels]),
    digest: `${size.width}x${size.height} ${hash("sha1", labels, "base64")}`,
    changes,
  }
}

/** 3 ms for a JPEG of 500x375: its thumbnail is decoded at a fraction of the size. */
async function inspectPicture(file: string): Promise<ImageFacts | Refusal> {
  try {
    const header = await inspectImage(file)
    const bytes = readBytes(file, "image")
    const thumbnail = await makeThumbnail(bytes, file)
    let spread = deviation(thumbnail)
    if (spread < FLAT) spread = deviation((await readImage(file)).data) // fine texture: a thumbnail is the mean of it
    return { ...header, digest: hash("sha1", bytes, "base64"), thumbnail, deviation: spread }
  } catch (error) {
    if (error instanceof UserError) return { problem: "unreadableImages", detail: withoutFile(error.message, file) }
    throw error
  }
}

async function makeThumbnail(bytes: Buffer, file: string): Promise<Uint8Array> {
  try {
    const thumbnail = await sharp(bytes, { failOn: "warning", limitInputPixels: maxPixels, ignoreIcc: true })
      // without the fastest way of shrinking, which cuts off edges: a copy of half the size has a likeness of 0.99, with it 0.97
      .resize(THUMBNAIL, THUMBNAIL, { fit: "fill", fastShrinkOnLoad: false })
      .toColourspace("srgb")
      .removeAlpha()
      .raw()
      .toBuffer()
    return new Uint8Array(thumbnail) // its own memory: a Buffer may be a part of a pool, which would be copied whole
  } catch (error) {
    await readImage(file) // says why, in the words of training
    throw new UserError(`Cannot read image ${file}: ${(error as Error).message.split("\n")[0]}.`, { cause: error })
  }
}

/** @param rgb [pixels, 3] */
function deviation(rgb: Uint8Array): number {
  const pixels = rgb.length / 3
  let largest = 0
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0
    let squares = 0
    for (let i = channel; i < rgb.length; i += 3) {
      sum += rgb[i]!
      squares += rgb[i]! ** 2
    }
    largest = Math.max(largest, squares / pixels - (sum / pixels) ** 2)
  }
  return Math.sqrt(largest)
}

/** A message without the file that stands beside it anyway, and without what to do, which the problem says. */
function withoutFile(message: string, file: string): string {
  const at = message.indexOf(file)
  const rest = at < 0 ? message : message.slice(at + file.length)
  return rest
    .replace(/^[\s:]+/, "")
    .replace(/( Copy or export it again)?\.$/, "")
    .replace(/\.$/, "")
}
