// Errors that are the user's to mend (a wrong path, a damaged file, an unknown option), apart from bugs in our own code.

/**
 * Bad input by the user. The message is one clear sentence or two: what, got, expected, what to do next.
 * The command line prints the message alone and ends with exit code 2; any other error is a bug and keeps its stack.
 */
export class UserError extends Error {
  override readonly name = "UserError"
}

/** What `act` gives; where it refuses, what `otherwise` makes of the reason. */
export function attempt<T, Other>(act: () => T, otherwise: (message: string) => Other): T | Other {
  try {
    return act()
  } catch (error) {
    if (error instanceof UserError) return otherwise(error.message)
    throw error
  }
}

/** A suggestion to append to a message about an unknown name: ` Did you mean "unet"?`, or "" when nothing is close. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const best = nearest(name, candidates)
  return best ? ` Did you mean "${best}"?` : ""
}

/**
 * The candidate that is closest to a name, or undefined when none is close: at most a third of the letters may differ (at
 * least one may), ignoring case.
 */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Letters (or words) to insert, delete, replace, or swap with their neighbour to turn `a` into `b` (optimal string alignment). */
export function editDistance(a: ArrayLike<string>, b: ArrayLike<string>): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1)
      row.push(cost)
    }
    before = last
    last = row
  }
  return last[b.length]!
}
