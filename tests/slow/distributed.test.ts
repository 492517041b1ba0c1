// Four processes, other models, machines with addresses of their own, and what goes wrong in the middle of a run.
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { pixelwise, start, temporaryFolder } from "../e2e/cli.ts"
import { expectClose, isRunning, lossesOf, scoresOf, untilStep, workersOf } from "../e2e/processes.ts"
import { freePort, startMember } from "../group/together.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const unet = ["--width", "2", "--depth", "2", "--crop", "32", "--learning-rate", "0.01"]
const train = (...args: string[]) => ["train", "--data", data, "--no-report", "--workers", "1", ...args]

beforeAll(() => generateShapes(data, { train: 24, val: 7, size: [64, 64], seed: 5 }))

test("four processes, two batches a step: the losses and scores of one process", async () => {
  const length = ["--steps", "10", "--evaluations", "2", "--batch-size", "8", "--accumulate", "2"]
  const [one, four] = [join(folder, "one"), join(folder, "four")]
  expect((await pixelwise(...train(...unet, ...length, "--out", one))).code).toBe(0)
  const options = ["--sync-batch-norm", "true", "--nproc", "4", "--out", four]
  expect((await pixelwise(...train(...unet, ...length, ...options))).code).toBe(0)
  expectClose(lossesOf(four), lossesOf(one), 5e-6) // as in tests/e2e/distributed.test.ts, of 20 forwards
  const means = (out: string) => scoresOf(out).map(({ meanIoU }) => meanIoU!)
  expectClose(means(four), means(one), 1e-3)
})

test("LR-ASPP on MobileNetV2 with class weights, clipping and SGD: two processes as one", async () => {
  const model = ["--model", "lraspp", "--encoder", "mobilenet_v2_0.35", "--crop", "64", "--batch-size", "8"]
  const how = ["--class-weights", "median", "--clip-norm", "1", "--optimizer", "sgd", "--learning-rate", "0.002"]
  const length = ["--steps", "3", "--evaluations", "1", "--loss", "cross-entropy + 0.5 dice"]
  const [one, two] = [join(folder, "lraspp-one"), join(folder, "lraspp-two")]
  expect((await pixelwise(...train(...model, ...how, ...length, "--out", one))).code).toBe(0)
  const options = ["--sync-batch-norm", "true", "--nproc", "2", "--out", two]
  expect((await pixelwise(...train(...model, ...how, ...length, ...options))).code).toBe(0)
  // Some 50 batch-norms one behind the other, on maps of 2x2 pixels at the end, multiply rounding a hundredfold a step: one process
  // without its fused batch-norm differs from itself by 7e-7, 2.5e-6 and 8e-5 in these steps, two processes by 5e-7, 1e-6, 5e-5.
  // Statistics or denominators of each process's own are off by 1e-3 and more in the first.
  for (const [k, tolerance] of [1e-5, 5e-5, 5e-4].entries()) {
    expectClose(lossesOf(two).slice(k, k + 1), lossesOf(one).slice(k, k + 1), tolerance)
  }
})

test("without --sync-batch-norm each process has its own statistics; after a step they are one model", async () => {
  const length = ["--steps", "4", "--evaluations", "1", "--batch-size", "4", "--batch-norm-batches", "0"]
  const out = join(folder, "own-statistics")
  const { child, finished } = start(...train(...unet, ...length, "--out", out, "--nproc", "2"))
  expect(child.pid).toBeGreaterThan(0)
  expect((await finished).code).toBe(0)
  const resumed = await pixelwise("train", "--resume", out, "--steps", "6", "--nproc", "4", "--no-report")
  expect([resumed.code, lossesOf(out).length]).toEqual([0, 6])
})

test("a time budget ends all processes after the same step", async () => {
  const out = join(folder, "budget")
  const { code, stderr } = await pixelwise(
    ...train(...unet, "--batch-size", "4", "--budget", "6s", "--out", out, "--nproc", "2"),
  )
  expect([code, stderr.match(/rank/i)]).toEqual([0, null])
  expect(scoresOf(out).length).toBeGreaterThan(0)
})

