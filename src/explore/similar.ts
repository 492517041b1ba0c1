// Images that are almost the same: by a perceptual hash, which finds what may be alike among millions of pairs, and then by
// comparing the thumbnails, which keeps what is.
// The hash is the one known as pHash: the signs of the lowest 8x8 frequencies of the picture, against their median.
// Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", https://www.phash.org/docs/pubs/thesis_zauner.pdf
import { median } from "../arrays.ts"
import { luma } from "../data/transforms/picture.ts"
import { THUMBNAIL } from "./inspect.ts"

/** How many of the 64 bits may differ, for a pair to be looked at. */
const MOST_BITS = 14

/**
 * How alike thumbnails must be, as the correlation of their brightness. On VOC photographs that were saved again at quality 30,
 * halved, doubled, brightened, darkened, mirrored, blurred or made grey it is at least 0.979 (120 of each, at most 10 bits); of
 * 79,200 pairs of different ones at most 0.922, and 0.59 where the hashes allow a look. CamVid, frames of one film: at most 0.895.
 */
export const ALIKE = 0.95

/** What one image is recognised by. */
export interface Print {
  readonly hash: Hash
  /** Hash of the picture seen in a mirror. */
  readonly mirrored: Hash
  /** [THUMBNAIL, THUMBNAIL] brightness, of mean 0 and length 1: the product of two of them is their correlation. */
  readonly brightness: Float32Array
}

type Hash = readonly [number, number]

/** @param thumbnail [THUMBNAIL, THUMBNAIL, 3] of an image that is not flat: of noise the hash is chance */
export function printOf(thumbnail: Uint8Array): Print {
  const brightness = new Float32Array(THUMBNAIL * THUMBNAIL)
  for (let i = 0; i < brightness.length; i++) {
    brightness[i] = luma(thumbnail[3 * i]!, thumbnail[3 * i + 1]!, thumbnail[3 * i + 2]!)
  }
  const mean = brightness.reduce((sum, value) => sum + value, 0) / brightness.length
  const length = Math.sqrt(brightness.reduce((sum, value) => sum + (value - mean) ** 2, 0)) || 1
  for (let i = 0; i < brightness.length; i++) brightness[i] = (brightness[i]! - mean) / length

  const frequencies = lowFrequencies(brightness)
  // In a mirror, a wave with an odd number of half periods across is its own negative.
  const inMirror = frequencies.map((value, i) => ((i % SIDE) % 2 === 1 ? -value : value))
  return { hash: hashOf(frequencies), mirrored: hashOf(inMirror), brightness }
}

/** Correlation of the brightness of two thumbnails, or of one with the other's mirror image where that is larger: -1 to 1. */
export function likeness(a: Print, b: Print): number {
  let straight = 0
  let mirrored = 0
  for (let i = 0; i < a.brightness.length; i++) {
    const x = i % THUMBNAIL
    straight += a.brightness[i]! * b.brightness[i]!
    mirrored += a.brightness[i]! * b.brightness[i - x + THUMBNAIL - 1 - x]!
  }
  return Math.max(straight, mirrored)
}

export const isAlike = (a: Print, b: Print): boolean => mayBeAlike(a, b) && likeness(a, b) >= ALIKE

/** The one of `candidates` that is most like `print`, if any is alike; as position. */
export function mostAlike(print: Print, candidates: readonly (Print | null)[]): number | null {
  let best: number | null = null
  let bestLikeness = ALIKE
  for (let i = 0; i < candidates.length; i++) {
    const candidate = candidates[i]!
    if (candidate === null || !mayBeAlike(print, candidate)) continue
    const its = likeness(print, candidate)
    if (its < bestLikeness) continue
    best = i
    bestLikeness = its
  }
  return best
}

const mayBeAlike = (a: Print, b: Print): boolean =>
  differingBits(a.hash, b.hash) <= MOST_BITS || differingBits(a.mirrored, b.hash) <= MOST_BITS

const differingBits = (a: Hash, b: Hash): number => ones(a[0] ^ b[0]) + ones(a[1] ^ b[1])

/** The ones among 32 bits, counted in parallel: pairs, nibbles, bytes. */
function ones(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

const SIDE = 8

/** [SIDE, THUMBNAIL] cosine waves of 0 to SIDE - 1 half periods. */
const waves = Float64Array.from({ length: SIDE * THUMBNAIL }, (_, i) =>
  Math.cos((Math.PI * Math.floor(i / THUMBNAIL) * ((i % THUMBNAIL) + 0.5)) / THUMBNAIL),
)

/** The [SIDE, SIDE] lowest frequencies: a discrete cosine transform (DCT-II) of the rows, and then of the columns. */
function lowFrequencies(picture: Float32Array): Float64Array {
  const rows = new Float64Array(THUMBNAIL * SIDE)
  for (let y = 0; y < THUMBNAIL; y++) {
    for (let u = 0; u < SIDE; u++) {
      let sum = 0
      for (let x = 0; x < THUMBNAIL; x++) sum += waves[u * THUMBNAIL + x]! * picture[y * THUMBNAIL + x]!
      rows[y * SIDE + u] = sum
    }
  }
  const frequencies = new Float64Array(SIDE * SIDE)
  for (let v = 0; v < SIDE; v++) {
    for (let u = 0; u < SIDE; u++) {
      let sum = 0
      for (let y = 0; y < THUMBNAIL; y++) sum += waves[v * THUMBNAIL + y]! * rows[y * SIDE + u]!
      frequencies[v * SIDE + u] = sum
    }
  }
  return frequencies
}

function hashOf(frequencies: Float64Array): Hash {
  const middle = median([...frequencies.subarray(1)]) // the first is the mean, which is 0
  const words: [number, number] = [0, 0]
  for (let i = 1; i < frequencies.length; i++) if (frequencies[i]! > middle) words[i >> 5]! |= 1 << (i & 31)
  return words
}
