// Every operator that can be called, a few hundred times: minutes. Another seed each day, printed, so that it keeps looking.
import { expect, test } from "vitest"
import { callable, curated, fuzz, raw } from "../contract/fuzz.ts"

const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Date.now() / 86_400_000))

test(`all operators survive random arguments (FUZZ_SEED=${seed})`, async () => {
  const outcome = await fuzz({ operators: [...new Set([...curated, ...callable()])], calls: 100, seed })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
}, 1_800_000)

test(`the addon's own functions and Tensor's methods survive more of them (FUZZ_SEED=${seed})`, async () => {
  const outcome = await fuzz({ operators: [...raw, "methods"], calls: 3000, seed, seconds: 60 })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
}, 1_800_000)
