// What a profile says, on the terminal.
import { percent } from "../report/words.ts"
import { plural } from "../train/facts.ts"
import type { ProfileSummary } from "../train/trace.ts"
import { table } from "./output.ts"

const SHOWN = 10

export function profileText(
  { steps, stepTime, unprofiledTime, shares, operators }: ProfileSummary,
  file: string,
): string {
  const time = (milliseconds: number) => milliseconds.toFixed(milliseconds < 10 ? 2 : 1)
  const without = unprofiledTime === null ? "" : ` (${time(unprofiledTime)} in those before, without profile)`
  const parts = [
    [shares.operators, "in libtorch's operators"],
    [shares.autograd, "in autograd between them"],
    [shares.outside, "outside libtorch"],
    [shares.waiting, "waiting for data"],
  ] as const
  const rows = operators
    .slice(0, SHOWN)
    .map(({ name, calls, selfTime, share }) => [name, calls.toFixed(1), time(selfTime), percent(share)])
  return [
    `\nProfile of ${plural(steps, "step")} of ${time(stepTime)} ms${without}:`,
    ...parts.map(([share, where]) => `${percent(share).padStart(6)} % ${where}`),
    "",
    table(["operator, without what it calls", "calls a step", "ms a step", "% of the time"], rows),
    `\n${file} shows each of them: open it at https://ui.perfetto.dev, or in Chrome at chrome://tracing`,
  ].join("\n")
}
