// Facts about a configuration, and the words and numbers that they are told in.
import type { Moment } from "../optim/index.ts"

export interface Fact {
  /** The same in every explanation that has it. */
  readonly name: string
  /** Plain data. */
  readonly value: unknown
  readonly text: string
}

export const fact = (name: string, value: unknown, text: string = String(value)): Fact => ({ name, value, text })

export const round = (value: number, digits: number): number => Number(value.toFixed(digits))

/** Four digits that count: 0.003751, 1e-7, 30,000. */
export const number = (value: number): string => {
  if (Number.isInteger(value)) return value.toLocaleString("en")
  return String(Number(value.toPrecision(4)))
}

export const triple = (values: readonly number[]): string =>
  values.every((value) => value === values[0]) ? String(values[0]) : values.join(", ")

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`

/** The first step at or behind a place between steps, such as a share of their number, which may be rounded up by a bit. */
export const firstStepAt = (place: number): number => Math.ceil(place - 1e-9)

/** @param place steps done, or where there are none a share of the run */
export const momentAt = (place: number, steps: number | null): Moment =>
  steps === null ? { progress: place, step: 0 } : { progress: place / steps, step: place, steps }
