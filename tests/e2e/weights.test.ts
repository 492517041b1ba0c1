// The list needs no network; a mirror with a wrong file is found out.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { afterAll, beforeAll, expect, test, vi } from "vitest"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const cache = join(folder, "cache", "weights")
const mirror = join(folder, "mirror")
const file = "squeezenet1_1-b8a52dc0.pth"

beforeAll(() => {
  mkdirSync(mirror)
  vi.stubEnv("PIXELWISE_CACHE", join(folder, "cache")) // the command inherits them
  vi.stubEnv("PIXELWISE_WEIGHTS_URL", pathToFileURL(mirror).href)
})
afterAll(() => vi.unstubAllEnvs())

test("lists what is published and what is here", async () => {
  mkdirSync(cache, { recursive: true })
  writeFileSync(join(cache, "resnet34-b627a593.pth"), "")
  const { code, stdout } = await pixelwise("weights")
  expect(code).toBe(0)
  expect(stdout).toMatch(/^resnet50\.imagenet1k_v2 \* +25\.6 M +97\.8 MiB +acc@1 80\.9$/m)
  expect(stdout).toMatch(/^resnet34\.imagenet1k_v1 \* .* yes$/m)
  expect(stdout).toMatch(/^fcn_resnet50\.coco_with_voc_labels_v1 \* .* mIoU 60\.5$/m)

  const json = JSON.parse((await pixelwise("weights", "--json")).stdout)
  expect(json.folder).toBe(cache)
  expect(json.weights).toHaveLength(19)
  expect(json.weights[1]).toMatchObject({ name: "resnet34.imagenet1k_v1", cached: true, default: true })
  expect(json.weights[1].path).toBe(join(cache, "resnet34-b627a593.pth"))
}, 20_000)

test("refuses a file with the right name and wrong bytes", async () => {
  writeFileSync(join(mirror, file), "not what SqueezeNet learned")
  const { code, stdout, stderr } = await pixelwise("weights", "squeezenet1_1")
  expect(code).toBe(2)
  expect(stdout).toBe("")
  expect(stderr).toMatch(/its SHA-256 begins with [0-9a-f]{8}, expected b8a52dc0\. It was deleted/)
  expect(readdirSync(cache).filter((name) => name.startsWith("squeezenet"))).toEqual([])
  expect(existsSync(join(mirror, file))).toBe(true)
}, 20_000)

test("an unknown name is found before anything is downloaded", async () => {
  const { code, stderr } = await pixelwise("weights", "squeezenet1_1", "resnet5")
  expect(code).toBe(2)
  expect(stderr.trim().split("\n")).toEqual([expect.stringMatching(/"resnet5"\. Did you mean "resnet50"\?/)])
}, 20_000)
