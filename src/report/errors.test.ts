import fc from "fast-check"
import { expect, test } from "vitest"
import { ConfusionMatrix, meanIoU } from "../metrics/index.ts"
import { liveTensors, ShapeError } from "../torch/index.ts"
import {
  classifyErrors,
  type ErrorKind,
  ErrorTally,
  errorKinds,
  errorLegend,
  errorPicture,
  wrongKinds,
} from "./errors.ts"

const VOID = 255
const letters: Readonly<Record<ErrorKind, string>> = {
  right: ".",
  boundary: "b",
  missed: "m",
  false: "f",
  swap: "s",
  void: "v",
}

/** Labels drawn as rows of digits; "v" is void. */
const drawn = (...rows: string[]) => ({
  width: rows[0]!.length,
  height: rows.length,
  labels: Uint8Array.from(rows.join(""), (letter) => (letter === "v" ? VOID : Number(letter))),
})

function kindsOf(
  truth: ReturnType<typeof drawn>,
  prediction: ReturnType<typeof drawn>,
  options: { background?: number | null; boundaryWidth?: number } = {},
): string[] {
  const kinds = classifyErrors(prediction.labels, truth.labels, truth, { background: 0, boundaryWidth: 1, ...options })
  const text = Array.from(kinds, (kind) => letters[errorKinds[kind]!]).join("")
  return Array.from({ length: truth.height }, (_, y) => text.slice(y * truth.width, (y + 1) * truth.width))
}

// --- worked by hand ----------------------------------------------------------------------------------------------------

test("a border that is off by up to the width is a boundary error, one that is further off is not", () => {
  const truth = drawn("0000011111")
  expect(kindsOf(truth, drawn("0000111111"))).toEqual(["....b....."])
  expect(kindsOf(truth, drawn("0001111111"))).toEqual(["...ff....."])
  expect(kindsOf(truth, drawn("0001111111"), { boundaryWidth: 2 })).toEqual(["...bb....."])
  expect(kindsOf(truth, drawn("0000000111"))).toEqual([".....mm..."])
  expect(kindsOf(truth, drawn("0000000111"), { boundaryWidth: 2 })).toEqual([".....bb..."])
  expect(kindsOf(truth, drawn("0000001111"), { boundaryWidth: 0 })).toEqual([".....m...."])
})

test("an object that was not found at all is missed, however narrow; one found in part has its border off", () => {
  const truth = drawn("0000000", "0110000", "0110000", "0000000")
  const nothing = drawn("0000000", "0000000", "0000000", "0000000")
  const missed = [".......", ".mm....", ".mm....", "......."]
  expect(kindsOf(truth, nothing)).toEqual(missed)
  expect(kindsOf(truth, nothing, { boundaryWidth: 5 })).toEqual(missed)
  const corner = drawn("0000000", "0100000", "0000000", "0000000")
  expect(kindsOf(truth, corner)).toEqual([".......", "..b....", ".bm....", "......."]) // m: sqrt(2) from the corner
  expect(kindsOf(truth, corner, { boundaryWidth: 2 })).toEqual([".......", "..b....", ".bb....", "......."])
})

test("an object that is not there is false, unless it is the border of one that is", () => {
  const truth = drawn("0000111", "0000111")
  expect(kindsOf(truth, drawn("2100111", "0000111"), { boundaryWidth: 3 })).toEqual(["fb.....", "......."])
  expect(kindsOf(truth, drawn("2100111", "0000111"), { boundaryWidth: 2 })).toEqual(["ff.....", "......."])
})

test("another class for a whole object is a swap up to its outline; a border between two objects can be off", () => {
  const truth = drawn("011102220", "011102220")
  expect(kindsOf(truth, drawn("033302220", "033302220"), { boundaryWidth: 3 })).toEqual([".sss.....", ".sss....."])
  expect(kindsOf(drawn("1112222"), drawn("1111122"))).toEqual(["...ss.."])
  expect(kindsOf(drawn("1112222"), drawn("1111122"), { boundaryWidth: 2 })).toEqual(["...bb.."])
})

test("without a background class nothing can be missed or false", () => {
  const truth = drawn("0000011111")
  expect(kindsOf(truth, drawn("0001111111"), { background: null })).toEqual(["...ss....."])
  expect(kindsOf(truth, drawn("0000000111"), { background: null })).toEqual([".....ss..."])
  expect(kindsOf(truth, drawn("0000000111"), { background: 1 })).toEqual([".....ff..."])
})

