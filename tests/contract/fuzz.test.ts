// Nothing that JavaScript passes to the tensor layer may end the process, and every failure is an Error.
// Which operators do so without their guards: src/torch/unsafe-operators.ts. All operators: tests/slow/fuzz.test.ts.
import { expect, test } from "vitest"
import { callable, curated, fuzz, raw } from "./fuzz.ts"

const seed = 20261122

test("what people use, the addon's own functions and Tensor's methods survive random arguments", async () => {
  const outcome = await fuzz({ operators: [...curated, ...raw, "methods"], calls: 30, seed })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
  expect(outcome.calls).toBeGreaterThan(10_000)
  expect(outcome.returned).toBeGreaterThan(outcome.calls / 3) // it reached what stands behind the checks
}, 120_000)

test("so do all the others that can be called by name", async () => {
  const known = new Set(curated)
  const operators = callable().filter((name) => !known.has(name) && !name.includes("out"))
  const outcome = await fuzz({ operators, calls: 4, seed })
  expect(outcome.crashes).toEqual([])
  expect(outcome.violations).toEqual([])
  expect(outcome.leaked).toBe(0)
  expect(outcome.calls).toBeGreaterThan(4000)
}, 120_000)
