// Why a state dict does not fit a module, in words: what is missing, what is too much, and which names may be meant.
import { editDistance, nearest } from "../errors.ts"
import { show, showName } from "../torch/file-bytes.ts"
import type { Tensor } from "../torch/index.ts"

const SHOWN = 4 // of each kind; the counts are always whole
// Only hostile files have more than these; without the limits 50,000 strange names of 200 letters took 87 s.
const MAX_NAME = 100 // letters; longer names are compared with nothing
const MAX_COMPARED = 1.5e6 // letters with letters, for one name; of our models deeplabv3_resnet101 comes to 1.1e6
const MAX_PREFIX = 8 // parts

type State = ReadonlyMap<string, Tensor>

/**
 * Compares names and shapes of a module's own state with a given one, or undefined when nothing is wrong.
 * The 676 keys of deeplabv3_resnet101 against 676 others take 0.03 s: only for the names that are shown are others looked
 * for. Names come from files that may be hostile: they are escaped and cut.
 */
export function stateDictProblems(own: State, given: State): string | undefined {
  const without = (state: State, other: State): State => new Map([...state].filter(([name]) => !other.has(name)))
  const missing = new Map([...without(own, given)].filter(([name]) => !mayBeMissing(name)))
  const unexpected = without(given, own)
  const misshapen = [...own].flatMap(([name, tensor]) => {
    const other = given.get(name)
    return other && String(other.shape) !== String(tensor.shape) ? ([[name, tensor, other]] as const) : []
  })
  const count = missing.size + unexpected.size + misshapen.length
  if (count === 0) return undefined

  const lines = [
    ...shown(
      [...missing],
      ([name, tensor]) => `missing ${showName(name)} ${tensor.signature}${similar(name, tensor, unexpected, "given")}`,
    ),
    ...shown(
      [...unexpected],
      ([name, tensor]) =>
        `unexpected ${showName(name)} ${tensor.signature}${similar(name, tensor, missing, "expected")}`,
    ),
    ...shown(
      misshapen,
      ([name, tensor, other]) => `${showName(name)} is ${other.signature}, expected ${tensor.signature}`,
    ),
  ]
  const counts = `${missing.size} of ${own.size} keys missing, ${unexpected.size} unexpected, ${misshapen.length} of another shape`
  return `${counts}.${prefixHint(own, given)}\n  ${lines.join(";\n  ")}.`
}

/** Counts batches for nothing but an average that we do not have; files from before PyTorch 0.4.1 lack it. */
const mayBeMissing = (name: string): boolean => /(^|\.)num_batches_tracked$/.test(name)

function shown<T>(items: readonly T[], line: (item: T) => string): string[] {
  const more = items.length > SHOWN ? ` (and ${items.length - SHOWN} more)` : ""
  const lines = items.slice(0, SHOWN).map(line)
  return lines.map((text, k) => (k === lines.length - 1 ? text + more : text))
}

/**
 * The name on the other side that may be the same tensor. Names are compared part by part ("layer1", "0", "conv1", "weight"),
 * where shape and last part agree and at least half of the parts; else letter by letter, for slips of the pen.
 */
function similar(name: string, { shape }: Tensor, others: State, verb: "given" | "expected"): string {
  if (name.length > MAX_NAME) return ""
  const candidates = [...others].filter(([other]) => other.length <= MAX_NAME)
  if (candidates.reduce((sum, [other]) => sum + name.length * other.length, 0) > MAX_COMPARED) return ""
  const parts = name.split(".")
  const kin = candidates
    .map(([other, tensor]) => ({ other, otherParts: other.split("."), tensor }))
    .filter(({ otherParts, tensor }) => otherParts.at(-1) === parts.at(-1) && String(tensor.shape) === String(shape))
    .map(({ other, otherParts }) => ({ other, distance: editDistance(parts, otherParts), length: otherParts.length }))
    .filter(({ distance, length }) => distance <= Math.max(parts.length, length) / 2)
  const least = kin.reduce((least, { distance }) => Math.min(least, distance), Number.POSITIVE_INFINITY)
  const closest = kin
    .filter(({ distance }) => distance === least)
    .map(({ other }) => ({ other, letters: editDistance(name, other) }))
    .sort((a, b) => a.letters - b.letters)[0]?.other
  const found =
    closest ??
    nearest(
      name,
      candidates.map(([other]) => other),
    )
  return found === undefined ? "" : ` (${verb} ${showName(found)})`
}

/** Says so when a prefix that is too much, or lacking, explains at least half of the names. */
function prefixHint(own: State, given: State): string {
  const now = [...own.keys()].filter((name) => given.has(name)).length
  const [tooMuch, without] = mostFrequentPrefix(given, own)
  const [lacking, within] = mostFrequentPrefix(own, given)
  const found = Math.max(without, within)
  if (found <= now || found < own.size / 2) return ""
  const change = without >= within ? `Without the prefix ${show(tooMuch)}` : `With the prefix ${show(lacking)}`
  return ` ${change} ${found} of them would be found, now ${now}.`
}

/** The prefix whose removal turns the most names of `long` into names of `short`, and how many. */
function mostFrequentPrefix(long: State, short: State): [prefix: string, count: number] {
  const counts = new Map<string, number>()
  for (const name of long.keys()) {
    if (name.length > MAX_NAME) continue
    let dot = name.indexOf(".")
    for (let part = 0; part < MAX_PREFIX && dot >= 0; part++, dot = name.indexOf(".", dot + 1)) {
      const prefix = name.slice(0, dot + 1)
      if (short.has(name.slice(dot + 1))) counts.set(prefix, (counts.get(prefix) ?? 0) + 1)
    }
  }
  return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), ["", 0])
}
