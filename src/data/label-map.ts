// Label maps: which number in a mask is which class, and which classes a model is trained on.
// The data set's own map says what the masks hold (0..255, gaps allowed, any ignore index). Training wants 0..K-1 and
// 255 for void; `selectClasses` makes that map and the table that turns one into the other.
import { parse as parseYaml } from "yaml"
import { didYouMean, UserError } from "../errors.ts"
import { readText } from "./files.ts"
import type { Rgb } from "./png.ts"

export type LabelClass = { readonly index: number; readonly name: string; readonly color: Rgb }

export type LabelMap = {
  /** In the order of their index. */
  readonly classes: readonly LabelClass[]
  /** Pixels that count in no loss and no metric: VOC's object borders. */
  readonly ignore: LabelClass
  /** The index of the class called "background", if there is one. */
  readonly background: number | undefined
}

/** Void in training: fixed, whatever the data set's own ignore index is. */
export const ignoreIndex = 255

/** What the lookup table yields for a number that the label map does not have. So at most 254 classes are possible. */
export const unknownLabel = 254

/**
 * Colour `index` of the VOC colour map, which spreads neighbouring numbers far apart:
 * bit 3j of the index becomes bit 7-j of red, bit 3j+1 of green, bit 3j+2 of blue (j = 0, 1, 2).
 * So 0 is black, 1 is (128, 0, 0), 255 is (224, 224, 192). From VOC's development kit, VOClabelcolormap.m.
 */
export function vocColor(index: number): Rgb {
  const channel = (c: number) => [0, 1, 2].reduce((sum, j) => sum | (((index >> (3 * j + c)) & 1) << (7 - j)), 0)
  return [channel(0), channel(1), channel(2)]
}

/** All 256 colours for a palette PNG: the map's own, and VOC's for numbers it does not name. */
export function paletteOf(map: LabelMap): Rgb[] {
  const palette = Array.from({ length: 256 }, (_, index) => vocColor(index))
  for (const { index, color } of [...map.classes, map.ignore]) palette[index] = color
  return palette
}

/** Reads label_map.json, .yaml, .yml, or .txt (one name a line, the first is 0). For the forms see `parseLabelMap`. */
export function readLabelMap(file: string): LabelMap {
  const text = readText(file, "label map")
  let value: unknown
  try {
    if (file.endsWith(".json")) value = JSON.parse(text)
    else if (file.endsWith(".txt"))
      value = text
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line !== "")
    else value = parseYaml(text)
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0]?.replace(/[:.]*$/, "")
    throw new UserError(`Cannot read label map ${file}: ${reason}.`, { cause: error })
  }
  return parseLabelMap(value, file)
}

/**
 * A label map from plain data, in one of three forms:
 * - `{ classes: [{ index: 0, name: "background", color: [0, 0, 0] }, ...], ignore: { index: 255, name: "void" } }`,
 *   where index (default: position), color (default: VOC's) and ignore (default: 255, "void") may be left out
 * - a list of names: `["background", "cat"]`
 * - name to index: `{ background: 0, cat: 1 }`; a name for 255 names void
 * @param source where the data came from, for messages
 */
export function parseLabelMap(value: unknown, source: string): LabelMap {
  const fail = (problem: string): never => {
    throw new UserError(`Label map ${source}: ${problem}`)
  }
  const isObject = (x: unknown): x is Record<string, unknown> =>
    typeof x === "object" && x !== null && !Array.isArray(x)
  const checkKeys = (entry: Record<string, unknown>, known: string[], where: string) => {
    for (const key of Object.keys(entry)) {
      if (!known.includes(key))
        fail(`${where} has an unknown key "${key}"; expected ${known.join(", ")}.${didYouMean(key, known)}`)
    }
  }
  const toClass = (entry: unknown, position: number, fallbackName?: string): LabelClass => {
    const where = fallbackName ? "ignore" : `class ${position}`
    const fields = typeof entry === "string" ? { name: entry } : entry
    if (!isObject(fields))
      return fail(`${where} is ${JSON.stringify(entry)}; expected a name, or { index, name, color }.`)
    checkKeys(fields, ["index", "name", "color"], where)
    const { index = position, name = fallbackName, color = vocColor(index as number) } = fields
    if (typeof name !== "string" || name.trim() === "") return fail(`${where} has no name.`)
    if (!isByte(index))
      return fail(`"${name}" has index ${JSON.stringify(index)}; expected a whole number from 0 to 255.`)
    if (!Array.isArray(color) || color.length !== 3 || !color.every(isByte)) {
      return fail(`"${name}" has color ${JSON.stringify(color)}; expected [red, green, blue], each from 0 to 255.`)
    }
    return { index, name: name.trim(), color: color as unknown as Rgb }
  }

  let entries: unknown
  let ignore: LabelClass = { index: ignoreIndex, name: "void", color: vocColor(ignoreIndex) }
  if (isObject(value) && typeof value.classes === "object") {
    checkKeys(value, ["classes", "ignore"], "it")
    entries = value.classes
    if (value.ignore !== undefined) ignore = toClass(value.ignore, ignoreIndex, "void")
  } else entries = value
  if (isObject(entries)) entries = Object.entries(entries).map(([name, index]) => ({ name, index }))
  if (!Array.isArray(entries)) return fail("expected { classes: [...] }, a list of names, or names with their index.")

  const classes = entries.map((entry, position) => toClass(entry, position)).sort((a, b) => a.index - b.index)
  if (classes.at(-1)?.index === ignoreIndex && ignore.index === ignoreIndex) ignore = classes.pop() as LabelClass
  if (classes.length === 0) fail("it has no classes.")
  if (classes.length > unknownLabel) fail(`it has ${classes.length} classes; expected at most ${unknownLabel}.`)
  const names = new Set<string>()
  const owners = new Map<number, string>()
  for (const { index, name } of [...classes, ignore]) {
    if (names.has(name)) fail(`the name "${name}" stands there twice.`)
    if (owners.has(index)) fail(`"${owners.get(index)}" and "${name}" both have index ${index}.`)
    names.add(name)
    owners.set(index, name)
  }
  return labelMap(classes, ignore)
}

