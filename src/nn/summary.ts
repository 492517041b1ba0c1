// What a model is made of and what it costs, layer by layer. All numbers come from the operators that one forward pass
// really calls, not from the layers' classes, so they hold for any model.
import {
  bytesPerElement,
  isFloating,
  noGrad,
  Parameter,
  type Recording,
  record,
  type Shape,
  type TensorRef,
  tensorRefs,
  zeros,
} from "../torch/index.ts"
import type { AnyModule } from "./module.ts"
import { multiplyAdds } from "./multiply-adds.ts"
import { type ReceptiveField, receptiveField } from "./receptive-field.ts"

/** One call of a module, or one that was not called. Numbers are its own, without those of modules inside it. */
export interface SummaryRow {
  /** "encoder.layer1.0", as in the state dict; "" for the model itself. One that has no name has its caller's. */
  readonly path: string
  /** Name of the class. */
  readonly type: string
  /** How many calls it is inside of. */
  readonly depth: number
  /** Its weights were there before: the same module is called again, or another one shares them. */
  readonly isShared: boolean
  /** Shapes of the tensors it returned; null: it was not called. */
  readonly outputs: readonly Shape[] | null
  /** Elements of the parameters that no row before has. */
  readonly parameters: number
  /** See multiply-adds.ts. */
  readonly multiplyAdds: number
  /** Bytes of the tensors that its operators made; views and what is written in place make none. */
  readonly activationBytes: number
}

export interface Summary {
  readonly inputShape: Shape
  readonly inputBytes: number
  /** Each before those inside it, in the order of the calls; those that were not called come last. */
  readonly rows: readonly SummaryRow[]
  readonly parameters: number
  readonly trainableParameters: number
  readonly multiplyAdds: number
  /** Of all outputs together, as a training step keeps them; a prediction frees most of them on its way. */
  readonly activationBytes: number
  readonly receptiveField: ReceptiveField
}

/**
 * One forward pass over zeros, recorded: in eval mode, without gradients. The model is as before afterwards.
 * @param inputShape [N, C, H, W]
 */
export function recordForward(model: AnyModule, inputShape: Shape): Recording {
  const modes = Array.from(model.namedModules(), ([, module]) => [module, module.training] as const)
  const { dtype, device } = model.parameters().find((parameter) => isFloating(parameter.dtype)) ?? {}
  using _ = noGrad()
  using image = zeros(inputShape, { dtype, device })
  try {
    model.eval()
    return record(() => model.call(image), { inputs: [image] })
  } finally {
    for (const [module, training] of modes) module.training = training
  }
}

/**
 * Runs the model once and counts: `summary(model, [1, 3, 512, 512])`.
 * @param inputShape [N, C, H, W]; everything but the parameters depends on it
 */
export function summary(model: AnyModule, inputShape: Shape): Summary {
  const recording = recordForward(model, inputShape)
  const rows = rowsOf(model, recording)
  const parameters = model.parameters()
  return {
    inputShape,
    inputBytes: recording.inputs.reduce((sum, ref) => sum + bytesOf(ref), 0),
    rows,
    parameters: total(parameters.map(({ numel }) => numel)),
    trainableParameters: total(parameters.map(({ numel, requiresGrad }) => (requiresGrad ? numel : 0))),
    multiplyAdds: total(rows.map((row) => row.multiplyAdds)),
    activationBytes: total(rows.map((row) => row.activationBytes)),
    receptiveField: receptiveField(recording),
  }
}

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
const numel = ({ shape }: TensorRef): number => shape.reduce((a, b) => a * b, 1)
const bytesOf = (ref: TensorRef): number => numel(ref) * bytesPerElement[ref.dtype]

function rowsOf(model: AnyModule, recording: Recording): SummaryRow[] {
  const { calls, operators, values } = recording
  const work = calls.map(() => ({ multiplyAdds: 0, activationBytes: 0 }))
  for (const [k, op] of operators.entries()) {
    const own = work[op.call]
    if (!own) continue
    own.multiplyAdds += multiplyAdds(op)
    for (const ref of tensorRefs(op.outputs)) {
      const { operator, viewOf } = values[ref.value] ?? {}
      if (operator === k && viewOf === undefined) own.activationBytes += bytesOf(ref)
    }
  }

  const called = new Map<number, readonly [path: string, module: AnyModule]>()
  for (const entry of model.namedModules()) {
    for (const call of recording.callsOf(entry[1])) if (!called.has(call)) called.set(call, entry)
  }
  const counted = new Set<Parameter>()
  const rows: SummaryRow[] = []
  for (const [k, { type, parent, outputs }] of calls.entries()) {
    const above = rows[parent]
    const [path, module] = called.get(k) ?? [above?.path ?? "", null]
    rows.push({
      path,
      type,
      depth: above ? above.depth + 1 : 0,
      outputs: outputs.map(({ shape }) => shape),
      ...countOwn(module ? [module] : [], counted),
      ...(work[k] as (typeof work)[number]),
    })
  }

  // What was not called, as few rows as can be: a module whose children were not called either stands for them.
  const isCalled = (module: AnyModule) => recording.callsOf(module).length > 0
  const visit = (path: string, module: AnyModule): void => {
    const all = Array.from(module.namedModules(path))
    const unused = all.some(([, child]) => isCalled(child)) ? [module] : all.map(([, child]) => child)
    const own = isCalled(module) ? null : countOwn(unused, counted)
    if (own && own.parameters > 0) {
      rows.push({
        ...{ path, type: module.constructor.name, depth: 1, outputs: null },
        ...{ ...own, multiplyAdds: 0, activationBytes: 0 },
      })
    }
    if (unused.length < all.length)
      for (const [name, child] of module.children()) visit(path ? `${path}.${name}` : name, child)
  }
  visit("", model)
  return rows
}

