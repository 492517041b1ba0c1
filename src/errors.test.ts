import { describe, expect, test } from "vitest"
import { didYouMean, UserError } from "./errors.ts"

describe("UserError", () => {
  test("is an Error with its own name, and keeps its cause", () => {
    const cause = new Error("ENOENT")
    const error = new UserError("no such file", { cause })
    expect(error).toBeInstanceOf(Error)
    expect(String(error)).toBe("UserError: no such file")
    expect(error.cause).toBe(cause)
  })
})

describe("didYouMean", () => {
  const models = ["unet", "fcn", "linknet", "deeplabv3", "pspnet"]
  test.each([
    ["unt", "unet"], // a letter missing
    ["unnet", "unet"], // one too many
    ["nuet", "unet"], // two swapped
    ["UNET", "unet"],
    ["deeplab3", "deeplabv3"],
    ["linkent", "linknet"],
  ])("%s -> %s", (name, expected) => {
    expect(didYouMean(name, models)).toBe(` Did you mean "${expected}"?`)
  })
  test("says nothing where nothing is close", () => {
    expect(didYouMean("transformer", models)).toBe("")
    expect(didYouMean("unet", [])).toBe("")
    expect(didYouMean("", ["a", "background"])).toBe(' Did you mean "a"?')
  })
})
