// Which images after one another can be one batch: those of one size.
import type { ImageSize } from "../metrics/image-size.ts"

/** Images at once and pixels of a batch at most: what more would gain is little, and memory is for others too. */
const TOGETHER = { images: 4, pixels: 2 ** 20 }

/**
 * How many images after one another form a batch. Median milliseconds an image of 480x360, two cores, 8 rounds, by 1, 2, 4 and 8:
 * LR-ASPP on mobilenet_v2_0.35 69, 46, 36, 29; DeepLabV3 on ResNet-18 by 1, 2 and 4: 170, 158, 150; UNet-16 270 each. The labels are
 * the same.
 * @param sizes of all images in their order; null: alone
 */
export function sameSized(sizes: readonly (ImageSize | null)[]): number[] {
  const batches: { size: ImageSize | null; count: number; most: number }[] = []
  for (const size of sizes) {
    const last = batches.at(-1)
    const isSame = last?.size?.width === size?.width && last?.size?.height === size?.height
    if (last && size && isSame && last.count < last.most) last.count++
    else {
      const pixels = size ? size.width * size.height : Number.POSITIVE_INFINITY
      batches.push({ size, count: 1, most: Math.min(TOGETHER.images, Math.floor(TOGETHER.pixels / pixels)) })
    }
  }
  return batches.map(({ count }) => count)
}
