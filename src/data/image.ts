// Pictures as 8-bit RGB, whatever they were: grey, palette, CMYK, 16-bit and transparent ones too.
import sharp from "sharp"
import { UserError } from "../errors.ts"
import { readBytes } from "./files.ts"
import { decodeJpeg } from "./jpeg.ts"
import { maxPixels } from "./png.ts"

// One image is too small to be shared out: with libvips' own threads decoding a VOC image takes 4.5 ms of processor time, with
// one 3.6 (Zen 3, best of 6), and the loader's workers are as many as there are cores to spare.
sharp.concurrency(1)

export type RgbImage = {
  readonly width: number
  readonly height: number
  /** [height, width, 3] */
  readonly data: Uint8Array
}

/**
 * Decodes a JPEG, PNG, WebP, TIFF or GIF to 8-bit RGB.
 * Colour values are those in the file, as PIL reads them (equal bytes on VOC's JPEGs): an embedded colour profile is
 * not applied, and transparency is dropped.
 * @param upright turn the picture as its EXIF orientation asks. Off, because masks are drawn on the pixels as stored;
 *   on for pictures without a mask, such as photographs from a telephone
 * @throws UserError naming the file when it is missing, cut off, damaged, or not a picture
 */
export async function readImage(file: string, { upright = false } = {}): Promise<RgbImage> {
  const bytes = readBytes(file, "image")
  const decoded = upright ? null : decodeJpeg(bytes, maxPixels)
  if (decoded) return decoded
  try {
    // failOn "warning": of 100 JPEGs with 4 bytes overwritten it refused 99, where "error" refused none and gave coloured
    // noise; of 1,088 good ones (VOC, CamVid) neither refused any. Both refuse a file cut off anywhere.
    const image = sharp(bytes, { failOn: "warning", limitInputPixels: maxPixels, ignoreIcc: true })
    const { data, info } = await (upright ? image.autoOrient() : image)
      .toColourspace("srgb")
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    return { width: info.width, height: info.height, data }
  } catch (error) {
    throw unreadable(file, bytes, error as Error)
  }
}

export type ImageHeader = {
  readonly width: number
  readonly height: number
  /** EXIF orientation, 1 to 8; 1 is upright. 5 to 8 exchange width and height. */
  readonly orientation: number
}

/**
 * Size and orientation from the first bytes of a file, without decoding it (0.3 ms). A JPEG that does not end as JPEGs
 * end is decoded to be sure: it may be cut off, or merely have something behind its end.
 * @throws UserError naming the file when it is missing, cut off, or not a picture
 */
export async function inspectImage(file: string): Promise<ImageHeader> {
  const bytes = readBytes(file, "image")
  try {
    const { width, height, orientation = 1, format } = await sharp(bytes).metadata()
    if (format === "jpeg" && bytes.readUInt16BE(bytes.length - 2) !== 0xffd9) await readImage(file)
    return { width, height, orientation }
  } catch (error) {
    if (error instanceof UserError) throw error
    throw unreadable(file, bytes, error as Error)
  }
}

function unreadable(file: string, bytes: Uint8Array, error: Error): UserError {
  const reason = bytes.length === 0 ? "it is empty" : reasonOf(error)
  return new UserError(`Cannot read image ${file}: ${reason}. Copy or export it again.`, { cause: error })
}

/** What sharp says, in words for those who do not know it where that is common. */
function reasonOf({ message }: Error): string {
  const [said] = message.split("\n") as [string]
  if (said.includes("unsupported image format"))
    return "it is not a picture that can be read (JPEG, PNG, WebP, TIFF or GIF)"
  if (said.includes("premature end of JPEG")) return "it is cut off (premature end of JPEG image)"
  return said.replace("VipsJpeg: ", "").replace(/[:.\s]*$/, "")
}
