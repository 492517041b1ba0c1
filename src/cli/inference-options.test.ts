import { Command } from "commander"
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { addInferenceOptions, type InferenceFlags, inferenceOptions } from "./inference-options.ts"

const parse = (...flags: string[]) => {
  const command = addInferenceOptions(new Command()).parse(flags, { from: "user" })
  return inferenceOptions(command.opts<InferenceFlags>())
}

test("what is not given is not there", () => expect(parse()).toEqual({}))

test.each([
  [["--scales", "0.5,0.75,1"], { scales: [0.5, 0.75, 1] }],
  [["--flip"], { flip: true }],
  [["--window", "512"], { window: [512, 512] }],
  [["--window", "384, 512"], { window: [384, 512] }],
  [["--window", "none"], { window: null }],
  [["--window", "64", "--overlap", "0.25"], { window: [64, 64], overlap: 0.25 }],
  [["--memory", "100"], { memory: 100 * 2 ** 20 }],
])("%o", (flags, options) => expect(parse(...flags)).toEqual(options))

test.each<[string[], RegExp]>([
  [["--scales", "1,big"], /^--scales: got "big"; expected factors such as 0.5,0.75,1\.$/],
  [["--scales", "1,"], /^--scales: got "";/],
  [["--scales", "0"], /^scales: got 0; expected different factors/],
  [["--window", "1,2,3"], /^--window: got "1,2,3"; expected pixels, height and width, or none\.$/],
  [["--window", "1"], /^window: got 1,1; expected height and width in whole pixels, at least 2\.$/],
  [["--overlap", "half"], /^--overlap: got "half"; expected a share/],
  [["--overlap", "1"], /^overlap: got 1; expected the share/],
  [["--window", "none", "--overlap", "0.5"], /whole images have no windows/],
  [["--memory", "-1"], /^--memory: got "-1"; expected MiB, above 0\.$/],
])("%o is refused", (flags, message) => {
  expect(() => parse(...flags)).toThrow(UserError)
  expect(() => parse(...flags)).toThrow(message)
})