/** The map as text for a file; `parseLabelMap(JSON.parse(text))` gives it back. */
export function formatLabelMap({ classes, ignore }: LabelMap): string {
  const line = (entry: LabelClass) => JSON.stringify(entry, ["index", "name", "color"])
  return `{\n "classes": [\n${classes.map((entry) => `  ${line(entry)}`).join(",\n")}\n ],\n "ignore": ${line(ignore)}\n}\n`
}

export type ClassSelection = {
  /** The classes to train on, in the order of their new index; default: all. Names of merged classes may stand here. */
  readonly classes?: readonly string[]
  /** Where the pixels of all other classes go; "background" is added as class 0 if `classes` does not name it. */
  readonly others?: "void" | "background"
  /** New name to the classes it unites: `{ animal: ["cat", "dog"] }`. An existing class may be the new name. */
  readonly merge?: Readonly<Record<string, readonly string[]>>
}

export type TrainingLabels = {
  /** Classes 0..K-1, void 255. */
  readonly labelMap: LabelMap
  /** [256] from the number in a mask to 0..K-1, 255 for void, or `unknownLabel`. */
  readonly lookup: Uint8Array
}

/**
 * The label map to train with, and the table from the masks' numbers to it.
 * Merged classes take the place and colour of the first of them; gaps in the numbering close.
 * @throws UserError for an unknown name (with a suggestion), a class used twice, or an `others` that does nothing
 */
export function selectClasses(source: LabelMap, { classes, others, merge = {} }: ClassSelection = {}): TrainingLabels {
  const known = source.classes.map(({ name }) => name)
  const find = (name: string, where: string): LabelClass => {
    const found = source.classes.find((entry) => entry.name === name)
    if (found) return found
    throw new UserError(
      `${where}: there is no class "${name}"; expected some of ${known.join(", ")}.${didYouMean(name, known)}`,
    )
  }

  // Groups: what will be one class each, as the source classes it unites.
  const newName = new Map<LabelClass, string>()
  for (const [name, members] of Object.entries(merge)) {
    if (members.length === 0) throw new UserError(`merge: "${name}" unites no classes; name at least one.`)
    if (name === source.ignore.name) {
      throw new UserError(
        `merge: "${name}" is the name of ignored pixels. Leave ${members.join(", ")} out of classes instead.`,
      )
    }
    for (const member of new Set([...(known.includes(name) ? [name] : []), ...members])) {
      const entry = find(member, "merge")
      const earlier = newName.get(entry)
      if (earlier !== undefined)
        throw new UserError(`merge: "${member}" is in both "${earlier}" and "${name}"; choose one.`)
      newName.set(entry, name)
    }
  }
  const groups = new Map<string, LabelClass[]>()
  for (const entry of source.classes) {
    const name = newName.get(entry) ?? entry.name
    groups.set(name, [...(groups.get(name) ?? []), entry])
  }

  const nameOfBackground = () => {
    const entry = source.classes.find(({ index }) => index === source.background) ?? find("background", "others")
    return newName.get(entry) ?? entry.name
  }

  const names = [...(classes ?? groups.keys())]
  if (others !== undefined && classes === undefined) {
    throw new UserError(
      `others: "${others}" has nothing to act on, because classes is not given. Name the classes to keep.`,
    )
  }
  const rest = others === "background" ? nameOfBackground() : undefined
  if (rest !== undefined && !names.includes(rest)) names.unshift(rest)
  if (names.length === 0) throw new UserError("classes: the list is empty; name at least one class.")
  for (const [position, name] of names.entries()) {
    if (names.indexOf(name) < position) throw new UserError(`classes: "${name}" stands there twice.`)
    if (groups.has(name)) continue
    const merged = newName.get(find(name, "classes"))
    throw new UserError(`classes: "${name}" was merged into "${merged}"; name that one.`)
  }

  const lookup = new Uint8Array(256).fill(unknownLabel)
  for (const [name, members] of groups) {
    const position = names.includes(name) ? names.indexOf(name) : rest === undefined ? ignoreIndex : names.indexOf(rest)
    for (const { index } of members) lookup[index] = position
  }
  lookup[source.ignore.index] = ignoreIndex
  const kept = names.map((name, index) => ({ index, name, color: groups.get(name)![0]!.color }))
  return { labelMap: labelMap(kept, { ...source.ignore, index: ignoreIndex }), lookup }
}

function labelMap(classes: readonly LabelClass[], ignore: LabelClass): LabelMap {
  return { classes, ignore, background: classes.find(({ name }) => name.toLowerCase() === "background")?.index }
}

const isByte = (x: unknown): x is number => Number.isInteger(x) && (x as number) >= 0 && (x as number) <= 255
