// Random numbers keyed by what they are for (seed, epoch, sample), instead of drawn from one long stream.
// Why: a stream depends on who drew before, so on the number of workers and on where a run was resumed; a key does not.
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64"
import { uniformInt } from "pure-rand/distribution/uniformInt"
import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus"

export type Random = {
  /** A float in [low, high), by default [0, 1). */
  uniform(low?: number, high?: number): number
  /** An integer from `low` to `high`, both included. */
  int(low: number, high: number): number
  /** True with this probability. */
  chance(probability: number): boolean
}

/**
 * The generator of a key: equal keys give equal numbers, on every machine; different keys give unrelated ones.
 * @param key integers, e.g. (seed, epoch, sample); their order and count matter
 */
export function randomFor(...key: readonly number[]): Random {
  const generator = xoroshiro128plusFromState(hash(key))
  return {
    uniform: (low = 0, high = 1) => low + (high - low) * uniformFloat64(generator),
    int: (low, high) => uniformInt(generator, low, high),
    chance: (probability) => uniformFloat64(generator) < probability,
  }
}

/** The numbers 0..n-1 in random order (Fisher and Yates). */
export function permutation(n: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = random.int(0, i)
    const kept = order[i]!
    order[i] = order[j]!
    order[j] = kept
  }
  return order
}

/** 128 bits from a key: murmur3's 32-bit mixing, once for each state word with its own start. */
function hash(key: readonly number[]): number[] {
  const words = key.flatMap((part) => {
    if (!Number.isSafeInteger(part)) throw new RangeError(`randomFor: got the key ${part}, expected an integer`)
    return [part | 0, Math.floor(part / 2 ** 32) | 0] // the low and the high half, so that large seeds differ too
  })
  return [0x9e3779b9, 0x7f4a7c15, 0xbf58476d, 0x94d049bb].map((start) => {
    let h = start
    for (const word of words) {
      let k = Math.imul(word, 0xcc9e2d51)
      k = Math.imul((k << 15) | (k >>> 17), 0x1b873593)
      h ^= k
      h = Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64
    }
    h ^= words.length
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    return h ^ (h >>> 16)
  })
}
