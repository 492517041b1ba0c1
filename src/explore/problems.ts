// Suspected problems: those that single files tell, and those that only two files together do.
import { groupBy, sum } from "../arrays.ts"
import type { LabelMap } from "../data/label-map.ts"
import { type DataFiles, type Entry, shownPath } from "./files.ts"
import { type EntryFacts, FLAT, type MaskFacts } from "./inspect.ts"
import { type Finding, type ProblemName, problemNames } from "./problem-kinds.ts"
import { isAlike, mostAlike, type Print, printOf } from "./similar.ts"

/** With fewer changes of label than this along its rows, a mask may equal another by chance: two plain skies, say. */
const LEAST_CHANGES = 64

/** An entry, what is known of it, and how its image is recognised; null where there is none, or it is flat. */
interface Sample {
  readonly entry: Entry
  readonly facts: EntryFacts
  readonly print: Print | null
}

/** All problems, in the order of `problemKinds`; the cases of each in the order of the lists. */
export function findProblems(files: DataFiles, facts: readonly EntryFacts[]): Finding[] {
  const samples = files.entries.map((entry, index): Sample => {
    const { image } = facts[index]!
    return { entry, facts: facts[index]!, print: image && image.deviation >= FLAT ? printOf(image.thumbnail) : null }
  })
  const found = [
    ...files.findings.map((finding) => withNumbers(finding, files, facts)),
    ...samples.flatMap((sample) => findingsOf(sample, files)),
    ...sharedIds(files),
    ...copies(samples, files),
    ...alikeAcross(samples, files),
    ...sameMasks(samples, files),
    ...missingClasses(samples, files),
  ]
  return found.sort((a, b) => problemNames.indexOf(a.problem) - problemNames.indexOf(b.problem)) // keeps the order of equals
}

// --- one file -------------------------------------------------------------------------------------------------------------

function findingsOf({ entry, facts }: Sample, { root, labelMap }: DataFiles): Finding[] {
  const { mask, image, maskRefusal, imageRefusal } = facts
  const [maskFile, imageFile] = [entry.mask, entry.image].map((file) => (file === null ? "" : shownPath(root, file)))
  const found: Finding[] = []
  const note = (problem: ProblemName, where: string | undefined, detail?: string) =>
    found.push({ problem, where: [where!], ...(detail !== undefined && { detail }) })

  if (maskRefusal) note(maskRefusal.problem, maskFile, maskRefusal.detail)
  if (imageRefusal) note(imageRefusal.problem, imageFile, imageRefusal.detail)
  if (mask) {
    if (mask.unknown.length > 0) note("unknownLabels", maskFile, unknownDetail(mask))
    if (mask.isRgb) note("rgbMasks", maskFile)
    if (isEmpty(mask, labelMap)) note("emptyMasks", maskFile)
    if (mask.void === mask.width * mask.height) note("voidMasks", maskFile)
  }
  if (image) {
    if (image.deviation < FLAT) {
      note("flatImages", imageFile, `its colours deviate by ${image.deviation.toFixed(1)} of 255 levels`)
    }
    if (image.orientation !== 1) note("turnedImages", imageFile, `EXIF orientation ${image.orientation}`)
  }
  if (mask && image && (mask.width !== image.width || mask.height !== image.height)) {
    const isTurned = image.orientation >= 5 && image.width === mask.height && image.height === mask.width
    const detail = `image ${image.width}x${image.height}, mask ${mask.width}x${mask.height}`
    note("sizesDiffer", imageFile, isTurned ? `${detail}; viewers turn the image, by its EXIF orientation` : detail)
  }
  return found
}

const SHOWN_LABELS = 5

function unknownDetail({ unknown }: MaskFacts): string {
  const shown = unknown
    .slice(0, SHOWN_LABELS)
    .map(
      ({ value, pixels, first }, k) =>
        `${value} (${pixels.toLocaleString("en")} px${k === 0 ? `, first at ${first}` : ""})`,
    )
  const more = unknown.length - shown.length
  return `label${unknown.length > 1 ? "s" : ""} ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`
}

/** All background, but for void. */
const isEmpty = ({ pixels, unknown }: MaskFacts, { background }: LabelMap): boolean =>
  background !== undefined && unknown.length === 0 && pixels[background]! > 0 && pixels[background] === sum(pixels)

// --- lists and classes ----------------------------------------------------------------------------------------------------

const sharedIds = ({ entries }: DataFiles): Finding[] =>
  entries
    .filter(({ splits }) => splits.length > 1)
    .map(({ id, splits }) => ({ problem: "sharedIds", where: [id], detail: `in ${splits.join(" and ")}` }))

