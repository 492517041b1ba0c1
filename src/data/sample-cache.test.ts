import { expect, test } from "vitest"
import { cached } from "./sample-cache.ts"
import type { Sample } from "./voc-folder.ts"

/** 10 bytes a sample; counts how often each is read. */
function source() {
  const reads: number[] = []
  const readSample = async (index: number): Promise<Sample> => {
    reads.push(index)
    return { id: String(index), width: 2, height: 1, image: new Uint8Array(6).fill(index), mask: new Uint8Array(4) }
  }
  return { reads, readSample }
}

test("each sample is read once while there is room; the others every time", async () => {
  const from = source()
  const samples = cached(from, 25) // room for two
  for (let epoch = 0; epoch < 3; epoch++) {
    for (const index of [0, 1, 2]) expect((await samples.readSample(index)).image[0]).toBe(index)
  }
  expect(from.reads).toEqual([0, 1, 2, 2, 2])
})

test("a matte takes room too", async () => {
  const from = source()
  const readSample = async (index: number) => ({ ...(await from.readSample(index)), alpha: new Float32Array(2) })
  const samples = cached({ readSample }, 35) // of two samples of 18 bytes the second has none
  for (const index of [0, 0, 1, 1]) await samples.readSample(index)
  expect(from.reads).toEqual([0, 1, 1])
})

test("asked for twice at once, a sample takes its room once", async () => {
  const from = source()
  const samples = cached(from, 20)
  await Promise.all([samples.readSample(0), samples.readSample(0)])
  await samples.readSample(1)
  await samples.readSample(1)
  expect(from.reads).toEqual([0, 0, 1])
})

test("a sample that cannot be read is not remembered", async () => {
  let attempts = 0
  const samples = cached({ readSample: () => Promise.reject(new Error(`attempt ${++attempts}`)) }, 100)
  await expect(samples.readSample(0)).rejects.toThrow("attempt 1")
  await expect(samples.readSample(0)).rejects.toThrow("attempt 2")
})
