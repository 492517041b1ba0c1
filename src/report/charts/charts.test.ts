// Places are worked by hand from the sizes in the code: letters are 7 wide, charts 440.
import sharp from "sharp"
import { expect, test } from "vitest"
import type { Html } from "../html.ts"
import { label, linearScale, logScale, ticks } from "./axes.ts"
import { barChart } from "./bar.ts"
import { heatmap } from "./heatmap.ts"
import { histogram } from "./histogram.ts"
import { lineChart } from "./line.ts"
import { scatterChart } from "./scatter.ts"
import { standaloneSvg } from "./standalone.ts"

/** The attributes of each element of a name, in order. */
const elements = ({ text }: Html, name: string) =>
  [...text.matchAll(new RegExp(`<${name}\\b([^>]*)>`, "g"))].map(([, attributes]) =>
    Object.fromEntries([...attributes!.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value])),
  )

/** Of the elements of a name, attributes as numbers. */
const numbers = (chart: Html, name: string, ...keys: string[]) =>
  elements(chart, name).map((attributes) => keys.map((key) => Number(attributes[key])))

const textsOf = ({ text }: Html) => [...text.matchAll(/<text[^>]*>([^<]*)</g)].map(([, content]) => content)

const steps = { name: "step" }
const score = { name: "mean IoU", unit: "per cent" }

test.each([
  [
    [0, 97],
    [0, 25, 50, 75, 100],
  ],
  [
    [0, 3.2],
    [0, 1, 2, 3, 4],
  ],
  [
    [-3, 12],
    [-5, 0, 5, 10, 15],
  ],
  [
    [0, 0.0031],
    [0, 0.001, 0.002, 0.003, 0.004],
  ],
  [
    [0, 0],
    [0, 1],
  ],
  [
    [40, 60],
    [40, 45, 50, 55, 60],
  ],
])("ticks of %o are round and hold it", ([low, high], expected) => {
  expect(ticks(low!, high!)).toEqual(expected)
})

test("of whole things the ticks are whole", () => {
  expect(ticks(0, 3, { whole: true })).toEqual([0, 1, 2, 3])
  expect(ticks(0, 1, { whole: true })).toEqual([0, 1])
  expect(ticks(0, 9, { whole: true })).toEqual([0, 5, 10])
})

test("scales", () => {
  const linear = linearScale([0, 97], [10, 110])
  expect([0, 50, 100].map(linear.at)).toEqual([10, 60, 110])
  const exact = linearScale([0, 97], [10, 107], { round: false })
  expect([exact.at(97), exact.ticks]).toEqual([107, [0, 25, 50, 75]])
  const log = logScale([3, 2000], [0, 400])
  expect(log.ticks).toEqual([1, 10, 100, 1000, 10000])
  expect([1, 100, 10_000].map((value) => Math.round(log.at(value)))).toEqual([0, 200, 400])
})

test.each([
  [0, "0"],
  [0.0025, "0.0025"],
  [1e-5, "1e-5"],
  [12_500, "12,500"],
  [1_200_000, "1.2M"],
  [-54.6, "-54.6"],
])("%s is written %s", (value, text) => {
  expect(label(value)).toBe(text)
})

test("bars: lengths are in proportion, names before them, numbers behind", () => {
  const bars = [
    { label: "a", value: 50 },
    { label: "b", value: 100 },
  ]
  const chart = barChart({ title: "IoU", unit: "per cent", bars })
  // From 10 + 7 to 440 - 12 - 3 x 7: 390 for 100.
  expect(numbers(chart, "rect", "x", "width")).toEqual([
    [17, 195],
    [17, 390],
  ])
  expect(textsOf(chart)).toEqual(["IoU", "0", "50", "100", "per cent", "a", "50", "b", "100"])
})

