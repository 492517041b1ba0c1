// Scoring at full size: the 2,913 official masks of PASCAL VOC 2012 against themselves and against nothing but background.
import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { openPredictionFolder } from "../../src/data/prediction-folder.ts"
import { openVocMasks } from "../../src/data/voc-folder.ts"
import { scorePredictions } from "../../src/infer/score-predictions.ts"
import { honestyTable, scoresOf } from "../../src/metrics/index.ts"

const root = "../shared/data/voc2012-masks"
describe.skipIf(!existsSync(root))(`VOC 2012${existsSync(root) ? "" : ` (skipped: ${root} is absent)`}`, () => {
  const masks = () => openVocMasks(root, { split: "trainval" })

  test("all masks against themselves: right everywhere", async () => {
    const { files } = openPredictionFolder(join(root, "SegmentationClass"), masks())
    const evaluation = await scorePredictions(masks(), { files, numbering: "dataset" })
    expect(scoresOf(evaluation)).toMatchObject({ meanIoU: 1, pixelAccuracy: 1, leftOut: [] })
    expect(evaluation.images).toHaveLength(2913)
  })

  test("all-background: 73.3 % of the pixels, 3.5 % mean IoU, and 91.6 % by the convention that flatters most", async () => {
    const evaluation = await scorePredictions(masks(), { constant: 0 })
    const { meanIoU, pixelAccuracy, trivial } = scoresOf(evaluation)
    expect(pixelAccuracy).toBeCloseTo(0.733, 3)
    expect(meanIoU).toBeCloseTo(pixelAccuracy! / 21, 12)
    expect({ meanIoU, pixelAccuracy }).toEqual({ meanIoU: trivial.meanIoU, pixelAccuracy: trivial.pixelAccuracy })
    expect(Math.max(...honestyTable(evaluation).map(({ value }) => value ?? 0))).toBeCloseTo(0.916, 3)
  })
})
