// What lies in a data set's folder, before any of the files is opened. Training refuses at the first thing that is missing;
// exploring notes it, and goes on with what there is.
import { existsSync } from "node:fs"
import { join, relative } from "node:path"
import { groupBy } from "../arrays.ts"
import { type LabelMap, parseLabelMap, selectClasses, unknownLabel } from "../data/label-map.ts"
import {
  fileFinder,
  findLabelMap,
  imageExtensions,
  listFolder,
  listSplits,
  maskExtensions,
  readSplit,
} from "../data/voc-folder.ts"
import { attempt } from "../errors.ts"
import type { Finding } from "./problem-kinds.ts"

/** One id, however many lists it stands in. */
export interface Entry {
  readonly id: string
  readonly splits: readonly string[]
  /** Path; null where there is no file. */
  readonly image: string | null
  readonly mask: string | null
}

export interface DataFiles {
  readonly root: string
  /** The lists, or "all" where there is none. */
  readonly splits: readonly string[]
  readonly entries: readonly Entry[]
  /** Whether there is a folder of images: without one each of them is missing, and that is one problem, not thousands. */
  readonly hasImages: boolean
  /** What the masks hold, and as what it is counted: 0..K-1, 255. */
  readonly source: LabelMap
  readonly labelMap: LabelMap
  readonly lookup: Uint8Array
  /** Whether the label map stands in for a missing one, and names numbers. */
  readonly isStandIn: boolean
  readonly findings: readonly Finding[]
}

/**
 * Finds the files of a data set in VOC layout.
 * @param splits names of lists; default: train and val, or all that there are where it has neither
 * @throws UserError when the data set or its masks cannot be opened, or it has no list of a name that was asked for
 */
export function findDataFiles(root: string, { splits }: { splits?: readonly string[] } = {}): DataFiles {
  listFolder(root, "data set")
  const findings: Finding[] = []
  const maskNames = listFolder(join(root, "SegmentationClass"), "masks")
  const hasImages = existsSync(join(root, "JPEGImages"))
  const imageNames = hasImages ? listFolder(join(root, "JPEGImages"), "images") : []
  if (!hasImages) findings.push({ problem: "noImages", where: ["JPEGImages"] })

  const lists = readLists(root, splits, findings)
  if (lists.size === 0) lists.set(ALL, new Set(maskNames.filter(isMask).map((name) => name.slice(0, -4))))
  const splitsOf = new Map<string, string[]>()
  for (const [split, ids] of lists) {
    for (const id of ids) splitsOf.set(id, [...(splitsOf.get(id) ?? []), split])
  }

  const [findMask, findImage] = [fileFinder(maskNames), fileFinder(imageNames)]
  const entries = [...splitsOf].map(([id, its]): Entry => {
    const mask = findMask(id, maskExtensions)
    const image = findImage(id, imageExtensions)
    if (mask === undefined) {
      const jpeg = findMask(id, [".jpg", ".jpeg"])
      const detail = jpeg && `there is a ${jpeg}, but JPEG changes labels: export the mask as PNG`
      findings.push({ problem: "missingMasks", where: [`SegmentationClass/${id}.png`], ...(jpeg && { detail }) })
    }
    if (image === undefined && hasImages) findings.push({ problem: "missingImages", where: [`JPEGImages/${id}.jpg`] })
    return {
      id,
      splits: its,
      image: image === undefined ? null : join(root, "JPEGImages", image),
      mask: mask === undefined ? null : join(root, "SegmentationClass", mask),
    }
  })

  const { source, isStandIn } = readOrStandIn(root, findings)
  return {
    ...{ root, splits: [...lists.keys()], entries, hasImages, source, isStandIn, findings },
    ...selectClasses(source),
  }
}

/** A file as people are told of it: from the data set's folder, with "/" everywhere. */
export const shownPath = (root: string, file: string): string => relative(root, file).replaceAll("\\", "/")

/** The list that stands in for missing ones. */
const ALL = "all"

const isMask = (name: string) => name.toLowerCase().endsWith(".png")

function readLists(root: string, wanted: readonly string[] | undefined, findings: Finding[]): Map<string, Set<string>> {
  const lists = new Map<string, Set<string>>()
  const note = (where: string, detail: string) => findings.push({ problem: "lists", where: [where], detail })
  const existing = attempt(
    () => listSplits(root),
    (): string[] => [],
  )
  const usual = ["train", "val"].filter((split) => existing.includes(split))
  const splits = new Set(wanted ?? (usual.length > 0 ? usual : existing))
  for (const split of splits) {
    if (!existing.includes(split)) readSplit(root, split) // refuses, with the names that there are
    const ids = attempt(
      () => readSplit(root, split),
      (message) => {
        note(listFile(split), message)
        return []
      },
    )
    if (ids.length === 0) continue
    lists.set(split, new Set(ids))
    const places = groupBy(ids.keys(), (place) => ids[place]!)
    for (const [id, its] of places) {
      const numbers = its.map((place) => place + 1)
      if (its.length > 1) {
        findings.push({
          problem: "repeatedIds",
          where: [id],
          detail: `in ${split}, as number ${numbers.join(" and ")}`,
        })
      }
    }
  }
  if (lists.size === 0) note("ImageSets/Segmentation", "there is no list that can be read: all masks are looked at")
  else if (wanted === undefined) {
    for (const split of ["train", "val"]) {
      if (!existing.includes(split)) note(listFile(split), "there is no such list; training expects it")
    }
  }
  return lists
}

const listFile = (split: string) => `ImageSets/Segmentation/${split}.txt`

/** The data set's label map; where it cannot be had, one that names every number by itself. */
function readOrStandIn(root: string, findings: Finding[]): { source: LabelMap; isStandIn: boolean } {
  const note = (detail: string) => {
    findings.push({ problem: "labelMap", where: ["label_map.*"], detail })
    return null
  }
  const found = attempt(() => findLabelMap(root), note)
  const names = Array.from({ length: unknownLabel }, (_, index) => `label ${index}`)
  return { source: found ?? parseLabelMap(names, "without a file"), isStandIn: found === null }
}
