// Checkpoints that torch.save wrote (pth.py), read to the bit; and those that are to be refused.
import { existsSync, readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect, test } from "vitest"
import { UserError } from "../../src/errors.ts"
import { liveTensors, tidy } from "../../src/torch/index.ts"
import { loadPth } from "../../src/torch/pth.ts"
import { loadWeightFile } from "../../src/torch/weight-file.ts"
import { goldenJson } from "./golden.ts"

const folder = fileURLToPath(new URL("golden/", import.meta.url))
const { files, refused } = goldenJson("pth") as {
  files: Record<string, { name: string; dtype: string; shape: number[]; bytes: string }[]>
  refused: Record<string, string>
}

test.each(Object.entries(files))("%s: names in order, dtypes, shapes and every bit", (name, expected) =>
  tidy(() => {
    const key = name === "two-models" ? "model" : undefined
    const { tensors, metadata } = loadWeightFile(`${folder}${name}.pth`, { key })
    expect(
      Array.from(tensors, ([name, tensor]) => {
        const { buffer, byteOffset, byteLength } = tensor.data()
        const bytes = Buffer.from(buffer, byteOffset, byteLength).toString("hex")
        return { name, dtype: tensor.dtype, shape: tensor.shape, bytes }
      }),
    ).toEqual(expected)
    expect(metadata).toEqual({})
    expect([...tensors.values()].some((tensor) => tensor.requiresGrad)).toBe(false)
  }),
)

test.each(Object.entries(refused))("%s is refused, and says %s", (name, what) => {
  const path = `${folder}${name}.refused.pth`
  const live = liveTensors()
  expect(() => loadPth(path)).toThrow(UserError)
  expect(() => loadPth(path)).toThrow(`Cannot read weights ${path}: it`)
  expect(() => loadPth(path)).toThrow(what)
  expect(() => loadPth(path)).toThrow(/In PyTorch, save model\.state_dict\(\) alone|expected one of FloatStorage/)
  expect(liveTensors()).toBe(live)
  expect(existsSync("pixelwise-was-here")).toBe(false)
})

test("two state dicts in one file: the key has to be named", () => {
  const path = `${folder}two-models.pth`
  expect(() => loadPth(path)).toThrow(
    `Cannot read weights ${path}: it holds 2 state dicts, "model", "model_ema": choose one with the option key.`,
  )
  expect(() => loadPth(path, { key: "epoch" })).toThrow('under the key "epoch"; expected "model", "model_ema".')
  tidy(() => {
    const names = [...loadPth(path, { key: "model" }).tensors.keys()]
    expect([...loadPth(path, { key: "model_ema" }).tensors.keys()]).toEqual(names)
  })
})

test("each golden file is listed", () => {
  const listed = [...Object.keys(files), ...Object.keys(refused).map((name) => `${name}.refused`)]
  const there = readdirSync(folder).filter((name) => name.endsWith(".pth"))
  expect(there.sort()).toEqual(listed.map((name) => `${name}.pth`).sort())
})
