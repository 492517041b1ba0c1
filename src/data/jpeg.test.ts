// JPEGs by libjpeg-turbo: the bytes that sharp gives, and nothing for what is not ordinary.
import sharp, { type JpegOptions, type Sharp } from "sharp"
import { describe, expect, test } from "vitest"
import { decodeJpeg, jpegProblem } from "./jpeg.ts"
import { randomFor } from "./random.ts"

const [width, height] = [61, 43] // no multiple of a block
const most = width * height

/** A picture with edges and noise, as JPEG. */
async function jpegOf(options: JpegOptions = {}, change: (image: Sharp) => Sharp = (image) => image) {
  const random = randomFor(5)
  const pixels = Uint8Array.from({ length: 3 * most }, (_, k) => (k % 90 < 45 ? 200 : 30) + random.int(0, 40))
  const image = sharp(pixels, { raw: { width, height, channels: 3 } })
  return change(image).jpeg(options).toBuffer()
}

const sharpsBytes = async (file: Uint8Array) =>
  new Uint8Array(await sharp(file).toColourspace("srgb").removeAlpha().raw().toBuffer())

if (jpegProblem !== null) console.warn(`skipped: ${jpegProblem}`)

describe.skipIf(jpegProblem !== null)("libjpeg-turbo", () => {
  test.each<[string, JpegOptions, ((image: Sharp) => Sharp)?]>([
    ["halved colours", { chromaSubsampling: "4:2:0" }],
    ["whole colours", { chromaSubsampling: "4:4:4" }],
    ["in several scans", { progressive: true }],
    ["grey", {}, (image) => image.greyscale()],
    ["to be turned, which is left to others", {}, (image) => image.withMetadata({ orientation: 6 })],
  ])("%s: byte for byte", async (_, options, change) => {
    const file = await jpegOf(options, change)
    const decoded = decodeJpeg(file, most)
    expect([decoded?.width, decoded?.height]).toEqual([width, height])
    expect(decoded?.data).toEqual(await sharpsBytes(file))
  })

  test("nothing for what others must look at", async () => {
    const file = await jpegOf()
    expect(decodeJpeg(file, most - 1)).toBeNull()
    expect(decodeJpeg(await jpegOf({}, (image) => image.toColourspace("cmyk")), most)).toBeNull()
    expect(decodeJpeg(await sharp(file).png().toBuffer(), most)).toBeNull()
    // Wherever it is cut off; before its picture begins libjpeg-turbo takes it for a file of tables, which has no size.
    for (let end = 0; end < file.length - 2; end++)
      expect(decodeJpeg(file.subarray(0, end), most), `${end} bytes`).toBeNull()
  })

  test("damaged anywhere: nothing, or a picture of the size that its header says", async () => {
    const file = await jpegOf()
    const random = randomFor(6)
    for (let k = 0; k < 2000; k++) {
      const damaged = Buffer.from(file)
      for (let byte = 0; byte < 4; byte++) damaged[random.int(0, file.length - 1)] = random.int(0, 255)
      const decoded = decodeJpeg(damaged, most)
      if (decoded) expect(decoded.data.length).toBe(3 * decoded.width * decoded.height)
    }
  })

  test("a part of a larger array, at any place", async () => {
    const file = await jpegOf()
    const shelf = new Uint8Array(file.length + 10)
    shelf.set(file, 3)
    expect(decodeJpeg(shelf.subarray(3, 3 + file.length), most)?.data).toEqual(await sharpsBytes(file))
  })
})
