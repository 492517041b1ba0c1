// Predicted masks of any tool: a folder with one PNG of labels for each image of a split.
//   DIR/<id>.png                                                       the plain form, or
//   DIR/results/VOC2012/Segmentation/comp6_<set>_cls/<id>.png          as PASCAL VOC's evaluation server takes them
// Scores are believed, so nothing is guessed or repaired here: a file that is missing, of another size or in another form than
// labels is refused, with its name, what was expected and what was found.
import { type Dirent, readdirSync } from "node:fs"
import { join } from "node:path"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import { readBytes } from "./files.ts"
import { ignoreIndex, selectClasses, unknownLabel } from "./label-map.ts"
import { type Mask, pixel, ranges, renumberedEntry } from "./mask.ts"
import { decodePng, type Png, type PngHeader, readPngHeader } from "./png.ts"
import type { VocMasks } from "./voc-folder.ts"

/** Plain data: it can be sent to a worker thread. */
export type PredictionFolder = {
  /** Where the files lie: the folder that was given, or the one of VOC's layout inside it. */
  readonly folder: string
  /** One file for each id, in the order of the ids. */
  readonly files: readonly string[]
  /** Names of PNG files in the folder that belong to no id of the split. */
  readonly extra: readonly string[]
}

/**
 * Finds the prediction of every id, before any is read. Files of other ids change no score, and a folder with the predictions of
 * two splits is scored split by split: they are listed, not refused. What they usually mean, another split or other names, leaves
 * ids without a prediction, which is refused.
 * @param path the predictions' folder, or one that holds VOC's results/VOC2012/Segmentation/comp6_<set>_cls
 * @throws UserError when the folder cannot be read or has no PNG files, ids have no prediction, or two folders have them
 */
export function openPredictionFolder(path: string, { ids, split }: Pick<VocMasks, "ids" | "split">): PredictionFolder {
  const { folder, names } = findFolder(path, ids, split)
  const present = new Set(names)
  const missing = ids.filter((id) => !present.has(`${id}.png`))
  if (missing.length > 0) throw new UserError(missingMessage(folder, names, missing, { ids, split }))
  const expected = new Set(ids.map((id) => `${id}.png`))
  return {
    folder,
    files: ids.map((id) => join(folder, `${id}.png`)),
    extra: names.filter((name) => isPng(name) && !expected.has(name)),
  }
}

/** The names, at most five of them. */
export function firstFew(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(", ")
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown
}

// --- which folder ---------------------------------------------------------------------------------------------------------

type Place = { readonly folder: string; readonly names: readonly string[] }

/** The folder itself, or the one of VOC's layout in it that has predictions of this split. */
function findFolder(path: string, ids: readonly string[], split: string): Place {
  const inside = list(path)
  const trees = vocFolders(path)
  const places = [{ folder: path, names: inside.map(({ name }) => name) }, ...trees].filter(({ names }) =>
    names.some(isPng),
  )
  if (places.length === 0) throw new UserError(emptyMessage(path, inside, { ids, split }))
  const wanted = new Set(ids.map((id) => `${id}.png`))
  const matching = places.filter(({ names }) => names.some((name) => wanted.has(name)))
  if (matching.length > 1) {
    throw new UserError(
      `There are predictions for "${split}" in ${matching.map(({ folder }) => folder).join(" and in ")}; ` +
        `name the folder that is meant.`,
    )
  }
  return matching[0] ?? places[0]!
}

/** The folders comp5_<set>_cls and comp6_<set>_cls of VOC's layout below a folder (5: trained on VOC's pictures alone). */
function vocFolders(path: string): Place[] {
  const parent = join(path, "results", "VOC2012", "Segmentation")
  let entries: Dirent[]
  try {
    entries = readdirSync(parent, { withFileTypes: true })
  } catch {
    return []
  }
  return entries
    .filter((entry) => entry.isDirectory() && /^comp[56]_.+_cls$/.test(entry.name))
    .map(({ name }) => join(parent, name))
    .sort()
    .map((folder) => ({ folder, names: list(folder).map(({ name }) => name) }))
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const reason = code === "ENOTDIR" ? "it is a file, not a folder" : fileProblem(cause)
    throw new UserError(`Cannot open the folder of predictions ${folder}: ${reason}.`, { cause })
  }
}