test("void is no border, and a border that lies in void is found across it", () => {
  expect(kindsOf(drawn("000vv000"), drawn("00100000"), { boundaryWidth: 4 })).toEqual(["..fvv..."])
  const banded = drawn("000vv111")
  expect(kindsOf(banded, drawn("00111111"), { boundaryWidth: 2 })).toEqual(["..fvv..."])
  expect(kindsOf(banded, drawn("00111111"), { boundaryWidth: 3 })).toEqual(["..bvv..."])
  // found in the void band alone is not found
  expect(kindsOf(banded, drawn("00011000"), { boundaryWidth: 3 })).toEqual(["...vvmmm"])
  expect(kindsOf(drawn("vvv"), drawn("012"))).toEqual(["vvv"])
})

test("the width follows the image's diagonal when none is given", () => {
  const truth = drawn("0".repeat(200) + "1".repeat(200)) // 2 % of 400 pixels: 8
  const kindsAt = (border: number) => {
    const prediction = drawn("0".repeat(border) + "1".repeat(400 - border))
    const kinds = classifyErrors(prediction.labels, truth.labels, truth, { background: 0 })
    return new Set(Array.from(kinds.slice(border, 200), (kind) => errorKinds[kind]))
  }
  expect(kindsAt(192)).toEqual(new Set(["boundary"]))
  expect(kindsAt(191)).toEqual(new Set(["false"]))
})

// --- against brute force -----------------------------------------------------------------------------------------------

const K = 3
const scenes = fc.tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 8 })).chain(([width, height]) => {
  const pixels = width * height
  const labels = (...values: number[]) =>
    fc.array(fc.constantFrom(...values), { minLength: pixels, maxLength: pixels }).map((all) => Uint8Array.from(all))
  return fc.record({
    size: fc.constant({ width, height }),
    truth: labels(0, 0, 0, 1, 2, VOID),
    prediction: labels(0, 0, 0, 1, 2),
    boundaryWidth: fc.integer({ min: 0, max: 3 }),
    background: fc.constantFrom(0, 1, null),
  })
})

test("every pixel is what the definition says, on random scenes", () => {
  fc.assert(
    fc.property(scenes, ({ size, truth, prediction, boundaryWidth, background }) => {
      const distance = (at: number, map: Uint8Array, label: number) =>
        Math.min(
          ...[...map.keys()]
            .filter((i) => map[i] === label && truth[i] !== VOID)
            .map((i) => [i % size.width, Math.floor(i / size.width)])
            .map(([x, y]) => Math.hypot(x! - (at % size.width), y! - Math.floor(at / size.width))),
        )
      const expected = [...truth].map((t, at): ErrorKind => {
        const p = prediction[at]!
        if (t === VOID) return "void"
        if (t === p) return "right"
        if (distance(at, truth, p) + distance(at, prediction, t) - 1 <= boundaryWidth) return "boundary"
        return p === background ? "missed" : t === background ? "false" : "swap"
      })
      const kinds = classifyErrors(prediction, truth, size, { background, boundaryWidth })
      expect(Array.from(kinds, (kind) => errorKinds[kind])).toEqual(expected)
    }),
    { numRuns: 300 },
  )
})

test("what is predicted at void pixels changes nothing", () => {
  fc.assert(
    fc.property(scenes, fc.integer({ min: 0, max: 255 }), ({ size, truth, prediction, ...options }, anything) => {
      const other = prediction.map((label, at) => (truth[at] === VOID ? anything : label))
      const kinds = classifyErrors(prediction, truth, size, options)
      expect(classifyErrors(other, truth, size, options)).toEqual(kinds)
      expect(new ErrorTally(K).add(kinds, other, truth).summary()).toEqual(
        new ErrorTally(K).add(kinds, prediction, truth).summary(),
      )
    }),
  )
})

// --- what they add up to -----------------------------------------------------------------------------------------------

test("a summary worked by hand", () => {
  const truth = drawn("0000011111v")
  const prediction = drawn("10001111220")
  const kinds = classifyErrors(prediction.labels, truth.labels, truth, { background: 0, boundaryWidth: 1 })
  // f...b...ss v: class 0 has 3 right of 5, class 1 has 3 right of 5 and 2 false ones, class 2 is predicted twice
  const summary = new ErrorTally(3).add(kinds, prediction.labels, truth.labels).summary()
  expect(summary).toEqual({
    pixels: 10,
    wrong: 4,
    meanIoU: (3 / 5 + 3 / 7 + 0) / 3,
    kinds: [
      { kind: "boundary", pixels: 1, share: 1 / 4, meanIoUIfRight: (4 / 5 + 3 / 6 + 0) / 3 },
      { kind: "missed", pixels: 0, share: 0, meanIoUIfRight: (3 / 5 + 3 / 7 + 0) / 3 },
      { kind: "false", pixels: 1, share: 1 / 4, meanIoUIfRight: (4 / 5 + 3 / 6 + 0) / 3 },
      { kind: "swap", pixels: 2, share: 2 / 4, meanIoUIfRight: (3 / 5 + 5 / 7) / 2 }, // class 2 is nowhere any more
    ],
  })
})

