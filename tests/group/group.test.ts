// Process groups: what they compute, against one process with all of it; and how they end.
import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, test } from "vitest"
import { UserError } from "../../src/errors.ts"
import { alone, groupBackends, ProcessGroup } from "../../src/torch/index.ts"
import { native } from "../../src/torch/native.ts"
import { freePort, startMember, together } from "./together.ts"

const valuesOf = async (scenario: string, size: number) => {
  const all = await together(scenario, size)
  for (const { rank, error, stderr } of all) expect([rank, error, stderr]).toEqual([rank, undefined, ""])
  return all.map(({ value }) => value)
}

/** The first of two on this machine. */
const joinFirst = (options: { port: number; timeout: number }) =>
  ProcessGroup.join({ rank: 0, size: 2, localRank: 0, localSize: 2, host: "127.0.0.1", ...options })

test("this build has gloo", () => {
  expect(groupBackends()).toContain("gloo")
})

test.each([2, 3])("sums with a gradient, gathered values, rank 0's: %i processes", async (size) => {
  const all = await valuesOf("collectives", size)
  const total = (size * (size + 1)) / 2
  for (const value of all) {
    expect(value).toEqual({
      sum: [total, 2 * total, 3 * total],
      gradient: [total, 10 * total, 100 * total], // of all ranks' results
      numbers: [(size * (size - 1)) / 2, size * 2 ** 52],
      gathered: Array.from({ length: size }, (_, rank) => ({ rank, text: "x".repeat(rank) })),
      copied: 0,
    })
  }
})

test.each([2, 3])("batch-norm over %i processes is that of the whole batch, forward and backward", async (size) => {
  for (const differences of await valuesOf("batchNorm", size)) {
    // float64 rounds by 1.1e-16, and the largest mean square is 13,000 times its variance.
    for (const [name, value] of Object.entries(differences)) expect(value as number, name).toBeLessThan(5e-12)
  }
})

test("in bfloat16 its statistics and sums are float32 all the same", async () => {
  for (const differences of await valuesOf("batchNormOfFewBits", 2)) {
    const { y, dx, mean, variance } = differences as Record<"y" | "dx" | "mean" | "variance", number>
    for (const rounded of [y, dx]) expect(rounded).toBeLessThan(2 ** -8) // the results alone are rounded, to 8 bits
    expect(mean).toBeLessThan(1e-6)
    expect(variance).toBeLessThan(1e-4) // of 0.75 beside a mean of 100
  }
})

test("statistics of one's own images become the mean over all; folded batch-norm is unfolded by all images", async () => {
  const values = await valuesOf("statistics", 2)
  for (const { own, mean, unfolded, byOne } of values) {
    const [first, second] = own as [number[], number[]]
    expect(first).not.toEqual(second)
    for (const [c, value] of (mean as number[]).entries()) expect(value).toBeCloseTo((first[c]! + second[c]!) / 2, 6)
    for (const [k, value] of (unfolded as number[]).entries()) expect(value).toBeCloseTo(byOne[k], 5)
  }
  expect(values[0].mean).toEqual(values[1].mean)
})

describe("losses of a batch that is spread unevenly over two processes", () => {
  test("are those of the whole batch, and so are their gradients", async () => {
    for (const found of await valuesOf("losses", 2)) {
      for (const [name, { value, gradient }] of Object.entries<{ value: number; gradient: number }>(found)) {
        // It sorts the pixels of a part, and says so.
        if (name.endsWith("lovasz-softmax")) continue
        expect(value, name).toBeLessThan(1e-12)
        expect(gradient, name).toBeLessThan(1e-12)
      }
      expect(Object.keys(found)).toHaveLength(21)
      expect(found["lovasz-softmax"].value).toBeGreaterThan(1e-3)
    }
  })
})

test("gradients are means; those that nobody or one rank has, and those added up before, are right", async () => {
  // Of rank r: 10, and then r + 1 with the reduction: the mean of 11 and 12. What only rank 1 has is half of 12.
  const step = [[11.5, 11.5], null, [6, 6], null, [11.5, 11.5]]
  expect(await valuesOf("gradients", 2)).toEqual([
    [step, step, step],
    [step, step, step],
  ])
})

