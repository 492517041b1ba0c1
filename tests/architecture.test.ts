// Imports point downward only: a layer may use those before it in this list, never those after it.
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve, sep } from "node:path"
import { expect, test } from "vitest"

const layers = [
  "torch",
  "nn",
  "optim",
  "models",
  "losses",
  "metrics",
  "data",
  "weights",
  "infer",
  "train",
  "report",
  "explore",
  "cli",
]
const src = resolve(import.meta.dirname, "../src")

const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter(
  (name) => name.endsWith(".ts") && name !== "index.ts", // the library's entry names everything
)
const layerOf = (path: string) => layers.indexOf(relative(src, path).split(sep)[0] as string)

test.each(files)("%s imports downward only", (name) => {
  const path = join(src, name)
  const from = layerOf(path)
  const text = readFileSync(path, "utf8")
  for (const [, target] of text.matchAll(/(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g)) {
    const to = resolve(dirname(path), target as string)
    if (!to.startsWith(src + sep)) continue // scripts, package.json
    const layer = layerOf(to)
    // Files that stand directly in src (errors, files, version) are below everything, and import nothing but each other.
    if (from < 0) expect(layer, `${name} -> ${target}`).toBe(-1)
    else expect(layer, `${name} -> ${target}`).toBeLessThanOrEqual(from)
  }
})

test("every folder of src is a layer", () => {
  const folders = readdirSync(src, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(folders.map(({ name }) => name).sort()).toEqual([...layers].sort())
})

test("only src/torch talks to the addon", () => {
  const users = files.filter(
    (name) => !name.startsWith(`torch${sep}`) && /native\.ts"/.test(readFileSync(join(src, name), "utf8")),
  )
  expect(users).toEqual([])
})
