// The command that makes a run, told by its configuration: whoever reads of a run can make it again.
import { isDeepStrictEqual } from "node:util"
import { UserError } from "../errors.ts"
import { configFields, flagOf, parseConfig, type TrainConfig } from "./config.ts"
import { resolveOpen, settleBatchNorm } from "./prepare.ts"

/** A configuration without the options that come about by themselves: by default, by protocol, or decided by a run. */
export function givenOptions(config: TrainConfig): Partial<TrainConfig> {
  const isPretrained = config.weights !== null || config.initFrom !== null
  const isSame = (given: Record<string, unknown>): boolean => {
    try {
      const open = resolveOpen(parseConfig(given), isPretrained ? { preprocessing: {} } : null)
      const settled = settleBatchNorm(open, config.batchNorm === "unfold")
      return isDeepStrictEqual({ ...settled }, { ...config })
    } catch (error) {
      if (error instanceof UserError) return false
      throw error
    }
  }
  // What weights say of their input, and whether their batch-norm is folded, is not known here: a run would ask the file again.
  const ofWeights = isPretrained ? (["normalization", "padding"] as const).filter((key) => config[key] !== null) : []
  const asked: readonly string[] = [
    ...ofWeights,
    ...(isPretrained && config.batchNorm === "train" ? ["batchNorm"] : []),
  ]
  let given: Record<string, unknown> = { ...config }
  for (const key of Object.keys(configFields)) {
    if (key === "data" || asked.includes(key)) continue
    const { [key]: _, ...less } = given
    if (isSame(less)) given = less
  }
  return given
}

/** For a shell, an option a line. */
export function trainCommand(config: TrainConfig, out: string): string {
  const given = { ...givenOptions(config), ...(config.budget !== null && { budget: config.budget }) }
  const flags = Object.entries(given).map(([key, value]) => `${flagOf(key)} ${word(key, value)}`)
  return ["npx pixelwise train", ...flags, `--out ${quote(out)}`].join(" \\\n  ")
}

function word(key: string, value: unknown): string {
  if (value === null) return "none"
  if (key === "budget") return (value as number) % 60 === 0 ? `${(value as number) / 60}m` : `${value}s`
  return quote(Array.isArray(value) ? value.join(",") : String(value))
}

/** As it is where a shell leaves it so, else in quotes. */
const quote = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)
