import { stripVTControlCharacters } from "node:util"
import { expect, test } from "vitest"
import { type Evaluation, Evaluator, type Scores, scoresOf } from "../metrics/index.ts"
import { evaluationTable, scoresTable } from "./scores-table.ts"

/** Two images of 4 x 4: a cat of 2 x 2 of which half is found; all background. No dog anywhere, a cow is invented in one pixel. */
function evaluation({ confidence = false, boundary = true, stride = null as number | null } = {}): Evaluation {
  const evaluator = new Evaluator({ classes: ["background", "cat", "dog", "cow"], background: 0, boundary, stride })
  const [truth, prediction] = [new Uint8Array(16), new Uint8Array(16)]
  for (const i of [5, 6, 9, 10]) truth[i] = 1
  for (const i of [5, 6]) prediction[i] = 1
  const about = { width: 4, height: 4, ...(confidence && { confidence: new Float32Array(16).fill(0.75) }) }
  evaluator.add({ ...about, id: "cat", truth, prediction })
  evaluator.add({ ...about, id: "empty", truth: new Uint8Array(16), prediction: new Uint8Array(16).fill(3, 15) })
  return evaluator.finish()
}

const text = (table: string) => stripVTControlCharacters(table)
const row = (table: string, name: string) =>
  text(table)
    .split("\n")
    .find((line) => line.startsWith(`${name}  `))
    ?.split(/\s{2,}/)

test("classes and means beside those of predicting only background, and what they leave out", () => {
  const table = scoresTable(scoresOf(evaluation()))
  expect(row(table, "class")).toEqual(["class", "IoU", "precision", "recall", "F1", "share of pixels"])
  expect(row(table, "cat")).toEqual(["cat", "50.0", "100.0", "50.0", "66.7", "12.5"])
  expect(row(table, "dog")).toEqual(["dog", "-", "-", "-", "-", "0.0"])
  expect(row(table, "cow")).toEqual(["cow", "0.0", "0.0", "-", "0.0", "0.0"])
  expect(row(table, "per cent")).toEqual(["per cent", "this model", "only background"])
  expect(row(table, "mean IoU")).toEqual(["mean IoU", "46.7", "43.8"]) // (27/30 + 1/2 + 0) / 3; (28/32 + 0) / 2
  expect(row(table, "pixel accuracy")).toEqual(["pixel accuracy", "90.6", "87.5"])
  expect(table).toContain("The means leave out classes in neither truth nor prediction: dog.")
  expect(table).toContain("leave out what is not in the truth: dog, cow.")
  expect(table).not.toContain("learned nothing")
})

test("records of older runs, which know fewer scores, have a table too", () => {
  const { classes, meanIoU, meanIoUWithoutBackground, meanAccuracy, pixelAccuracy, leftOut, trivial } = scoresOf(
    evaluation(),
  )
  const old: Scores = {
    meanIoU,
    meanIoUWithoutBackground,
    meanAccuracy,
    pixelAccuracy,
    leftOut,
    classes: classes.map(({ f1: _, ...scores }) => scores),
    trivial: {
      name: trivial.name,
      meanIoU: trivial.meanIoU,
      meanIoUWithoutBackground: trivial.meanIoUWithoutBackground,
      pixelAccuracy: trivial.pixelAccuracy,
    },
  }
  const table = scoresTable(old)
  expect(row(table, "cat")).toEqual(["cat", "50.0", "100.0", "50.0", "66.7", "12.5"])
  expect(row(table, "mean accuracy")?.[2]).toBe("-")
  expect(text(table)).not.toContain("Dice")
})

test("a model that is no better than background is told so", () => {
  const evaluator = new Evaluator({ classes: ["background", "cat"], background: 0 })
  const [truth, prediction] = [Uint8Array.of(0, 0, 0, 1), new Uint8Array(4)]
  evaluator.add({ id: "a", width: 4, height: 1, truth, prediction })
  expect(scoresTable(scoresOf(evaluator.finish()))).toContain(
    "This model has learned nothing yet: predicting background everywhere scores as well, or better.",
  )
})

test("an evaluation has intervals, contours, calibration, ceilings and the conventions side by side", () => {
  const table = text(evaluationTable(evaluation({ confidence: true, stride: 2 })))
  expect(row(table, "class")).toContain("95 % interval")
  expect(row(table, "per cent")).toEqual(["per cent", "this model", "95 % interval", "only background"])
  expect(row(table, "mean IoU")).toEqual(["mean IoU", "46.7", "46.7–67.9", "43.8"]) // the least and most of two images
  expect(row(table, "cat")).toEqual(["cat", "50.0", "50.0–50.0", "100.0", "50.0", "66.7", "12.5"])
  expect(row(table, "contours")).toEqual(["contours", "boundary IoU", "boundary F1", "Hausdorff 95 (pixels)", "images"])
  expect(row(table, "mean of classes")?.slice(1)).toEqual(["45.1", "53.5", "0.9"]) // without dog; the cow has F1 0, no distance
  expect(table).toContain("bands of 2.0 % of the image's diagonal, boundary F1 allows 0.75 %")
  expect(table).toContain("The Hausdorff distances leave out 1 time") // the cow
  expect(table).toContain("Calibration: confidence and accuracy are 15.6 points apart") // 0.75 where 29 of 32 are right
  expect(table).toContain(
    "Perfect labels, one for 2 x 2 pixels as in this model, would have mean IoU 43.8 enlarged in blocks",
  )
  expect(row(table, "mean IoU, absent class as 1")).toEqual(["mean IoU, absent class as 1", "60.0", "71.9"])
  expect(table).toContain("- pixel accuracy (micro F1, micro recall), 44.0 points more: ")
  expect(table).not.toMatch(/NaN|undefined|null/)
})

test("what was not measured is not in the table", () => {
  const table = text(evaluationTable(evaluation({ boundary: false })))
  expect(table).not.toMatch(/contours|Calibration|Perfect labels/)
})

test("nothing scored", () => {
  const empty = new Evaluator({ classes: ["background", "cat"], background: 0 }).finish()
  expect(text(evaluationTable(empty))).not.toMatch(/NaN|undefined|null|Infinity/)
})