const isPng = (name: string): boolean => name.toLowerCase().endsWith(".png")

// --- messages about names -------------------------------------------------------------------------------------------------

type SplitIds = Pick<VocMasks, "ids" | "split">

function emptyMessage(path: string, inside: readonly Dirent[], { ids, split }: SplitIds): string {
  const filled = inside.find(
    (entry) => entry.isDirectory() && list(join(path, entry.name)).some(({ name }) => isPng(name)),
  )
  const found = inside.length === 0 ? "it is empty" : `it holds ${firstFew(inside.map(({ name }) => name))}`
  return (
    `There are no PNG files in the folder of predictions ${path}: ${found}. Expected <id>.png for each of the ${ids.length} ids of "${split}", ` +
    `there or in its results/VOC2012/Segmentation/comp6_${split}_cls.` +
    (filled ? ` Is ${join(path, filled.name)} meant?` : "")
  )
}

function missingMessage(
  folder: string,
  names: readonly string[],
  missing: readonly string[],
  { ids, split }: SplitIds,
): string {
  const id = missing[0]!
  const count =
    missing.length === ids.length ? `any of the ${ids.length} ids` : `${missing.length} of the ${ids.length} ids`
  return (
    `There is no prediction for ${count} of "${split}": ${firstFew(missing)}. ` +
    `Expected ${join(folder, `${id}.png`)}${insteadOf(id, names)}`
  )
}

/** What stands in the folder in the place of `<id>.png`, and what to do. */
function insteadOf(id: string, names: readonly string[]): string {
  const expected = `${id}.png`
  const cased = names.find((name) => name.toLowerCase() === expected.toLowerCase())
  if (cased !== undefined) return `, got ${cased}: names must agree in upper and lower case. Rename it.`
  const jpeg = names.find((name) => /^\.jpe?g$/i.test(name.slice(id.length)) && name.startsWith(id))
  if (jpeg !== undefined) return `, got ${jpeg}: JPEG changes labels. Write predictions as PNG.`
  const similar = names.find((name) => name.startsWith(id))
  if (similar !== undefined) return `, got ${similar}: the name must be the id alone. Rename it.`
  const other = names.find(isPng)
  return other === undefined ? "." : `; the folder holds ${other}, for one. Are these the predictions of another split?`
}

// --- labels ---------------------------------------------------------------------------------------------------------------

/** What the numbers in predictions are: those of the data set's masks, or 0..K-1 in the order of the classes that are scored. */
export const numberings = ["dataset", "selected"] as const
export type Numbering = (typeof numberings)[number]

/** A mask that a prediction is held against: [height, width] labels in 0..K-1, or 255 for void. */
type Truth = Mask & { readonly file: string }

/**
 * A function that reads predictions. Void, and classes that are not scored, may stand only where the truth is void, as when masks
 * are scored against themselves: there nothing is counted. Elsewhere they would be pixels that no score knows of.
 * @returns reads one file, as [height, width] labels in 0..K-1, or 255 where the truth is void; throws a UserError naming file,
 *   expected and got when it is not a PNG, damaged, of another size than the truth, not one label a pixel, or has other labels
 */