test("a step holds no more after 120 times than after 20", async () => {
  for (const { bytes, tensors } of await valuesOf("memory", 2)) {
    expect(bytes[1]).toBe(bytes[0])
    expect(tensors[1]).toBe(tensors[0])
  }
})

test("a build without process groups says how to get them", async () => {
  const built = native.groupBackends
  native.groupBackends = []
  try {
    const join = joinFirst({ port: 1, timeout: 1 })
    await expect(join).rejects.toThrow(
      /^This build .* gloo headers were missing .* libgloo-dev\) and run npm run setup\.$/,
    )
  } finally {
    native.groupBackends = built
  }
})

test("the error of one is told by the others", async () => {
  const all = await together("oneFails", 3)
  expect(all[1]!.error).toBe("the disk is full")
  for (const rank of [0, 2]) {
    expect(all[rank]!.error).toMatch(
      /^The processes cannot go on together: rank 1 \(process \d+ on .*\) ended: the disk is full\.$/,
    )
  }
})

test.each([0, 2])("kill -9 of rank %i of 3: the others end at once, and name it", async (killed) => {
  const port = await freePort()
  const members = [0, 1, 2].map((rank) => startMember("endless", rank, { size: 3, port, timeout: 60 }))
  await Promise.all(members.map(({ joined }) => joined))
  await sleep(500)
  members[killed]!.child.kill("SIGKILL")
  const begin = performance.now()
  const all = await Promise.all(members.map(({ ended }) => ended))
  expect((performance.now() - begin) / 1000).toBeLessThan(20) // not the 60 s of the timeout
  for (const { rank, error, code } of all) {
    if (rank === killed) continue
    expect(code).toBe(1) // an error, no crash
    expect(error).toMatch(new RegExp(`together: rank ${killed} \\(process \\d+ on .*\\) is gone`))
  }
})

test("two processes of one rank, and two opinions of how many there are", async () => {
  const port = await freePort()
  const twice = [0, 1, 1].map((rank) => startMember("collectives", rank, { size: 3, port, timeout: 3 }))
  const errors = (await Promise.all(twice.map(({ ended }) => ended))).map(({ error }) => error)
  expect(errors).toContainEqual(expect.stringMatching(/^Rank 1 has joined at 127\.0\.0\.1:\d+ before: two processes/))
  expect(errors[0]).toMatch(/^Rank 2 of 3 processes has not come within 3 s\./)

  const other = await freePort()
  const unequal = [2, 4].map((size, rank) => startMember("collectives", rank, { size, port: other }))
  const message =
    "Rank 1 was told that there are 4 processes, and rank 0 that there are 2. Start all with the same number."
  expect((await Promise.all(unequal.map(({ ended }) => ended))).map(({ error }) => error)).toEqual([message, message])
})

test("where somebody else keeps the store, as torchrun does, rank 0 is a guest too", async () => {
  const port = await freePort()
  const store = await native.openStore("127.0.0.1", port, true, 5000, "torchrun's own")
  const members = [0, 1].map((rank) => startMember("collectives", rank, { size: 2, port, hasStore: true }))
  for (const { error, value } of await Promise.all(members.map(({ ended }) => ended))) {
    expect([error, value.copied]).toEqual([undefined, 0])
  }
  await native.closeStore(store)
})

test("a port that is taken is told in words", async () => {
  const port = await freePort()
  const { createServer } = await import("node:net")
  const server = createServer().listen(port)
  try {
    const join = joinFirst({ port, timeout: 2 })
    await expect(join).rejects.toThrow(`Port ${port} of this machine is taken`)
    await expect(join).rejects.toThrow(UserError)
  } finally {
    server.close()
  }
})

test("one process is a group, too", async () => {
  expect([alone.rank, alone.size, alone.isMain, alone.gather(3)]).toEqual([0, 1, true, [3]])
  expect([...alone.sumNumbers([1, 2])]).toEqual([1, 2])
  const error = new Error("as it is")
  expect(await alone.fail(error)).toBe(error)
})
