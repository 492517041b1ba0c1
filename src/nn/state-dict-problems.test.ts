import { afterEach, beforeEach, expect, test } from "vitest"
import { type Tensor, zeros } from "../torch/index.ts"
import { stateDictProblems } from "./state-dict-problems.ts"

let made: Tensor[] = []
beforeEach(() => {
  made = []
})
afterEach(() => {
  for (const tensor of made) tensor.dispose()
})

/** Names with their shapes; without one, [1]. */
function state(...names: (string | [name: string, shape: number[]])[]): Map<string, Tensor> {
  return new Map(
    names.map((item) => {
      const [name, shape] = typeof item === "string" ? [item, [1]] : item
      const tensor = zeros(shape)
      made.push(tensor)
      return [name, tensor] as const
    }),
  )
}

test("nothing to say where all fits, in whatever order, or only num_batches_tracked is missing", () => {
  expect(stateDictProblems(state("a", "b"), state("b", "a"))).toBeUndefined()
  expect(stateDictProblems(state("a", "bn.num_batches_tracked", "num_batches_tracked"), state("a"))).toBeUndefined()
  expect(stateDictProblems(state("a"), state("a", "bn.num_batches_tracked"))).toMatch(/^0 of 1 keys missing, 1 unexpec/)
  expect(stateDictProblems(state("not_num_batches_tracked"), state())).toMatch(/^1 of 1 keys missing/)
})

test.each([
  ["another name of one part", "backbone.conv1.weight", "encoder.conv1.weight"],
  ["one part more", "backbone.conv1.weight", "net.backbone.conv1.weight"],
  ["a slip in the last part", "head.wieght", "head.weight"],
  ["upper case", "Head.Weight", "head.weight"],
])("%s: both sides say what may be meant", (_, expected, given) => {
  expect(stateDictProblems(state("a", "b", "c", expected), state("a", "b", "c", given))).toBe(
    `1 of 4 keys missing, 1 unexpected, 0 of another shape.\n  missing ${expected} float32[1] (given ${given});\n  unexpected ${given} float32[1] (expected ${expected}).`,
  )
})

test("of several, the one of the same shape and the most equal parts, then letters", () => {
  const given = state(
    "x.stage1.conv.weight",
    ["stage2.conv.weight", [2]],
    "stage2.conv.weight.x",
    "stage3.conv.weight",
    "stage1.conv.weight",
    "stage1.conv.bias",
  )
  expect(stateDictProblems(state("block1.conv.weight"), given)).toMatch(/block1.* \(given stage1\.conv\.weight\);/)
})

test("no suggestion where nothing is near", () => {
  const text = stateDictProblems(state("decoder.up.0.weight", ["fc.weight", [3]]), state("encoder.layer1.conv1.bias"))
  expect(text).not.toMatch(/\((given|expected)/)
})

test("a prefix that is too much, or lacking, is named with what it would change", () => {
  const names = ["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "fc.bias"]
  const prefixed = names.map((name) => `model.backbone.${name}`)
  expect(stateDictProblems(state(...names), state(...prefixed, "criterion.weight"))).toMatch(
    /^4 of 4 keys missing, 5 unexpected, 0 of another shape\. Without the prefix "model\.backbone\." 4 of them would be found, now 0\.\n/,
  )
  expect(stateDictProblems(state(...prefixed), state(...names))).toMatch(
    / With the prefix "model\.backbone\." 4 of them would be found, now 0\.\n/,
  )
  expect(stateDictProblems(state(...names, "new.a", "new.b"), state(...names, "old.a"))).not.toMatch(/prefix/)
})

test("many problems are counted, and few shown", () => {
  const many = (prefix: string, shape: number[]) =>
    Array.from({ length: 20 }, (_, k): [string, number[]] => [`${prefix}.${k}`, shape])
  const text = stateDictProblems(
    state(...many("a", [1]), ...many("b", [2])),
    state(...many("b", [3]), ...many("cccccc", [4])),
  )
  expect(text).toMatch(/^20 of 40 keys missing, 20 unexpected, 20 of another shape\.\n/)
  expect(text?.split("\n")).toHaveLength(13)
  expect(text?.match(/\(and 16 more\)/g)).toHaveLength(3)
})

test("700 names against 700 others, and names of a megabyte, take less than a few seconds", () => {
  const names = (prefix: string) =>
    Array.from({ length: 700 }, (_, k) => `${prefix}.layer${k % 4}.${k}.attention.projection.weight`)
  const start = performance.now()
  expect(stateDictProblems(state(...names("backbone")), state(...names("encoder")))).toMatch(
    /missing backbone\.layer0\.0\.\S+ float32\[1\] \(given encoder\.layer0\.0\./,
  )
  stateDictProblems(state(...names("backbone")), state("a.".repeat(5e5), "b".repeat(1e6)))
  expect(performance.now() - start).toBeLessThan(5000) // 0.3 s on an idle core
})

// Each took a minute and more, before lengths and comparisons were limited.
test.each<[what: string, size: number, start: string]>([
  ["of 200 letters", 1000, "x".repeat(195)],
  ["of 90 letters", 180, "x".repeat(85)], // as many as are still compared
  ["of 95 parts", 1000, "x.".repeat(94)],
  ["of 45 parts", 180, "x.".repeat(44)],
])("50,000 strangers %s take less than two seconds", (_, size, start) => {
  const [one] = [...state("x").values()] as [Tensor]
  const names = (first: string, count: number) =>
    new Map(Array.from({ length: count }, (_, k) => [`${first}${start.slice(1)}${10_000 + k}`, one]))
  const [own, many, strangers] = [names("y", size), names("y", 50_000), names("x", 50_000)]
  const begin = process.cpuUsage() // not the clock: other processes must not make it fail
  expect(stateDictProblems(own, strangers)).toContain(`${size} of ${size} keys missing, 50000 unexpected`)
  expect(stateDictProblems(many, strangers)).toContain("50000 of 50000 keys missing, 50000 unexpected")
  expect(process.cpuUsage(begin).user).toBeLessThan(2e6) // microseconds
})

test("names from a file are shown escaped and cut, also where they are suggestions or prefixes", () => {
  const clear = "\x1b[2J"
  const text = stateDictProblems(
    state("a.weight", "b.bias", ["c\u202e", [2]]),
    state(`${clear}.a.weight`, `${clear}.b.bias`, ["c\u202e", [3]], "x".repeat(1e5)),
  )
  expect(text).toContain('Without the prefix "\\u001b[2J." 2 of them would be found')
  expect(text).toContain('missing a.weight float32[1] (given "\\u001b[2J.a.weight")')
  expect(text).toContain('unexpected "\\u001b[2J.a.weight" float32[1] (expected a.weight)')
  expect(text).toContain('"c\\u{202e}" is float32[3], expected float32[2]')
  expect(text).toMatch(/unexpected "x{80}"\.\.\. float32/)
  expect(text?.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u)
})