test("a loss that is not finite: all stop before the step, and the whole batch is kept", async () => {
  const out = join(folder, "diverged")
  const diverging = [
    "--learning-rate",
    "1e30",
    "--optimizer",
    "sgd",
    "--warmup",
    "0",
    "--steps",
    "50",
    "--batch-size",
    "4",
  ]
  const { code, stderr } = await pixelwise(
    ...train("--width", "2", "--depth", "2", "--crop", "32", ...diverging, "--out", out, "--nproc", "2"),
  )
  expect(code).toBe(1)
  expect(stderr).toMatch(/pixelwise: The loss is (NaN|Infinity|-Infinity) at step 2 \(images .*: the output of down/)
  expect(stderr).not.toMatch(/rank/i)
  const { tensors, metadata } = loadSafetensors(join(out, "bad-batch.safetensors"))
  expect(tensors.get("images")!.shape).toEqual([4, 3, 32, 32])
  expect(JSON.parse(metadata.ids!)).toHaveLength(4)
})

test.each(["SIGKILL", "SIGSEGV"] as const)(
  "rank 0 ended by %s: nobody is left, and the run goes on",
  async (signal) => {
    const out = join(folder, `rank-0-${signal}`)
    const endless = ["--batch-size", "4", "--steps", "100000", "--out", out, "--nproc", "4"]
    const { child, finished } = start(...train(...unet, ...endless))
    await untilStep(out, 5, finished)
    const workers = workersOf(child.pid!)
    process.kill(workers[0]!, signal)
    const { code, stderr } = await finished
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`Rank 0 (process ${workers[0]}) was ended by ${signal}.`),
    ])
    for (const worker of workers) expect(() => process.kill(worker, 0)).toThrow("ESRCH")
    // Its lock and its first save are still there.
    const resumed = await pixelwise("train", "--resume", out, "--steps", "3", "--nproc", "2", "--no-report")
    expect([resumed.code, lossesOf(out).length]).toEqual([0, 3])
    expect(readdirSync(out).filter((name) => name.includes("tmp") || name.includes("lock"))).toEqual([])
  },
)

test("a launcher that is killed takes its workers with it", async () => {
  const out = join(folder, "launcher")
  const endless = ["--batch-size", "4", "--steps", "100000", "--out", out, "--nproc", "2"]
  const { child, finished } = start(...train(...unet, ...endless))
  await untilStep(out, 3, finished)
  const workers = workersOf(child.pid!)
  child.kill("SIGKILL")
  await finished // once nobody has its output open any more
  for (const end = Date.now() + 20_000; workers.some(isRunning) && Date.now() < end; ) await sleep(100)
  expect(workers.filter(isRunning)).toEqual([])
  expect(existsSync(join(out, "last.safetensors"))).toBe(true)
})

// --- two machines, as far as one can tell ---------------------------------------------------------------------------------

const names = [`pixelwise-a-${process.pid}`, `pixelwise-b-${process.pid}`] as const
const addresses = ["10.77.13.1", "10.77.13.2"] as const

/** What is wrong, where two network namespaces cannot be made. */
function makeNamespaces(): string | null {
  const ip = (...args: string[]): string | null => {
    const { status, stderr, error } = spawnSync("ip", args, { encoding: "utf8" })
    return status === 0 ? null : (error?.message ?? stderr.trim())
  }
  const [a, b] = names
  const ends = [`pwa${process.pid % 100_000}`, `pwb${process.pid % 100_000}`] as const
  return (
    ip("netns", "add", a) ??
    ip("netns", "add", b) ??
    ip("link", "add", ends[0], "netns", a, "type", "veth", "peer", "name", ends[1], "netns", b) ??
    names
      .flatMap((name, k) => [
        ip("-n", name, "link", "set", "lo", "up"),
        ip("-n", name, "addr", "add", `${addresses[k]}/24`, "dev", ends[k]!),
        ip("-n", name, "link", "set", ends[k]!, "up"),
      ])
      .find((problem) => problem !== null) ??
    null
  )
}

const problem = makeNamespaces()
afterAll(() => {
  for (const name of names) spawnSync("ip", ["netns", "del", name])
})
if (problem !== null) console.warn(`Not tested: two network namespaces, because they cannot be made: ${problem}`)

describe.skipIf(problem !== null)("two network namespaces with their own addresses", () => {
  const within = (rank: number) => ["ip", "netns", "exec", names[rank]!]

  test("sums and gradients are the same as on one machine", async () => {
    for (const scenario of ["collectives", "batchNorm", "gradients"]) {
      const port = await freePort()
      const members = [0, 1].map((rank) =>
        startMember(scenario, rank, { size: 2, port, host: addresses[0], within: within(rank) }),
      )
      const ended = await Promise.all(members.map(({ ended }) => ended))
      for (const { rank, error } of ended) expect([scenario, rank, error]).toEqual([scenario, rank, undefined])
    }
  })

  test("the cable is pulled: the others' timeout ends it, with a sentence", async () => {
    const port = await freePort()
    const members = [0, 1].map((rank) =>
      startMember("endless", rank, { size: 2, port, host: addresses[0], timeout: 6, within: within(rank) }),
    )
    await Promise.all(members.map(({ joined }) => joined))
    spawnSync("ip", ["-n", names[1], "link", "set", `pwb${process.pid % 100_000}`, "down"])
    const begin = performance.now()
    const [first, second] = await Promise.all(members.map(({ ended }) => ended))
    expect((performance.now() - begin) / 1000).toBeLessThan(6 + 10 + 14) // the timeout, the store's, and a busy machine
    expect(first!.error).toMatch(
      /together: rank 1 \(process \d+ on .*\) is gone, or hangs; the others waited 6 s for it\.$/,
    )
    expect(second!.error).toMatch(/together: rank 0 \(process \d+ on .*\) (is gone|hangs)/)
  })
})
