// Python's x[0, 1:3, ..., None, mask] in TypeScript: x.at(0, slice(1, 3), "...", null, mask).
import * as aten from "./aten.generated.ts"
import { ShapeError } from "./errors.ts"
import { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

class Slice {
  readonly start: number | undefined
  readonly end: number | undefined
  readonly step: number

  constructor(start: number | undefined, end: number | undefined, step: number) {
    this.start = start
    this.end = end
    this.step = step
  }
}

export type { Slice }
export type Index = number | Slice | Tensor | null | "..."

/** start:end:step of Python; ends may be left out or negative (from the back). @param step at least 1 */
export const slice = (start?: number, end?: number, step = 1): Slice => new Slice(start, end, step)

/** Views where only numbers, slices, null and "..." are used; a copy once a tensor picks elements (aten::index). */
export function index(tensor: Tensor, indices: readonly Index[]): Tensor {
  return tidy(() => {
    const { shape } = tensor
    // A bool mask covers as many axes as it has; null covers none.
    const axesOf = (i: Index) =>
      i === null || i === "..." ? 0 : i instanceof Tensor && i.dtype === "bool" ? i.ndim : 1
    const covered = indices.reduce((sum: number, i) => sum + axesOf(i), 0)
    if (covered > shape.length || indices.filter((i) => i === "...").length > 1) {
      throw new ShapeError(
        `at(): ${indices.length} indices for ${tensor.signature}; expected at most ${shape.length}, with one "...".`,
      )
    }
    let view = tensor
    let dim = 0
    const picks: (Tensor | null)[] = []
    for (const i of indices) {
      if (i === "...") {
        dim += shape.length - covered
      } else if (i === null) {
        view = aten.unsqueeze(view, dim++)
      } else if (i instanceof Tensor) {
        while (picks.length < dim) picks.push(null)
        picks.push(i)
        dim += axesOf(i)
      } else if (i instanceof Slice) {
        view = aten.slice_Tensor(view, { dim: dim++, start: i.start, end: i.end, step: i.step })
      } else if (typeof i === "number") {
        view = aten.select_int(view, dim, i)
      } else {
        throw new ShapeError(`at(): an index is a number, slice(), null, "..." or a tensor; got ${typeof i}.`)
      }
    }
    if (picks.length > 0) return aten.index_Tensor(view, picks)
    return view === tensor ? tensor.alias() : view
  })
}
