import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { afterEach, beforeEach, expect, test, vi } from "vitest"
import { UserError } from "../errors.ts"
import { findWeights } from "./registry.ts"
import { resolveWeights } from "./resolve.ts"

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-resolve-"))
  vi.stubEnv("PIXELWISE_WEIGHTS_URL", pathToFileURL(folder).href) // empty: nothing can be fetched
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

const refused = async (name: string): Promise<string> => {
  const error = await resolveWeights(name, { cacheFolder: join(folder, "cache") }).catch((reason) => reason)
  expect(error).toBeInstanceOf(UserError)
  return error.message
}

test("a file is taken as it is, by path and by address", async () => {
  const path = join(folder, "my model.safetensors")
  writeFileSync(path, "x")
  expect(await resolveWeights(path)).toEqual({ path })
  expect(await resolveWeights(pathToFileURL(path).href)).toEqual({ path })
})

test("a name is fetched, and a folder of that name is no file", async () => {
  const entry = findWeights("resnet18")
  const message = await refused("resnet18")
  expect(message).toContain("resnet18-f37072fd.pth: it does not exist. Look at PIXELWISE_WEIGHTS_URL")
  const before = process.cwd()
  process.chdir(folder)
  try {
    mkdirSync("resnet18")
    expect(await refused("resnet18")).toContain(entry?.url)
    writeFileSync("resnet34", "a file wins")
    expect(await resolveWeights("resnet34")).toEqual({ path: join(process.cwd(), "resnet34") })
  } finally {
    process.chdir(before)
  }
})

test("anything else is neither", async () => {
  expect(await refused("resnet19")).toMatch(
    /^Cannot open resnet19: it does not exist, and there are no published weights of that name\. Did you mean "resnet(18|34|101)"\?/,
  )
  expect(await refused(folder)).toContain(`${folder} is not a file, and there are no published weights`)
  expect(await refused(pathToFileURL(join(folder, "none.pth")).href)).toContain("none.pth: it does not exist")
  expect(await refused("file://host/x.pth")).toContain("expected file:///folder/file")
})