export function predictionReader(
  masks: Pick<VocMasks, "source" | "labelMap" | "lookup">,
  numbering: Numbering,
): (file: string, truth: Truth) => Uint8Array {
  const { source, labelMap } = masks
  const classes = labelMap.classes.length
  const map = numbering === "dataset" ? source : labelMap
  const lookup = numbering === "dataset" ? masks.lookup.slice() : selectClasses(labelMap).lookup
  // Void by custom, whatever the data set's own number for it is, but where 255 is one of its classes.
  if (!map.classes.some(({ index }) => index === ignoreIndex)) lookup[ignoreIndex] = ignoreIndex
  const expected = ranges(map.classes.filter(({ index }) => lookup[index]! < classes).map(({ index }) => index))

  return (file, truth) => {
    const bytes = readBytes(file, "prediction")
    checkForm(readPngHeader(bytes, file), file, truth)
    const png = decodePng(bytes, file)
    const moved = renumberedEntry(png, [...map.classes, map.ignore])
    if (moved) {
      const { entry, color, other } = moved
      throw new UserError(
        `Prediction ${file}: number ${entry.index} is "${entry.name}", but its palette colour (${color.join(", ")}) is that of ` +
          `"${other.name}" (${other.index}). Was the palette renumbered by an editor or an optimiser? Write the numbers of the classes.`,
      )
    }
    const { data } = png
    const labels = new Uint8Array(data.length)
    for (let i = 0; i < labels.length; i++) labels[i] = lookup[data[i]!]!
    const unknown = labels.indexOf(unknownLabel)
    if (unknown >= 0) throw unknownNumber(png, unknown, file)
    const { labels: truthLabels } = truth
    for (let i = labels.indexOf(ignoreIndex); i >= 0 && i < labels.length; i++) {
      if (labels[i] === ignoreIndex && truthLabels[i] !== ignoreIndex) throw noClass(png, i, file, truth)
    }
    return labels
  }

  function unknownNumber({ data, width, header }: Png, at: number, file: string): UserError {
    const known = source.classes.find(({ index }) => index === data[at])
    const hint = known
      ? `It is "${known.name}" in the data set: where predictions have its numbers, say so (numbering: dataset).`
      : header.color === "grey" && header.depth === 8
        ? "It is a grey PNG: was a coloured mask turned to grey?"
        : "Was it made for other classes?"
    return new UserError(
      `Prediction ${file} has the label ${data[at]} at ${pixel(at, width)}; expected ${expected}. ${hint}`,
    )
  }

  /** Void, or a class that is not scored, at a pixel that counts. */
  function noClass({ data, width, header }: Png, at: number, file: string, truth: Truth): UserError {
    const place = `${data[at]} at ${pixel(at, width)}`
    const here = `where the truth is "${labelMap.classes[truth.labels[at]!]!.name}"`
    const other = map.classes.find(({ index }) => index === data[at])
    if (other) {
      return new UserError(
        `Prediction ${file} has the label ${place}, "${other.name}", which is not among the classes that are scored (${expected}), ${here}. ` +
          `Count other classes as background (others: background), or, where predictions number the chosen classes ` +
          `0..${classes - 1}, say so (numbering: selected).`,
      )
    }
    const isBinary = header.color === "grey" && data.every((value) => value === 0 || value === 255)
    return new UserError(
      `Prediction ${file} has the label ${place}, which is void, ${here}; expected ${expected}. ` +
        (isBinary
          ? "It is black and white: write the numbers of the classes, 0 and 1, instead."
          : "Void is no prediction: choose a class for every pixel."),
    )
  }
}

const forms = { rgb: "RGB", "rgb+alpha": "RGB with transparency", "grey+alpha": "grey with transparency" } as const

/** Size and mode: from the header, so that it takes no time and a huge file is not unpacked. */
function checkForm({ width, height, depth, color }: PngHeader, file: string, truth: Truth): void {
  if (color !== "palette" && color !== "grey") {
    throw new UserError(
      `Prediction ${file} is ${forms[color]}; expected a palette or grey PNG whose numbers are the classes. ` +
        `Write the labels, not their colours.`,
    )
  }
  if (depth === 16) {
    throw new UserError(
      `Prediction ${file} has 16 bits per pixel; expected a palette or grey PNG of at most 8. Save the labels as 8 bits.`,
    )
  }
  if (width === truth.width && height === truth.height) return
  const turned = width === truth.height && height === truth.width
  throw new UserError(
    `Prediction ${file} is ${width}x${height}; expected ${truth.width}x${truth.height}, the size of its truth ${truth.file}. ` +
      (turned
        ? "Width and height are exchanged: was it written transposed, or the picture turned by its EXIF orientation?"
        : "Predictions must have the size of the picture: scale logits or labels back before writing them."),
  )
}
