// What a user of a data set waits for, beside the same by a torchvision script: crops for training, the evaluation of images, and the
// first training step. Sides are processes of their own in each round, but for our loader.

import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Loader } from "../src/data/loader.ts"
import { openVocFolder, VocFolder } from "../src/data/voc-folder.ts"
import { givenEnvironment } from "../src/torch/native.ts"
import { Contestant } from "./contestant.ts"
import type { Measure } from "./rounds.ts"

export interface Place {
  /** Of a data set in VOC layout. */
  readonly data: string
  readonly python: string
  readonly threads: number
}

export interface FileWorkload {
  readonly name: string
  readonly unit: string
  readonly digits: number
  readonly target?: number
  prepare(place: Place): Promise<AsyncDisposable & { readonly sides: readonly [Measure, Measure] }>
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const IMAGES = 200
const [BATCH, CROP] = [8, 513]

/**
 * Crops of random scale 0.5 to 2, padded, mirrored, normalised; as many workers as threads.
 * @param from files: JPEG and PNG are decoded; memory: the decoded images are kept
 */
const loading = (from: "files" | "memory", target?: number): FileWorkload => ({
  name: `loader-${from}`,
  unit: `ms per ${CROP}x${CROP} crop, from ${from}`,
  digits: 2,
  ...(target && { target }),
  async prepare({ data, python, threads }) {
    const { files } = openVocFolder(data, { split: "train" })
    const dataset = new VocFolder({ ...files, ids: files.ids.slice(0, IMAGES) })
    const loader = new Loader(dataset, {
      batchSize: BATCH,
      workers: threads,
      transform: { name: "randomCrop", cropSize: [CROP, CROP], scale: [0.5, 2], flip: 0.5 },
      cacheBytes: from === "memory" ? 2 ** 32 : 0,
    })
    const ours = async () => {
      const start = performance.now()
      let count = 0
      for await (const { ids } of loader.pass({ reuse: true })) count += ids.length
      return (performance.now() - start) / count
    }
    // Each worker keeps what it has read itself, and which batch it gets is chance: after six passes 98 % are there.
    for (let pass = 0; pass < (from === "memory" ? 6 : 1); pass++) await ours()
    const numbers = [dataset.ids.length, BATCH, threads, CROP].map(String)
    const script = [here("loader_torchvision.py"), data, "train", ...numbers, from]
    const theirs = async () =>
      1000 / Number(execFileSync(python, script, { encoding: "utf8", env: givenEnvironment() }))
    return { sides: [ours, theirs], [Symbol.asyncDispose]: () => loader[Symbol.asyncDispose]() }
  },
})

/** @param task for end-to-end-ours.ts and end_to_end_torch.py, which answer with the seconds it took, or when it is done */
const endToEnd = (name: string, unit: string, task: "evaluate" | "first-step"): FileWorkload => ({
  name,
  unit,
  digits: 2,
  async prepare({ data, python, threads }) {
    const about = [String(threads), data, "trainval", String(IMAGES), "lraspp_mobilenet_v3_large"]
    const side = (program: string, script: string) => async () => {
      const start = performance.now()
      const contestant = new Contestant(program, [here(script), ...about])
      const seconds = await contestant.measure(task)
      const elapsed = (performance.now() - start) / 1000
      await contestant.end()
      return task === "evaluate" ? seconds : elapsed
    }
    const sides = [side(process.execPath, "end-to-end-ours.ts"), side(python, "end_to_end_torch.py")] as const
    return { sides, async [Symbol.asyncDispose]() {} }
  },
})

const list = [
  loading("files", 1.5),
  loading("memory"),
  endToEnd("evaluation", `s, LR-ASPP, ${IMAGES} images from files to scores`, "evaluate"),
  endToEnd("first-step", "s, LR-ASPP, from the command to the first training step", "first-step"),
]
export const fileWorkloads: Readonly<Record<string, FileWorkload>> = Object.fromEntries(
  list.map((workload) => [workload.name, workload]),
)