test("bars: below 0 they go to the left; intervals are lines across; notes stand behind", () => {
  const bars = [{ label: "a", value: -10, interval: [-20, 20] as const, note: "why" }]
  const chart = barChart({ title: "Change", unit: "points", bars })
  const [left, right] = [17, 440 - 12 - 8 * 7] // "-10  why"
  const at = (value: number) => left + ((value + 20) / 40) * (right - left)
  const [[x, width]] = numbers(chart, "rect", "x", "width") as [[number, number]]
  expect(x).toBeCloseTo(at(-10), 0)
  expect(x + width).toBeCloseTo(at(0), 0)
  const whisker = elements(chart, "path")[0]!.d!
  expect(Number(/^M([\d.]+)/.exec(whisker)![1])).toBeCloseTo(at(-20), 0)
  expect(Number(/H([\d.]+)/.exec(whisker)![1])).toBeCloseTo(at(20), 0)
  expect(chart.text).toContain(">why</tspan>")
})

test("bars on an axis of powers of ten: equal factors are equal lengths, and 0 has none", () => {
  const bars = [10, 1000, 0].map((value) => ({ label: "x", value }))
  const chart = barChart({ title: "Pixels", unit: "pixels", bars, log: true })
  const widths = numbers(chart, "rect", "width").map(([width]) => width!)
  expect(widths[1]! / widths[0]!).toBeCloseTo(3, 2) // from 1: one power of ten and three
  expect(widths[1]).toBe(440 - 12 - 5 * 7 - 17) // all the way to 1,000
  expect(widths[2]).toBe(0)
  expect(textsOf(chart)).toContain("powers of ten")
})

test("names are escaped, and long ones cut off", () => {
  const long = "a class of which nobody knows why it is called so"
  const chart = barChart({
    title: "<b>",
    unit: "&",
    bars: [
      { label: "<i>", value: 1 },
      { label: long, value: 1 },
    ],
  })
  expect(chart.text).not.toMatch(/<b>|<i>/)
  expect(textsOf(chart)).toContain("&lt;i&gt;")
  expect(textsOf(chart).some((text) => text!.endsWith("…"))).toBe(true)
  expect(chart.text).toContain(`<title>${long}: 1 &amp;</title>`)
})

test("heatmap: shades by value, numbers where they fit, nothing for 0, a dot for null", () => {
  const chart = heatmap({
    title: "Confusion",
    rows: ["cat", "dog"],
    columns: ["cat", "dog"],
    values: [
      [0.5, 1],
      [0, null],
    ],
    format: (value) => (100 * value).toFixed(0),
    rowTitle: "truth",
    columnTitle: "prediction",
  })
  const cells = elements(chart, "rect").filter((cell) => cell["fill-opacity"] !== undefined)
  const left = 26 + 3 * 7
  expect(cells.map((cell) => [Number(cell.x), Number(cell["fill-opacity"]), Number(cell.width)])).toEqual([
    [left, 0.5, 44],
    [left + 44, 1, 44],
  ])
  expect(elements(chart, "circle")).toHaveLength(1)
  expect(textsOf(chart).filter((text) => /^\d/.test(text!))).toEqual(["50", "100"])
  expect(chart.text).toContain("← truth")
  // Text on the darkest cell is as bright as the paper.
  expect(chart.text.match(/color="var\(--card\)">100</)).not.toBeNull()
  expect(chart.text).not.toMatch(/color="var\(--card\)">50</)
})

test("heatmap of many classes: no numbers that would not fit, still names to read", () => {
  const names = Array.from({ length: 150 }, (_, k) => `c${k}`)
  const chart = heatmap({
    title: "Confusion",
    rows: names,
    columns: names,
    values: names.map((_, r) => names.map((_, c) => (r === c ? 0.98 : 0))),
    format: (value) => (100 * value).toFixed(0),
    rowTitle: "truth",
    columnTitle: "prediction",
  })
  expect(textsOf(chart)).not.toContain("98")
  expect(textsOf(chart).filter((text) => text!.startsWith("c"))).toHaveLength(2 * 50) // cells of 5: a name every 15
  expect(numbers(chart, "rect", "width")[0]).toEqual([5])
})