function countOwn(modules: readonly AnyModule[], counted: Set<Parameter>): { parameters: number; isShared: boolean } {
  const own = new Set(modules.flatMap((module) => Object.values(module).filter((value) => value instanceof Parameter)))
  const fresh = [...own].filter((parameter) => !counted.has(parameter))
  for (const parameter of fresh) counted.add(parameter)
  return { parameters: total(fresh.map((parameter) => parameter.numel)), isShared: fresh.length < own.size }
}

// --- for people ------------------------------------------------------------------------------------------------------------

/**
 * The summary as a table. A row shows its own numbers, and at the last depth those of everything inside it as well, so
 * that each column adds up to the total.
 * @param depth how many calls deep rows are shown; 0: the model alone
 */
export function formatSummary(summary: Summary, { depth = Number.POSITIVE_INFINITY } = {}): string {
  const { rows } = summary
  const lines = rows.flatMap((row, k) => {
    if (row.depth > depth) return []
    let end = k + 1
    if (row.depth >= depth) while (end < rows.length && (rows[end] as SummaryRow).depth > row.depth) end++
    const inside = rows.slice(k, end)
    const sum = (key: "parameters" | "multiplyAdds" | "activationBytes") => total(inside.map((r) => r[key]))
    const parameters = sum("parameters")
    return [
      [
        `${"  ".repeat(row.depth)}${nameIn(row, parentOf(rows, k))}`,
        row.outputs === null ? "not called" : shapes(row.outputs),
        parameters === 0 && row.isShared ? "shared" : formatCount(parameters),
        formatCount(sum("multiplyAdds")),
        formatBytes(sum("activationBytes")),
      ],
    ]
  })
  const { parameters, trainableParameters, inputShape, inputBytes } = summary
  const totals = [
    "total",
    "",
    formatCount(parameters),
    formatCount(summary.multiplyAdds),
    formatBytes(summary.activationBytes),
  ]
  return [
    ...align([["layer", "output", "parameters", "multiply-adds", "activations"], ...lines, totals]),
    "",
    `input            ${inputShape.join("x")}, ${formatBytes(inputBytes)}`,
    `trainable        ${trainableParameters === parameters ? "all parameters" : `${formatCount(trainableParameters) || "no"} parameters`}`,
    `receptive field  ${formatReceptiveField(summary.receptiveField)}`,
  ].join("\n")
}

/** "427 x 427 pixels", "whole image (427 x 427 pixels without global paths)" */
export function formatReceptiveField({ size, wholeImage }: ReceptiveField): string {
  const local = size ? `${size.join(" x ")} pixels` : ""
  if (!wholeImage) return local || "none"
  return size ? `whole image (${local} without global paths)` : "whole image"
}

/** "25.6 M": three digits; nothing for 0, so that a table shows where the work is. */
export const formatCount = (value: number): string => withUnit(value, 1000, ["", " k", " M", " G", " T"])
export const formatBytes = (value: number): string => withUnit(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"])

function withUnit(value: number, base: number, units: readonly string[]): string {
  if (value === 0) return ""
  let [scaled, unit] = [value, 0]
  while (scaled >= base - 0.5 && unit < units.length - 1) {
    scaled /= base // 999,500 would be printed as 1000 k
    unit++
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toPrecision(3)}${units[unit]}`
}

const parentOf = (rows: readonly SummaryRow[], k: number): SummaryRow | undefined =>
  rows.slice(0, k).findLast(({ depth }) => depth < (rows[k] as SummaryRow).depth)

const nameIn = ({ path, type }: SummaryRow, parent: SummaryRow | undefined): string => {
  if (path === parent?.path) return type
  const prefix = parent?.path ? `${parent.path}.` : ""
  const name = path.startsWith(prefix) ? path.slice(prefix.length) : path
  return name ? `${name} ${type}` : type
}

const shapes = (outputs: readonly Shape[]): string =>
  outputs.length > 2 ? `${outputs.length} tensors` : outputs.map((shape) => shape.join("x")).join(", ")

/** The first two columns to the left, the others to the right; rules below the first row and above the last. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] as readonly string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  )
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column < 2 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
      )
      .join("  ")
      .trimEnd(),
  )
  const rule = "-".repeat(total(widths) + 2 * (widths.length - 1))
  return [lines[0] as string, rule, ...lines.slice(1, -1), rule, lines.at(-1) as string]
}
