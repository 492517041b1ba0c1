// Entries of a data set as small pictures: the image with its labels over it, or the labels alone where there is no image.
import { type RgbImage, readImage } from "../data/image.ts"
import { paletteOf } from "../data/label-map.ts"
import { maskReader } from "../data/mask.ts"
import { fitInside, pageBox, sizeInside } from "../report/canvas.ts"
import { type Html, html, image as imageTag } from "../report/html.ts"
import { nameObjects, overlay, resizeMask } from "../report/pictures.ts"
import type { DataFiles, Entry } from "./files.ts"
import type { EntryFacts } from "./inspect.ts"

/** Where there is no image: neither a page's white nor its black, so that void and background show on both. */
const BACKDROP = [58, 64, 70] as const

/**
 * An entry as an <img>.
 * @param options.plain without labels
 * @returns null where neither image nor mask can be shown
 */
export async function entryPicture(
  { id, image: imageFile, mask: maskFile }: Entry,
  { image, mask: facts }: EntryFacts,
  { source, labelMap, lookup }: DataFiles,
  { plain = false } = {},
): Promise<Html | null> {
  const isLabelled = !plain && facts !== null && facts.unknown.length === 0 // training's reader refuses unknown labels
  const mask = isLabelled ? maskReader(source, lookup)(maskFile!) : null
  const full = image && (await readImage(imageFile!))
  if (!full && !mask) return null
  const picture = full ? await fitInside(full, pageBox) : flat(sizeInside(mask!, pageBox))
  const fits = !full || (mask !== null && full.width === mask.width && full.height === mask.height)
  if (!mask || !fits) return imageTag(picture, { alt: id })
  const small = resizeMask(mask, picture)
  const tinted = overlay(picture, small, paletteOf(labelMap), {
    ...(labelMap.background !== undefined && { background: labelMap.background }),
    opacity: full ? 0.5 : 1,
  })
  return imageTag(nameObjects(tinted, small, labelMap), {
    alt: `${id}: ${presentClasses(facts!)
      .map((k) => labelMap.classes[k]!.name)
      .join(", ")}`,
  })
}

/** Promise.all, but one after the other: pictures are large before they are small. */
export async function oneByOne<Item, Result>(
  items: readonly Item[],
  act: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  for (const item of items) results.push(await act(item))
  return results
}

/** Classes in a mask, the one with most pixels first. */
export const presentClasses = ({ pixels }: { readonly pixels: Uint32Array }): number[] =>
  [...pixels.keys()].filter((k) => pixels[k]! > 0).sort((a, b) => pixels[b]! - pixels[a]!)

/** The colour of a class, beside its name. */
export const swatch = (k: number, { labelMap }: DataFiles): Html =>
  html`<span style="display:inline-block;width:.75em;height:.75em;border:1px solid var(--soft);border-radius:2px;background:rgb(${labelMap.classes[k]!.color.join(",")})"></span>`

/** The classes of an entry with their colours, background left out. */
export function legend(facts: EntryFacts, files: DataFiles): Html {
  const { background, classes } = files.labelMap
  const present = facts.mask ? presentClasses(facts.mask).filter((k) => k !== background) : []
  return html`${present.map((k) => html`<span style="white-space:nowrap">${swatch(k, files)} ${classes[k]!.name}</span> `)}`
}

function flat({ width, height }: { width: number; height: number }): RgbImage {
  const data = new Uint8Array(width * height * 3)
  for (let i = 0; i < data.length; i += 3) data.set(BACKDROP, i)
  return { width, height, data }
}