test("over several images: shares sum to 1, and the mean IoU is that of their confusion matrix", () => {
  fc.assert(
    fc.property(fc.array(scenes, { minLength: 1, maxLength: 3 }), (images) => {
      const tally = new ErrorTally(K)
      const matrix = new ConfusionMatrix(K)
      const mended = Object.fromEntries(wrongKinds.map((kind) => [kind, new ConfusionMatrix(K)]))
      for (const { size, truth, prediction, ...options } of images) {
        const kinds = classifyErrors(prediction, truth, size, options)
        tally.add(kinds, prediction, truth)
        matrix.add(prediction, truth)
        for (const kind of wrongKinds) {
          const right = prediction.map((p, at) => (errorKinds[kinds[at]!] === kind ? truth[at]! : p))
          mended[kind]!.add(right, truth)
        }
      }
      const { meanIoU: mean, wrong, kinds } = tally.summary()
      expect(mean).toBe(meanIoU(matrix).value)
      expect(kinds.reduce((sum, { pixels }) => sum + pixels, 0)).toBe(wrong)
      for (const { kind, pixels, share, meanIoUIfRight } of kinds) {
        expect(share).toBe(wrong > 0 ? pixels / wrong : null)
        expect(meanIoUIfRight, kind).toBe(meanIoU(mended[kind]!).value)
      }
    }),
  )
})

test("nothing counted: null, never NaN", () => {
  const { pixels, wrong, meanIoU: mean, kinds } = new ErrorTally(2).summary()
  expect([pixels, wrong, mean]).toEqual([0, 0, null])
  for (const { share, meanIoUIfRight } of kinds) expect([share, meanIoUIfRight]).toEqual([null, null])
})

// --- as a picture ------------------------------------------------------------------------------------------------------

/** CIE L* of an sRGB colour, 0 (black) to 100 (white), by its definition. */
function lightness(color: readonly number[]): number {
  const [r, g, b] = color.map((value) =>
    value <= 10.31 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
  )
  const luminance = 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
  return luminance > 0.008856 ? 116 * Math.cbrt(luminance) - 16 : 903.3 * luminance
}

test("the colours of the kinds, void and the dimmed image differ by 10 or more in lightness alone", () => {
  const white = { width: 1, height: 1, data: Uint8Array.of(255, 255, 255) }
  const brightest = errorPicture(white, Uint8Array.of(errorKinds.indexOf("right"))).data
  const steps = [brightest, ...errorLegend.map(({ color }) => color)]
    .map((c) => lightness([...c]))
    .sort((a, b) => a - b)
  for (const [k, step] of steps.entries()) if (k > 0) expect(step - steps[k - 1]!).toBeGreaterThanOrEqual(10)
})

test("a picture: dimmed where right, the legend's colour elsewhere", () => {
  const data = new Uint8Array(errorKinds.length * 3).fill(200)
  const image = { width: errorKinds.length, height: 1, data }
  const picture = errorPicture(image, Uint8Array.from(errorKinds.keys()))
  expect([picture.width, picture.height]).toEqual([errorKinds.length, 1])
  expect([...picture.data.slice(0, 3)]).toEqual([60, 60, 60])
  for (const { kind, color } of errorLegend) {
    const at = 3 * errorKinds.indexOf(kind)
    expect([...picture.data.slice(at, at + 3)], kind).toEqual([...color])
  }
  expect(errorLegend.map(({ kind }) => kind)).toEqual(errorKinds.slice(1))
  expect(data.every((value) => value === 200)).toBe(true)
})

// --- borders -----------------------------------------------------------------------------------------------------------

test("sizes and labels that do not fit are named", () => {
  const size = { width: 2, height: 1 }
  const two = Uint8Array.of(0, 1)
  expect(() => classifyErrors(two, Uint8Array.of(0), size, { background: 0 })).toThrow(ShapeError)
  expect(() => classifyErrors(two, two, { width: 3, height: 1 }, { background: 0 })).toThrow(
    "classifyErrors: there are 2 predictions and 2 true labels; expected 3x1 = 3.",
  )
  for (const boundaryWidth of [-1, 1.5, Number.NaN]) {
    expect(() => classifyErrors(two, two, size, { background: 0, boundaryWidth })).toThrow(RangeError)
  }
  expect(() => new ErrorTally(2).add(Uint8Array.of(0, 0), two, Uint8Array.of(0, 2))).toThrow(
    "ErrorTally: truth 2 and prediction 1 at pixel 1; expected 0..1.",
  )
})

test("classifying leaves no tensor behind", () => {
  const before = liveTensors()
  kindsOf(drawn("0000011111"), drawn("0001112222"))
  expect(liveTensors()).toBe(before)
})
