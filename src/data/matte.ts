// Alpha mattes from grey PNG files: how much of each pixel is foreground, and the two classes that follow from it.
import { UserError } from "../errors.ts"
import { readBytes } from "./files.ts"
import type { LabelMap } from "./label-map.ts"
import type { Mask } from "./mask.ts"
import { decodePng } from "./png.ts"

/**
 * Reads a matte: alpha = grey value / largest value that its bits can hold; foreground (label 1) where alpha >= 0.5.
 * @throws UserError when the file is missing, damaged, or not a grey PNG
 */
export function readMatte(file: string): Mask {
  const { header, width, height, data } = decodePng(readBytes(file, "mask"), file, { allow16Bits: true })
  const { color, depth } = header
  if (color !== "grey") {
    const kinds = { palette: "a palette PNG", rgb: "RGB", "grey+alpha": "grey with transparency", "rgb+alpha": "RGBA" }
    throw new UserError(
      `Matte ${file} is ${kinds[color]}; expected a grey PNG of 8 or 16 bits, where white is foreground. Save it as grey.`,
    )
  }
  const largest = 2 ** depth - 1
  const alpha = new Float32Array(width * height)
  for (let i = 0; i < alpha.length; i++) {
    alpha[i] = (depth === 16 ? (data[2 * i]! << 8) | data[2 * i + 1]! : data[i]!) / largest
  }
  return { width, height, alpha, labels: Uint8Array.from(alpha, (share) => (share >= 0.5 ? 1 : 0)) }
}

/** @throws UserError unless there are just two classes: background, then foreground */
export function checkMatteClasses({ classes }: LabelMap): void {
  if (classes.length === 2) return
  throw new UserError(
    `Alpha mattes tell two classes apart, and the label map has ${classes.length} (${classes.map(({ name }) => name).join(", ")}). ` +
      `Expected background and foreground, in this order; write these two names into label_map.txt.`,
  )
}
