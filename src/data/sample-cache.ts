// Decoded samples kept in memory. Decoding a JPEG takes longer than all else that is done to it, and takes the cores away
// from training in every epoch anew.
import { totalmem } from "node:os"
import type { Sample, SampleSource } from "./voc-folder.ts"

/** An eighth of the machine's memory. For orientation: the 1,464 training images of VOC 2012 take 1.1 GB. */
export const defaultCacheBytes = () => Math.floor(totalmem() / 8)

/**
 * A source that keeps the samples it read until `limit` bytes are full. Then it keeps what it has: each epoch asks for every
 * sample once, so whatever had to make way for another would have been asked for just as soon.
 */
export function cached(source: SampleSource, limit: number): SampleSource {
  const samples = new Map<number, Sample>()
  let left = limit
  return {
    async readSample(index) {
      const known = samples.get(index)
      if (known) return known
      const sample = await source.readSample(index)
      const size = sample.image.byteLength + sample.mask.byteLength + (sample.alpha?.byteLength ?? 0)
      if (size <= left && !samples.has(index)) {
        samples.set(index, sample)
        left -= size
      }
      return sample
    },
  }
}