test("lines: points at their place, in a scale from 0 to a round number", () => {
  const chart = lineChart({
    title: "Validation",
    x: steps,
    y: score,
    series: [
      {
        name: "all",
        points: [
          [0, 0],
          [5, 50],
          [10, 97],
        ],
      },
    ],
  })
  // Across from 8 + 3 x 7 to 420, for 0 to 10; upward from 204 to 42, for 0 to 100.
  expect(elements(chart, "polyline")[0]!.points).toBe("29,204 224.5,123 420,46.9")
  expect(textsOf(chart)).toEqual(expect.arrayContaining(["Validation", "mean IoU (per cent)", "step", "100", "10"]))
  expect(textsOf(chart)).not.toContain("all") // alone it needs no name
})

const flat = (name: string, value: number) => ({
  name,
  points: [
    [0, value],
    [10, value],
  ] as const,
})

test("lines: names stand at the ends and never on one another; each line has a dash and a mark of its own", () => {
  const series = [flat("first", 50), flat("second", 50), flat("third", 50.2)]
  const chart = lineChart({ title: "t", x: steps, y: score, series })
  const ends = elements(chart, "text").filter(({ x }) => Number(x) > 340)
  const heights = ends.flatMap(({ y, "text-anchor": anchor }) => (anchor === undefined ? [Number(y)] : []))
  expect(heights).toHaveLength(3)
  expect(heights[1]! - heights[0]!).toBeGreaterThanOrEqual(12.9)
  expect(heights[2]! - heights[1]!).toBeGreaterThanOrEqual(12.9)
  const lines = elements(chart, "polyline").map(({ stroke, "stroke-dasharray": dash }) => `${stroke} ${dash}`)
  expect(new Set(lines).size).toBe(3)
  expect(new Set(elements(chart, "polyline").map((line) => line["stroke-dasharray"])).size).toBe(3)
  expect(new Set(elements(chart, "path").map(({ d }) => d)).size).toBe(3)
})

test("lines: names at the axis stand above it; those of lines that end elsewhere stay beside their line", () => {
  const short = { name: "short", points: [[0, 1] as const, [4, 0] as const] }
  const series = [flat("a", 0), flat("b", 0), flat("c", 0), short]
  const chart = lineChart({ title: "t", x: steps, y: score, series })
  const heights = [...chart.text.matchAll(/ y="([\d.]+)">(a|b|c|short)</g)].map(([, y, name]) => [name, Number(y) - 4])
  expect(heights).toEqual([
    ["a", 204],
    ["b", 191],
    ["c", 178],
    ["short", 204],
  ])
})

test("lines: long names go into a legend; the ninth has the first colour and another dash", () => {
  const series = Array.from({ length: 9 }, (_, k) => flat(`a run with a long name ${k}`, k))
  const chart = lineChart({ title: "t", x: steps, y: score, series })
  expect(textsOf(chart).filter((text) => text!.startsWith("a run"))).toHaveLength(9)
  const lines = elements(chart, "polyline")
  expect(lines[8]!.stroke).toBe(lines[0]!.stroke)
  expect(lines[8]!["stroke-dasharray"]).not.toBe(lines[0]!["stroke-dasharray"])
  const lowestName = Math.max(...[...chart.text.matchAll(/y="(\d+)">a run/g)].map(([, y]) => Number(y)))
  const highest = Math.min(...lines.flatMap(({ points }) => heightsOf(points!)))
  expect(lowestName).toBeLessThan(highest)
})

const heightsOf = (points: string) => points.split(" ").map((point) => Number(point.split(",")[1]))

test("lines: a spike is drawn at the upper edge, values below 0 have room", () => {
  const spike = [[0, 1] as const, [5, 1000] as const, [10, -1] as const]
  const chart = lineChart({
    title: "t",
    x: steps,
    y: { name: "loss", most: 2 },
    series: [{ name: "loss", points: spike }],
  })
  const heights = heightsOf(elements(chart, "polyline")[0]!.points!)
  expect(heights[1]).toBe(42) // the upper edge, which is 2
  expect(heights[2]).toBe(204) // the lower one, -1
})

