// Two sides that take turns.
import { watchOthers } from "./contestant.ts"
import { type Times, timesOf } from "./results.ts"

/** Does a side's work once and says what it took. */
export type Measure = () => Promise<number>

export interface RoundOptions {
  /** How many must count. */
  readonly rounds: number
  /** A round in which other processes kept more of a core busy does not count and is made again, up to three times as many in all. */
  readonly load: number
  /** Of each side, before the first round. */
  readonly warmUps: number
}

export interface Rounds {
  readonly rounds: number
  readonly dropped: number
  readonly times: readonly [Times, Times]
}

/** A change of the machine's speed meets both sides. Undefined, with a message: others disturbed all rounds. */
export async function takeTurns(
  name: string,
  sides: readonly [Measure, Measure],
  { rounds, load, warmUps }: RoundOptions,
): Promise<Rounds | undefined> {
  const times: [number[], number[]] = [[], []]
  let dropped = 0
  for (const measure of sides) for (let k = 0; k < warmUps; k++) await measure()
  while (times[0].length < rounds && times[0].length + dropped < 3 * rounds) {
    const othersSince = watchOthers()
    const round = [await sides[0](), await sides[1]()] as const
    if ((othersSince() ?? 0) > load) dropped++
    else for (const k of [0, 1] as const) times[k].push(round[k])
    process.stderr.write(`\r${name}: round ${times[0].length} of ${rounds}, ${dropped} dropped `)
  }
  process.stderr.write("\r\x1b[2K")
  if (times[0].length === 0) {
    console.error(`${name}: other processes disturbed all ${dropped} rounds (--load ${load}); not measured.`)
    return undefined
  }
  return { rounds: times[0].length, dropped, times: [timesOf(times[0]), timesOf(times[1])] }
}
