// Connected components: the pieces that pixels of one label form, as the objects of a class or the places where a prediction errs.
// Union-find over horizontal runs: He, Chao and Suzuki 2008, "A Run-Based Two-Scan Labeling Algorithm",
// https://doi.org/10.1109/TIP.2008.919369
import { ShapeError } from "../torch/errors.ts" // not torch/index.ts: worker threads read data without libtorch
import { ignoreIndex } from "./label-map.ts"

export interface Component {
  readonly label: number
  readonly pixels: number
  /** The smallest box around it, in pixels. */
  readonly box: readonly [x: number, y: number, width: number, height: number]
}

export interface Components {
  /** [H, W] position in `components`; -1 at ignored pixels. */
  readonly ids: Int32Array
  /** In the order of their first pixels, row by row. */
  readonly components: readonly Component[]
}

/**
 * The connected components of a label map: the largest sets of pixels of one label of which each reaches each by steps to neighbours.
 * @param labels [H, W] any numbers; 16 bits where they are more than labels, such as pairs of them
 * @param options.connectivity 4: neighbours share a side; 8: or a corner
 * @param options.ignore labels that form no components (default: 255, void); `[]` for none
 * @throws ShapeError when there are not width x height labels
 */
export function connectedComponents(
  labels: Uint8Array | Uint16Array,
  { width, height }: { readonly width: number; readonly height: number },
  { connectivity = 8, ignore = [ignoreIndex] }: { connectivity?: 4 | 8; ignore?: readonly number[] } = {},
): Components {
  if (labels.length !== width * height) {
    throw new ShapeError(
      `connectedComponents: there are ${labels.length} labels; expected ${width}x${height} = ${width * height}.`,
    )
  }
  const isIgnored = new Uint8Array(256 ** labels.BYTES_PER_ELEMENT)
  for (const label of ignore) isIgnored[label] = 1
  const reach = connectivity === 8 ? 1 : 0
  const ids = new Int32Array(labels.length)

  // First scan: cut the rows into runs of one label; a run joins those of its label that it touches in the row above.
  const ends: number[] = [] // run to its end; runs follow each other without gaps, so that it begins where the last one ended
  const parents: number[] = [] // union-find: run to an earlier run of its component, or to itself; -1: ignored
  const rootOf = (run: number): number => {
    let at = run
    while (parents[at] !== at) {
      parents[at] = parents[parents[at]!]! // halves the way for the next one
      at = parents[at]!
    }
    return at
  }
  for (let y = 0; y < height; y++) {
    const row = y * width
    for (let left = 0, right = 0; left < width; left = right) {
      const label = labels[row + left]!
      while (right < width && labels[row + right] === label) right++
      const run = ends.length
      ends.push(row + right)
      ids.fill(run, row + left, row + right)
      parents.push(isIgnored[label] ? -1 : run)
      if (isIgnored[label] || y === 0) continue
      const stop = row - width + Math.min(width, right + reach)
      let last = -1
      for (let at = row - width + Math.max(0, left - reach); at < stop; at++) {
        if (labels[at] !== label || ids[at] === last) continue
        last = ids[at]!
        const [one, other] = [rootOf(last), rootOf(run)]
        parents[Math.max(one, other)] = Math.min(one, other)
      }
    }
  }

  // Second scan: the components are the runs that are their own parents; those of the others are known when they come.
  const components: { label: number; pixels: number; box: [number, number, number, number] }[] = []
  const numbers = new Int32Array(ends.length)
  let start = 0
  for (const [run, end] of ends.entries()) {
    const parent = parents[run]!
    const number = parent < 0 ? -1 : parent === run ? components.length : numbers[parent]!
    numbers[run] = number
    ids.fill(number, start, end)
    const y = Math.floor(start / width)
    const [left, right] = [start - y * width, end - y * width]
    start = end
    if (number < 0) continue
    const component = components[number]
    if (component) {
      const [x, top, across] = component.box
      const newLeft = Math.min(x, left)
      component.pixels += right - left
      component.box = [newLeft, top, Math.max(x + across, right) - newLeft, y - top + 1]
    } else components.push({ label: labels[end - 1]!, pixels: right - left, box: [left, y, right - left, 1] })
  }
  return { ids, components }
}