/** Without a label map: which numbers a new one has to name. */
function withNumbers(finding: Finding, { labelMap, isStandIn }: DataFiles, facts: readonly EntryFacts[]): Finding {
  if (finding.problem !== "labelMap" || !isStandIn) return finding
  const numbers = labelMap.classes.filter((_, k) => facts.some(({ mask }) => mask !== null && mask.pixels[k]! > 0))
  const list = numbers.map(({ index }) => index).join(", ")
  return { ...finding, detail: `${finding.detail} The masks hold these numbers: ${list || "none"} (255 is void).` }
}

function missingClasses(samples: readonly Sample[], { splits, labelMap, isStandIn }: DataFiles): Finding[] {
  const masks = samples.flatMap(({ entry, facts: { mask } }) => (mask ? [{ ...entry, pixels: mask.pixels }] : []))
  if (isStandIn || masks.length === 0) return []
  return labelMap.classes.flatMap(({ name }, k): Finding[] => {
    const having = splits.filter((split) => masks.some((mask) => mask.splits.includes(split) && mask.pixels[k]! > 0))
    if (having.includes(splits[0]!)) return []
    const detail = having.length > 0 ? `but it is in ${having.join(" and ")}` : "and in no other list"
    return [{ problem: "missingClasses", where: [name], ...(splits.length > 1 && { detail }) }]
  })
}

// --- two files ------------------------------------------------------------------------------------------------------------

/** Whether two entries are told apart by lists: each is in one that the other is not in. */
const isAcross = ({ entry: a }: Sample, { entry: b }: Sample): boolean =>
  a.splits.some((split) => !b.splits.includes(split)) && b.splits.some((split) => !a.splits.includes(split))

/** Pairs with an equal key: each sample with an earlier one, of another list where there is such a one. */
function equalOnes(
  samples: readonly Sample[],
  keyOf: (facts: EntryFacts) => string | undefined,
): [earlier: Sample, later: Sample][] {
  const keyed = samples.filter(({ facts }) => keyOf(facts) !== undefined)
  return [...groupBy(keyed, ({ facts }) => keyOf(facts)).values()].flatMap((group) =>
    group.slice(1).map((later, k): [Sample, Sample] => {
      const earlier = group.slice(0, k + 1)
      return [earlier.find((sample) => isAcross(sample, later)) ?? earlier[0]!, later]
    }),
  )
}

const pair = (
  problem: ProblemName,
  [a, b]: [Sample, Sample],
  of: "image" | "mask",
  { root }: DataFiles,
  more = "",
) => ({
  problem,
  where: [a, b].map(({ entry }) => shownPath(root, entry[of]!)),
  detail: `${[a, b].map(({ entry }) => entry.splits.join(", ")).join(" and ")}${more}`,
})

function copies(samples: readonly Sample[], files: DataFiles): Finding[] {
  return equalOnes(samples, ({ image }) => image?.digest).map((both) => {
    const [a, b] = both.map(({ facts }) => facts.mask?.digest)
    const more = a !== undefined && b !== undefined && a !== b ? "; their masks differ" : ""
    return pair(isAcross(...both) ? "copiesAcross" : "copiesWithin", both, "image", files, more)
  })
}

/** Each sample with the one of an earlier list that is most like it, where they are alike and not the same file. */
function alikeAcross(samples: readonly Sample[], files: DataFiles): Finding[] {
  const groups = [...groupBy(samples, ({ entry }) => entry.splits.join()).values()]
  return groups.flatMap((group, g) => {
    const others = groups
      .slice(0, g)
      .filter((other) => isAcross(other[0]!, group[0]!))
      .flat()
    const prints = others.map(({ print }) => print)
    return group.flatMap((sample) => {
      const index = sample.print && mostAlike(sample.print, prints)
      if (index === null || others[index]!.facts.image!.digest === sample.facts.image!.digest) return []
      return [pair("alikeAcross", [others[index]!, sample], "image", files)]
    })
  })
}

/** Equal masks of images that are not alike, or of which nothing is known. */
function sameMasks(samples: readonly Sample[], files: DataFiles): Finding[] {
  const keyOf = ({ mask }: EntryFacts) => (mask && mask.changes >= LEAST_CHANGES ? mask.digest : undefined)
  return equalOnes(samples, keyOf)
    .filter(([a, b]) => !(a.print && b.print && isAlike(a.print, b.print)))
    .map((both) => pair("sameMasks", both, "mask", files))
}
