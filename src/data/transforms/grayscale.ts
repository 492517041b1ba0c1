// Pictures without colour, at random: three equal channels of luma, as torchvision's RandomGrayscale.
import { forEachRow, luma, type Photometric } from "./picture.ts"
import { checkProbabilities } from "./transform.ts"

export type GrayscaleOptions = {
  /** Probability. */
  readonly grayscale?: number
}

export function grayscale({ grayscale: probability = 0 }: GrayscaleOptions): Photometric | undefined {
  checkProbabilities({ grayscale: probability })
  if (probability === 0) return undefined
  return (picture, random) => {
    if (!random.chance(probability)) return
    const { data } = picture
    const plane = data.length / 3
    forEachRow(picture, (from, to) => {
      for (let i = from; i < to; i++) {
        const grey = luma(data[i]!, data[i + plane]!, data[i + 2 * plane]!)
        data[i] = grey
        data[i + plane] = grey
        data[i + 2 * plane] = grey
      }
    })
  }
}
