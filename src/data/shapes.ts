// The generated data set: pictures of shaded shapes in VOC layout, from a seed. For a first training without any download,
// and for tests that know what the right answer looks like. What is drawn: shapes-scene.ts.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { basename, dirname, join, resolve } from "node:path"
import sharp from "sharp"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import { formatLabelMap, paletteOf, parseLabelMap } from "./label-map.ts"
import { writeIndexedPng } from "./png.ts"
import { randomFor } from "./random.ts"
import { renderScene, shapeClasses } from "./shapes-scene.ts"

export type ShapesOptions = {
  readonly seed?: number
  /** Pictures in the split "train". */
  readonly train?: number
  /** Pictures in the split "val". */
  readonly val?: number
  /** [height, width] in pixels. */
  readonly size?: readonly [height: number, width: number]
  /** Called after every picture. */
  readonly onProgress?: (done: number, total: number) => void
  /** Stops the work; nothing remains of it. */
  readonly signal?: AbortSignal
}

/** The file that says that a folder is ours and may be replaced, and what it was made from. */
const marker = "shapes.json"

/** Raised whenever the same options give other pictures. */
const version = 1

/**
 * Writes the data set to `root`: 300 pictures of 96x96 take 2 s (Zen 5, one core). It is made under a temporary name and
 * renamed when complete. A UNet of width 16 (batches of 8, AdamW) reaches 0.48 mIoU on val in 300 steps and 0.80 in 900; the
 * rare class, wire, comes last. The same options give the same masks on every machine, and byte-identical JPEGs with the same
 * version of sharp; more pictures leave the earlier ones as they are.
 * @returns reused: true when `root` already held just this data set, and nothing was done
 * @throws UserError when `root` is something that was not generated here: it is never overwritten
 */
export async function generateShapes(
  root: string,
  { seed = 0, train = 240, val = 60, size: [height, width] = [96, 96], onProgress, signal }: ShapesOptions = {},
): Promise<{ reused: boolean }> {
  checkWhole("seed", seed, Number.MIN_SAFE_INTEGER)
  checkWhole("train", train, 1)
  checkWhole("val", val, 1)
  checkWhole("size", height, 32)
  checkWhole("size", width, 32)
  const recipe = JSON.stringify({ generator: "pixelwise shapes", version, seed, train, val, size: [height, width] })
  if (checkTarget(root) === recipe) return { reused: true }

  const target = resolve(root) // "data/" and "." have no usable name
  const folder = join(dirname(target), `.${basename(target)}.partial`)
  const labelMap = parseLabelMap(shapeClasses, marker)
  const palette = paletteOf(labelMap)
  try {
    rmSync(folder, { recursive: true, force: true }) // what a killed process may have left
    for (const name of ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"]) {
      mkdirSync(join(folder, name), { recursive: true })
    }
    writeFileSync(join(folder, "label_map.json"), formatLabelMap(labelMap))
    let done = 0
    for (const [index, [split, count]] of Object.entries({ train, val }).entries()) {
      const ids = Array.from({ length: count }, (_, i) => `${split}_${String(i).padStart(5, "0")}`)
      for (const [i, id] of ids.entries()) {
        signal?.throwIfAborted()
        const random = randomFor(seed, index, i)
        const { image, mask } = renderScene(random, height, width)
        const jpeg = sharp(image, { raw: { width, height, channels: 3 } }).jpeg({ quality: random.int(80, 94) })
        writeFileSync(join(folder, "JPEGImages", `${id}.jpg`), await jpeg.toBuffer())
        writeFileSync(join(folder, "SegmentationClass", `${id}.png`), writeIndexedPng(mask, width, height, palette))
        onProgress?.(++done, train + val)
      }
      writeFileSync(join(folder, "ImageSets/Segmentation", `${split}.txt`), `${ids.join("\n")}\n`)
    }
    writeFileSync(join(folder, marker), recipe)
    rmSync(target, { recursive: true, force: true }) // an older generated set, or an empty folder: see checkTarget
    renameSync(folder, target)
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error
    throw new UserError(`Cannot write the generated data set to ${root}: ${fileProblem(error)}.`, { cause: error })
  }
  return { reused: false }
}

/** The recipe of the set that is there, or undefined if nothing is; anything else must not be overwritten. */
function checkTarget(root: string): string | undefined {
  if (!existsSync(root)) return undefined
  const isFolder = statSync(root).isDirectory()
  if (isFolder && readdirSync(root).length === 0) return undefined
  if (isFolder && existsSync(join(root, marker))) return readFileSync(join(root, marker), "utf8")
  throw new UserError(
    `${root} ${isFolder ? "is a folder with other things in it" : "is a file"}; a generated data set would replace it. ` +
      `Name a new folder, or remove it first.`,
  )
}

function checkWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return
  const range = least > Number.MIN_SAFE_INTEGER ? `, at least ${least}` : ""
  throw new UserError(`${name}: got ${value}; expected a whole number${range}.`)
}