test("scatter: points on one place make a larger dot; with a diagonal both axes are alike", () => {
  const points = [
    [20, 40],
    [20, 40],
    [20, 40],
    [20, 40],
    [100, 80],
  ] as const
  const chart = scatterChart({ title: "t", x: score, y: score, points, diagonal: true })
  const dots = numbers(chart, "circle", "cx", "cy", "r")
  // A square of 240 from 29 and 284, for 0 to 100.
  expect(dots).toEqual([
    [77, 188, 4],
    [269, 92, 3],
  ])
  expect(chart.text).toContain("and 3 more here")
})

test("histogram: few whole numbers have a bar each", () => {
  const chart = histogram({ title: "Classes in an image", unit: "classes", values: [1, 1, 2, 4], of: "images" })
  const bars = numbers(chart, "rect", "height")
  expect(bars.map(([height]) => height)).toEqual([140, 70, 70]) // 184 - 44 for 2
  expect(chart.text).toContain("<title>1 classes: 2 images</title>")
  expect(textsOf(chart)).toContain("images (number)")
})

test("histogram: every value is in a bar, the largest in the last, on both kinds of axes", () => {
  const values = Array.from({ length: 101 }, (_, k) => k + 0.5)
  const counts = ({ text }: Html) => [...text.matchAll(/: (\d+) values</g)].map(([, count]) => Number(count))
  const linear = counts(histogram({ title: "t", unit: "pixels", values, bins: 10 }))
  expect(linear).toEqual([10, 10, 10, 10, 10, 10, 10, 10, 10, 11])
  const powers = [1, 10, 100, 1000, 1000]
  const log = histogram({ title: "t", unit: "pixels", values: [...powers, 0, -1], bins: 3, log: true })
  expect(counts(log)).toEqual([1, 1, 3])
  expect(textsOf(log)[0]).toBe("t (2 at or below 0 left out)")
  const widths = numbers(log, "rect", "width").map(([width]) => width!)
  expect(widths[2]).toBeCloseTo(widths[0]!, 0)
})

test("nothing to show is nothing", () => {
  expect(barChart({ title: "t", unit: "u", bars: [] }).text).toBe("")
  expect(lineChart({ title: "t", x: steps, y: score, series: [{ name: "a", points: [] }] }).text).toBe("")
  expect(scatterChart({ title: "t", x: score, y: score, points: [] }).text).toBe("")
  expect(histogram({ title: "t", unit: "u", values: [0], log: true }).text).toBe("")
  const none = { rows: [], columns: [], values: [], format: String, rowTitle: "", columnTitle: "" }
  expect(heatmap({ title: "t", ...none }).text).toBe("")
})

test("one value alone is drawn, and no place is NaN", () => {
  const charts = [
    barChart({ title: "t", unit: "u", bars: [{ label: "a", value: 0 }] }),
    barChart({ title: "t", unit: "u", bars: [{ label: "a", value: 0 }], log: true }),
    lineChart({ title: "t", x: steps, y: score, series: [{ name: "a", points: [[0, 0]], marks: true }], small: true }),
    scatterChart({ title: "t", x: score, y: score, points: [[5, 5]] }),
    histogram({ title: "t", unit: "u", values: [7.5, 7.5] }),
    histogram({ title: "t", unit: "u", values: [7.5], log: true }),
  ]
  for (const { text } of charts) expect(text).not.toMatch(/NaN|Infinity|undefined/)
})

test("charts alone are an SVG that other programs draw, without variables", async () => {
  const chart = lineChart({ title: "A & B", x: steps, y: score, series: [flat("a < b", 1), flat("c", 2)] })
  const svg = standaloneSvg([chart, chart], { title: "A & B" })
  expect(svg).not.toMatch(/var\(|currentColor/)
  const { width, height, format } = await sharp(Buffer.from(svg)).metadata()
  expect([format, width, height]).toEqual(["svg", 708, 792])
  const { channels } = await sharp(Buffer.from(svg)).stats()
  expect(channels[0]!.min).toBeLessThan(100) // something is drawn
})
