// A run's curves as one SVG: loss, mean IoU and learning rate over the steps. Plain attributes only, so that
// every viewer draws it.
import type { EvaluationRecord, RunRecord, StepRecord } from "../train/run-folder.ts"

export interface Series {
  readonly name: string
  readonly color: string
  readonly points: readonly (readonly [number, number])[]
  readonly faint?: boolean
  readonly dots?: boolean
}

export interface Chart {
  readonly title: string
  readonly series: readonly Series[]
}

const WIDTH = 720
const HEIGHT = 220
const MARGIN = { left: 64, right: 16, top: 34, bottom: 36 }

export function curves(records: readonly RunRecord[]): string {
  const steps = records.filter((record): record is StepRecord => record.kind === "step")
  const evaluations = records.filter((record): record is EvaluationRecord => record.kind === "evaluation")
  const loss = steps.map(({ step, loss }) => [step, loss] as const)
  const score = (of: (record: EvaluationRecord) => number | null) =>
    evaluations.flatMap((record) => {
      const value = of(record)
      return value === null ? [] : [[record.step, 100 * value] as const]
    })
  const charts: Chart[] = [
    {
      title: "Training loss",
      series: [
        { name: "each step", color: "#2a6fb0", points: thin(loss), faint: true },
        { name: "running mean", color: "#2a6fb0", points: thin(runningMean(loss)) },
      ],
    },
    {
      title: "Validation, mean IoU (per cent)",
      series: [
        { name: "all classes", color: "#2a6fb0", points: score(({ scores }) => scores.meanIoU), dots: true },
        {
          name: "without background",
          color: "#d1661f",
          points: score(({ scores }) => scores.meanIoUWithoutBackground),
          dots: true,
        },
      ],
    },
    {
      title: "Learning rate",
      series: [
        {
          name: "learning rate",
          color: "#2a6fb0",
          points: thin(steps.map(({ step, learningRate }) => [step, learningRate] as const)),
        },
      ],
    },
  ]
  return drawCharts(charts, records.at(-1)?.step ?? 1)
}

/** Charts below one another, as one SVG; those without points are left out. */
export function drawCharts(charts: readonly Chart[], lastStep: number, axis = "step"): string {
  const drawn = charts.filter((chart) => chart.series.some(({ points }) => points.length > 0))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT * drawn.length}" width="${WIDTH}" font-family="system-ui, sans-serif" font-size="12" fill="#333">
<title>${drawn.map(({ title }) => title).join("; ")}</title>
<rect fill="#fff" width="100%" height="100%"/>
${drawn.map((chart, k) => `<g transform="translate(0 ${k * HEIGHT})">${draw(chart, lastStep, axis)}</g>`).join("\n")}
</svg>
`
}

function draw({ title, series }: Chart, lastStep: number, axisName: string): string {
  const values = series.flatMap(({ points }) => points.map(([, y]) => y))
  const top = ticks(0, Math.max(...values) || 1).at(-1) as number
  const x = (step: number) => MARGIN.left + (step / lastStep) * (WIDTH - MARGIN.left - MARGIN.right)
  const y = (value: number) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom)
  const right = WIDTH - MARGIN.right
  const grid = ticks(0, top).map(
    (value) =>
      `<line stroke="#ddd" x1="${MARGIN.left}" x2="${right}" y1="${y(value)}" y2="${y(value)}"/>` +
      `<text x="${MARGIN.left - 8}" y="${y(value) + 4}" text-anchor="end">${label(value)}</text>`,
  )
  const axis = ticks(0, lastStep)
    .filter((step) => step <= lastStep)
    .map((step) => `<text x="${x(step)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${label(step)}</text>`)
  const lines = series.flatMap(({ points, color, faint, dots }) => [
    `<polyline fill="none" stroke="${color}" stroke-width="${faint ? 1 : 2}" stroke-opacity="${faint ? 0.3 : 1}" points="${points
      .map(([step, value]) => `${round(x(step))},${round(y(value))}`)
      .join(" ")}"/>`,
    ...(dots
      ? points.map(([step, value]) => `<circle cx="${round(x(step))}" cy="${round(y(value))}" r="3" fill="${color}"/>`)
      : []),
  ])
  const shown = series.filter(({ points }) => points.length > 0)
  const legend =
    shown.length < 2
      ? []
      : shown.map(
          ({ name, color, faint }, k) =>
            `<line x1="${right - 300 + 150 * k}" x2="${right - 280 + 150 * k}" y1="16" y2="16" stroke="${color}" stroke-width="${faint ? 1 : 2}" stroke-opacity="${faint ? 0.5 : 1}"/>` +
            `<text x="${right - 274 + 150 * k}" y="20">${name}</text>`,
        )
  return [
    `<text x="${MARGIN.left}" y="20" font-weight="600">${title}</text>`,
    ...legend,
    ...grid,
    ...axis,
    `<text x="${right}" y="${HEIGHT - 4}" text-anchor="end">${axisName}</text>`,
    ...lines,
  ].join("\n")
}

/** Round numbers from `low` to the first one at or above `high`, about five of them. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 4 || 1
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999) as number) * power
  const count = Math.ceil((high - low) / step - 1e-9)
  return Array.from({ length: count + 1 }, (_, k) => Number((low + k * step).toPrecision(12)))
}

function runningMean(points: readonly (readonly [number, number])[]): [number, number][] {
  const weight = Math.max(0.8, 1 - 20 / Math.max(1, points.length)) // about a twentieth of the run
  let mean = 0
  let total = 0
  return points.map(([step, value]) => {
    mean = weight * mean + (1 - weight) * value
    total = weight * total + (1 - weight)
    return [step, mean / total]
  })
}

/** At most 1,000 points: more do not show, and the file stays small. */
function thin<T>(points: readonly T[]): T[] {
  const stride = Math.ceil(points.length / 1000)
  return points.filter((_, k) => k % stride === 0 || k === points.length - 1)
}

const round = (value: number) => Number(value.toFixed(1))
const label = (value: number) =>
  value !== 0 && Math.abs(value) < 1e-3
    ? Number(value.toPrecision(6)).toExponential()
    : value.toLocaleString("en", { maximumSignificantDigits: 6 }) // else 0.0025 would be 0.003
