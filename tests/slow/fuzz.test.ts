// Every operator that can be called, with more arguments than tests/contract/fuzz.test.ts has time for: minutes.
// To look further: FUZZ_SEED=7 npm run test:slow
import { expect, test } from "vitest"
import { callable, curated, fuzz, raw } from "../contract/fuzz.ts"

const seed = Number(process.env.FUZZ_SEED ?? 20261122)

test(`all operators survive random arguments (FUZZ_SEED=${seed})`, async () => {
  const outcome = await fuzz({ operators: [...new Set([...curated, ...callable()])], calls: 20, seed })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
}, 1_800_000)

test(`the addon's own functions and Tensor's methods survive more of them (FUZZ_SEED=${seed})`, async () => {
  const outcome = await fuzz({ operators: [...raw, "methods"], calls: 1000, seed })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
}, 1_800_000)
