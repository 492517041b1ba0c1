// A small RGB canvas for sheets of pictures: filled boxes, images, words; written as PNG.
import sharp from "sharp"
import type { RgbImage } from "../data/image.ts"
import type { Rgb } from "../data/png.ts"
import { writeFileAtomic } from "../files.ts"
import type { ImageSize } from "../metrics/image-size.ts"
import { eachDot, GLYPH_WIDTH } from "./bitmap-font.ts"

export class Canvas implements RgbImage {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array

  constructor(width: number, height: number, background: Rgb) {
    this.width = width
    this.height = height
    this.data = new Uint8Array(width * height * 3)
    this.box(0, 0, width, height, background)
  }

  box(left: number, top: number, width: number, height: number, color: Rgb): void {
    for (let y = Math.max(0, top); y < Math.min(this.height, top + height); y++) {
      for (let x = Math.max(0, left); x < Math.min(this.width, left + width); x++)
        this.data.set(color, (y * this.width + x) * 3)
    }
  }

  /** Draws a picture that fits inside the canvas at this place. */
  picture(left: number, top: number, { width, height, data }: RgbImage): void {
    for (let y = 0; y < height; y++)
      this.data.set(data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * this.width + left) * 3)
  }

  text(left: number, top: number, text: string, color: Rgb, { scale = 2 } = {}): void {
    eachDot(text, (x, y) => this.box(left + x * scale, top + y * scale, scale, scale, color))
  }

  async writePng(path: string): Promise<void> {
    writeFileAtomic(path, await encodePng(this))
  }
}

export const textWidth = (text: string, { scale = 2 } = {}): number => text.length * GLYPH_WIDTH * scale

export function encodePng({ data, width, height }: RgbImage): Promise<Buffer> {
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
}

/** The largest size of the same proportions inside a box. */
export function sizeInside({ width, height }: ImageSize, box: ImageSize): ImageSize {
  const scale = Math.min(box.width / width, box.height / height)
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }
}

/** What pages show is of this size at most: names on it are then equally large on all pictures. */
export const pageBox: ImageSize = { width: 320, height: 320 }

/** Fits a picture into a box, keeping its proportions. */
export const fitInside = (picture: RgbImage, box: ImageSize): Promise<RgbImage> =>
  resizeImage(picture, sizeInside(picture, box))

/** A picture in just this size. */
export async function resizeImage({ data, width, height }: RgbImage, to: ImageSize): Promise<RgbImage> {
  const resized = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize({ width: to.width, height: to.height, fit: "fill" })
    .raw()
    .toBuffer()
  return { width: to.width, height: to.height, data: resized }
}
