// A profile as a file that https://ui.perfetto.dev and chrome://tracing open, and as a few numbers.
// Trace Event Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
import { groupBy, median, sum } from "../arrays.ts"
import type { ProfileSlice } from "../torch/index.ts"
import type { StepsProfile } from "./profile.ts"

/** An event of a trace: complete ("X"), or the name of a process or thread ("M"). Times in microseconds. */
export interface TraceEvent {
  readonly ph: "X" | "M"
  readonly name: string
  readonly cat?: string
  readonly ts?: number
  readonly dur?: number
  readonly pid: number
  readonly tid: number
  readonly args?: Readonly<Record<string, unknown>>
}

const PID = 1
const MAIN = 1

/** One lane for each thread; what ran inside something else lies below it. */
export function traceOf({ parts, loader, steps }: StepsProfile): { traceEvents: TraceEvent[]; displayTimeUnit: "ms" } {
  const origin = Math.min(steps[0]!.begin, ...loader.map(({ begin }) => begin))
  const at = (time: number) => Number((time - origin).toFixed(3))
  const complete = (name: string, cat: string, tid: number, begin: number, end: number, args: object): TraceEvent => {
    // The difference of rounded times, so that what ends together ends together in the file.
    const [ts, dur] = [at(begin), Number((at(end) - at(begin)).toFixed(3))]
    return { ph: "X", name, cat, ts, dur, pid: PID, tid, args: { ...args } }
  }
  const lanes = new Map([[MAIN, "main thread"]])
  const events: TraceEvent[] = []
  for (const part of parts) {
    const modules = modulesOf(part.slices)
    for (const slice of withinSteps(part.slices, steps)) {
      const { name, kind, begin, end, shapes, type } = slice
      const tid = slice.thread === part.thread ? MAIN : 100 + slice.thread
      if (tid !== MAIN) lanes.set(tid, `libtorch's thread ${slice.thread}`)
      const module = kind === "backward" && slice.sequence !== undefined ? modules.get(slice.sequence) : undefined
      events.push(
        complete(name, kind, tid, begin, end, {
          ...(shapes && { shapes }),
          ...(type && { type }),
          ...(module && { module }),
        }),
      )
    }
  }
  for (const { worker, name, id, begin, end } of loader) {
    const tid = worker === 0 ? MAIN : 1000 + worker
    if (worker > 0) lanes.set(tid, `loader ${worker}`)
    events.push(complete(name, "loader", tid, begin, end, { id }))
  }
  const named = (name: string, tid: number, args: object): TraceEvent => ({
    ph: "M",
    name,
    pid: PID,
    tid,
    args: { ...args },
  })
  const names = Array.from(lanes, ([tid, name]) => named("thread_name", tid, { name }))
  const order = Array.from(lanes, ([tid]) => named("thread_sort_index", tid, { sort_index: tid }))
  const ordered = events.toSorted((a, b) => a.ts! - b.ts! || b.dur! - a.dur!)
  return {
    traceEvents: [named("process_name", MAIN, { name: "pixelwise train" }), ...names, ...order, ...ordered],
    displayTimeUnit: "ms",
  }
}

/** What ran between two steps, such as the log, belongs to none. */
const withinSteps = (slices: readonly ProfileSlice[], steps: StepsProfile["steps"]): ProfileSlice[] =>
  slices.filter(({ begin, end }) => steps.some((step) => begin >= step.begin && end <= step.end))

/**
 * By the number that a forward operator and its derivative share: the module that the operator ran in. Operators that need no
 * derivative bear the number of the next that does, so the last one counts.
 */
function modulesOf(slices: readonly ProfileSlice[]): Map<number, string> {
  const found = new Map<number, string>()
  walk(slices, ({ kind, sequence }, around) => {
    if (kind !== "operator" || sequence === undefined) return
    const module = around.findLast((slice) => slice.kind === "module")
    if (module) found.set(sequence, module.name)
  })
  return found
}

/** Visits slices of one thread in the order in which they began, each with those that it ran in, outermost first. */
function walk(
  slices: readonly ProfileSlice[],
  visit: (slice: ProfileSlice, around: readonly ProfileSlice[]) => void,
): void {
  for (const ofThread of groupBy(slices, ({ thread }) => thread).values()) {
    const around: ProfileSlice[] = []
    for (const slice of ofThread.toSorted((a, b) => a.begin - b.begin || b.end - a.end)) {
      while (around.length > 0 && around.at(-1)!.end <= slice.begin) around.pop()
      visit(slice, around)
      around.push(slice)
    }
  }
}

/** Where the time of a step goes. Shares are of the steps' time, and add up to 1. */
export interface ProfileSummary {
  readonly steps: number
  /** Milliseconds of a step: the median. */
  readonly stepTime: number
  /** The same of steps before, which were not profiled, but for the first, in which the loader started; null where there was none. */
  readonly unprofiledTime: number | null
  readonly shares: {
    readonly operators: number
    /** Autograd between its operators. */
    readonly autograd: number
    readonly outside: number
    readonly waiting: number
  }
  /** By the time that they themselves take, without what they call; per step. */
  readonly operators: readonly {
    readonly name: string
    readonly calls: number
    readonly selfTime: number
    readonly share: number
  }[]
}

export function summarizeProfile({ parts, steps, before }: StepsProfile): ProfileSummary {
  const total = sum(steps.map(({ begin, end }) => end - begin))
  const self = new Map<string, { calls: number; time: number }>()
  let [operators, autograd, waiting] = [0, 0, 0]
  const isLibtorch = ({ kind }: ProfileSlice) => kind === "operator" || kind === "backward"
  for (const { slices, thread } of parts) {
    walk(withinSteps(slices, steps), (slice, around) => {
      const time = slice.end - slice.begin
      if (slice.name === "autograd") autograd += time
      else if (slice.name === "waiting for data") waiting += time
      if (!isLibtorch(slice)) return
      const caller = around.findLast(isLibtorch)
      if (caller) self.get(caller.name)!.time -= time
      else if (slice.thread === thread) {
        operators += time
        if (around.some(({ name }) => name === "autograd")) autograd -= time
      }
      const known = self.get(slice.name) ?? { calls: 0, time: 0 }
      self.set(slice.name, { calls: known.calls + 1, time: known.time + time })
    })
  }
  const perStep = (value: number) => value / steps.length
  return {
    steps: steps.length,
    stepTime: median(steps.map(({ begin, end }) => end - begin)) / 1000,
    unprofiledTime: before.length > 1 ? median(before.slice(1)) / 1000 : null,
    shares: {
      operators: operators / total,
      autograd: autograd / total,
      outside: 1 - (operators + autograd + waiting) / total,
      waiting: waiting / total,
    },
    operators: Array.from(self, ([name, { calls, time }]) => {
      return { name, calls: perStep(calls), selfTime: perStep(time) / 1000, share: time / total }
    }).toSorted((a, b) => b.selfTime - a.selfTime),
  }
}
