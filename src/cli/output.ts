// What commands print. For people: tables and a progress bar on a terminal, plain lines elsewhere, to standard error
// while results go to standard output. For machines (--json): one JSON object a line on standard output, nothing else.
import { stripVTControlCharacters, styleText } from "node:util"

export interface Output {
  /** A line for people. */
  say(text: string): void
  /** A result: an object for machines; people see `text`. */
  result(value: object, text: string): void
  /** The state of long work; on a terminal it replaces the one before, elsewhere a line now and then. */
  progress(fraction: number, text: string, value?: object): void
  /** Ends the progress line. */
  endProgress(): void
}

const BAR = 24 // characters
const LINE_EVERY = 10_000 // milliseconds between progress lines without a terminal

export function createOutput({ json = false, terminal = process.stderr.isTTY === true } = {}): Output {
  if (json) {
    const write = (value: object) => console.log(JSON.stringify(value))
    return { say() {}, result: write, progress: (_fraction, _text, value) => value && write(value), endProgress() {} }
  }
  let drawn = false
  let last = Number.NEGATIVE_INFINITY
  const clear = () => {
    if (drawn) process.stderr.write("\r\x1b[2K")
    drawn = false
  }
  return {
    say(text) {
      clear()
      console.error(text)
    },
    result(_value, text) {
      clear()
      console.log(text)
    },
    progress(fraction, text) {
      const now = performance.now()
      if (terminal) {
        if (now - last < 80 && fraction < 1) return
        const filled = Math.round(Math.min(1, fraction) * BAR)
        const bar = `${"█".repeat(filled)}${"░".repeat(BAR - filled)}`
        const line = `${bar} ${Math.floor(100 * fraction)}% ${text}`
        process.stderr.write(`\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 100) - 1)}`)
        drawn = true
      } else if (now - last < LINE_EVERY && fraction < 1) {
        return
      } else {
        console.error(`${Math.floor(100 * fraction)}% ${text}`)
      }
      last = now
    },
    endProgress() {
      clear()
      last = Number.NEGATIVE_INFINITY
    },
  }
}

/** Of a process that is not the one to speak. */
export const silent: Output = { say() {}, result() {}, progress() {}, endProgress() {} }

/** Columns aligned; the first to the left, the others to the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const width = (cell: string) => stripVTControlCharacters(cell).length
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => width(row[column] ?? ""))))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const gap = " ".repeat((widths[column] as number) - width(cell))
        return column === 0 ? cell + gap : gap + cell
      })
      .join("  ")
      .trimEnd()
  const rule = "-".repeat(widths.reduce((sum, size) => sum + size + 2, -2))
  return [styleText("bold", line(header)), rule, ...rows.map(line)].join("\n")
}
