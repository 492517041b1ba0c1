// Confusion matrices, scores, contours, distances, calibration and ceilings against evaluation.py: torchvision's
// ConfusionMatrix, scikit-learn, SciPy, PyTorch.
import { describe, expect, test } from "vitest"
import {
  allScores,
  type BoundaryCounts,
  classScores,
  Evaluator,
  honestyTable,
  type MetricName,
  matrixOf,
  oracle,
  pixelAccuracy,
} from "../../src/metrics/index.ts"
import { Golden, goldenJson } from "./golden.ts"

interface Case {
  size: [height: number, width: number]
  counts: number[][]
  accuracy: number | null
  classAccuracy: (number | null)[]
  classIoU: (number | null)[]
  boundary: { counts: BoundaryCounts; hausdorff95: number | null }[]
  right: Record<string, number>
  sklearn?: Record<"iou" | "precision" | "recall" | "f1", number[]> & Record<MetricName | "microIoU", number>
  calibration?: { ece: number; pixels: number[] }
}

const K = 6
const VOID = 255
const { cases } = goldenJson("evaluation") as { cases: Record<string, Case> }
const golden = new Golden("evaluation")

/** The case "formula" as evaluation.py draws it. */
function formula([height, width]: [number, number]) {
  const [truth, prediction] = [new Uint8Array(height * width), new Uint8Array(height * width)]
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x
      const inside = (cy: number, cx: number, r2: number) => (y - cy) ** 2 + (x - cx) ** 2 < r2
      if (inside(120, 150, 8100)) truth[i] = 1
      if (inside(250, 330, 6400)) truth[i] = 2
      if (inside(120, 150, 9000) && !inside(120, 150, 8100)) truth[i] = VOID
      if (inside(124, 153, 8400)) prediction[i] = 1
      if (inside(255, 300, 4900)) prediction[i] = 2
      if (inside(40, 460, 200)) prediction[i] = 3
    }
  }
  return { truth, prediction }
}

function arrays(name: string): { truth: Uint8Array; prediction: Uint8Array; confidence?: Float32Array } {
  if (name === "formula") return formula((cases[name] as Case).size)
  return {
    truth: golden.get(`${name}/truth`).data() as Uint8Array,
    prediction: golden.get(`${name}/prediction`).data() as Uint8Array,
    confidence: golden.tensors.get(`${name}/confidence`)?.data() as Float32Array | undefined,
  }
}

const classes = Array.from({ length: K }, (_, k) => `class ${k}`)

describe.each(Object.entries(cases))("%s", (name, expected) => {
  const [height, width] = expected.size
  const { truth, prediction, confidence } = arrays(name)
  const evaluator = new Evaluator({ classes, background: 0 })
  const image = evaluator.add({ id: name, width, height, truth, prediction, confidence })
  const evaluation = evaluator.finish()
  const matrix = matrixOf(evaluation)

  test("torchvision's ConfusionMatrix", () => {
    expect(matrix.toJSON().counts).toEqual(expected.counts)
    const scores = classScores(matrix)
    expectClose(
      scores.map(({ iou }) => iou),
      expected.classIoU,
    )
    expectClose(
      scores.map(({ recall }) => recall),
      expected.classAccuracy,
    )
    expectClose([pixelAccuracy(matrix).value], [expected.accuracy])
  })

  if (expected.sklearn)
    test("scikit-learn's scores, which are 0 where they divide by 0", () => {
      const sklearn = expected.sklearn!
      for (const key of ["iou", "precision", "recall", "f1"] as const) {
        expectClose(
          classScores(matrix).map((scores) => scores[key] ?? 0),
          sklearn[key],
        )
      }
      const scores = allScores(matrix)
      const names = ["meanIoU", "meanIoUPresent", "meanF1", "frequencyWeightedIoU"] as const
      expectClose(
        names.map((key) => scores[key].value),
        names.map((key) => sklearn[key]),
      )
      expectClose([honestyTable(evaluation).find((row) => row.name === "micro IoU")!.value], [sklearn.microIoU])
    })

  test("bands, contours and distances by SciPy", () => {
    expect(image.boundary).toEqual(expected.boundary.map(({ counts }) => counts))
    const distances = Array.from({ length: K }, (_, k) => expected.boundary.find(({ counts }) => counts.class === k))
    expectClose(
      image.hausdorff95,
      distances.map((entry) => entry?.hausdorff95 ?? null),
    )
  })

  if (expected.calibration)
    test("Guo et al.'s calibration error", () => {
      const { ece, bins } = evaluation.calibration!
      expect(bins.map(({ pixels }) => pixels)).toEqual(expected.calibration!.pixels)
      expectClose([ece], [expected.calibration!.ece])
    })

  test("right pixels of the most frequent label of each cell", () => {
    for (const [stride, right] of Object.entries(expected.right)) {
      const labels = oracle(truth, { width, height }, { stride: Number(stride), enlargement: "nearest" })
      expect(labels.filter((label, i) => label !== VOID && label === truth[i]).length).toBe(right)
    }
  })
})

test.each([...golden.tensors.keys()].filter((key) => key.includes("/bilinear ")))(
  "votes enlarged bilinearly as PyTorch does: %s",
  (key) => {
    const [name, stride] = key.split("/bilinear ") as [string, string]
    const [height, width] = (cases[name] as Case).size
    const expected = golden.get(key).data() as Uint8Array // void where two labels are as good
    const labels = oracle(arrays(name).truth, { width, height }, { stride: Number(stride), enlargement: "bilinear" })
    const compared = expected.filter((label) => label !== VOID).length
    expect(compared).toBeGreaterThan(0.7 * expected.length)
    expect(labels.map((label, i) => (expected[i] === VOID ? VOID : label))).toEqual(expected)
  },
)

// Sums of a few thousand float64 in another order.
function expectClose(actual: readonly (number | null)[], expected: readonly (number | null)[]): void {
  expect(actual.map((value) => value === null)).toEqual(expected.map((value) => value === null))
  for (const [i, value] of expected.entries()) if (value !== null) expect(actual[i]).toBeCloseTo(value, 11)
}
