// Tensors as text, in the manner of PyTorch: short, aligned, with the middle of long axes left out.
import type { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

const EDGE = 3 // entries shown at each end of an axis that is left out in the middle
const THRESHOLD = 1000 // elements up to which everything is shown

export function format(tensor: Tensor): string {
  const { shape, dtype } = tensor
  const extras = [dtype, `shape [${shape.join(", ")}]`]
  if (tensor.device !== "cpu") extras.push(tensor.device)
  if (tensor.requiresGrad) extras.push("requiresGrad")
  const suffix = extras.join(", ")
  if (tensor.numel === 0) return `Tensor([], ${suffix})`
  if (dtype.startsWith("complex")) return `Tensor(${suffix})`

  const short = tensor.numel > THRESHOLD
  const shown = (size: number) =>
    short && size > 2 * EDGE ? [...range(0, EDGE), -1, ...range(size - EDGE, size)] : range(0, size)

  // First the shown numbers, row by row, then one common format, then the brackets.
  const rows = new Map<string, number[]>()
  const visit = (view: Tensor, path: readonly number[]): void => {
    if (view.ndim > 1) {
      for (const k of shown(view.size(0))) if (k >= 0) tidy(() => visit(view.select(0, k), [...path, k]))
      return
    }
    const size = view.numel
    const parts = short && size > 2 * EDGE ? [view.narrow(0, 0, EDGE), view.narrow(0, size - EDGE, EDGE)] : [view]
    rows.set(
      path.join(),
      parts.flatMap((part) => part.toArray() as number[]),
    )
  }
  tidy(() => visit(tensor.detach(), []))
  const visible = [...rows.values()].flat()
  const text = numberFormat(visible, dtype)
  const width = Math.max(...visible.map((value) => text(value).length))

  const draw = (dim: number, path: readonly number[]): string => {
    const indent = " ".repeat(dim + 8)
    if (dim >= shape.length - 1) {
      const numbers = (rows.get(path.join()) ?? []).values()
      const cells = shown(shape[dim] ?? 1).map((k) =>
        k < 0 ? "..." : text(numbers.next().value as number).padStart(width),
      )
      return shape.length === 0 ? (cells[0] ?? "") : `[${wrap(cells, indent)}]`
    }
    const blank = `,${"\n".repeat(Math.max(1, shape.length - dim - 1))}${indent}`
    return `[${shown(shape[dim] as number)
      .map((k) => (k < 0 ? "..." : draw(dim + 1, [...path, k])))
      .join(blank)}]`
  }
  return `Tensor(${draw(0, [])}, ${suffix})`
}

function numberFormat(values: readonly number[], dtype: string): (value: number) => string {
  if (dtype === "bool") return (value) => (value ? "true" : "false")
  if (/int/.test(dtype)) return String
  const finite = values.filter(Number.isFinite).map(Math.abs)
  const largest = Math.max(0, ...finite)
  const smallest = Math.min(Number.POSITIVE_INFINITY, ...finite.filter((value) => value > 0))
  if (largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1e6) return (value) => exponential(value)
  if (finite.every(Number.isInteger)) return (value) => (Number.isFinite(value) ? `${value}.` : word(value))
  return (value) => (Number.isFinite(value) ? value.toFixed(4) : word(value))
}

const exponential = (value: number) =>
  Number.isFinite(value) ? value.toExponential(4).replace(/(?<=e.)\d$/, "0$&") : word(value)
const word = (value: number) => (Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf")

function wrap(cells: readonly string[], indent: string): string {
  const lines: string[] = []
  let line = ""
  for (const cell of cells) {
    if (line && line.length + cell.length + 2 > 72) {
      lines.push(line)
      line = ""
    }
    line += line ? `, ${cell}` : cell
  }
  return [...lines, line].join(`,\n${indent} `)
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, k) => from + k)
