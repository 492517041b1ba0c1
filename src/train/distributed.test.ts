import { availableParallelism } from "node:os"
import { describe, expect, test } from "vitest"
import { coresOf, firstHost, membershipFrom } from "./distributed.ts"

const torchrun = {
  RANK: "5",
  WORLD_SIZE: "8",
  LOCAL_RANK: "1",
  LOCAL_WORLD_SIZE: "4",
  MASTER_ADDR: "node1",
  MASTER_PORT: "29500",
}
const slurm = {
  SLURM_PROCID: "5",
  SLURM_NTASKS: "8",
  SLURM_LOCALID: "1",
  SLURM_NODEID: "2",
  SLURM_JOB_ID: "4711",
  SLURM_STEP_ID: "0",
  SLURM_JOB_NODELIST: "node[03-05,09]",
  SLURM_TASKS_PER_NODE: "2(x3),2",
}

test("nothing in the environment, or a world of one: a process by itself", () => {
  expect(membershipFrom({})).toBeNull()
  expect(membershipFrom({ RANK: "", WORLD_SIZE: "" })).toBeNull()
  expect(membershipFrom({ RANK: "0", WORLD_SIZE: "1" })).toBeNull()
  expect(membershipFrom({ SLURM_PROCID: "0", SLURM_NTASKS: "1" })).toBeNull()
  expect(membershipFrom({ SLURM_NTASKS: "4" })).toBeNull() // the shell of salloc: no task
})

test("torchrun", () => {
  expect(membershipFrom(torchrun)).toEqual({ rank: 5, size: 8, localRank: 1, localSize: 4, host: "node1", port: 29500 })
})

test("torchrun that keeps the store itself", () => {
  const elastic = { TORCHELASTIC_USE_AGENT_STORE: "True", TORCHELASTIC_RESTART_COUNT: "2" }
  expect(membershipFrom({ ...torchrun, ...elastic })).toMatchObject({ rank: 5, port: 29500, hasStore: true, name: "2" })
  const own = { ...elastic, TORCHELASTIC_USE_AGENT_STORE: "False" }
  expect(membershipFrom({ ...torchrun, ...own })).toEqual(membershipFrom(torchrun))
})

test("Kubernetes' PyTorchJob, which says nothing of the machine", () => {
  const { LOCAL_RANK, LOCAL_WORLD_SIZE, ...job } = torchrun
  expect([LOCAL_RANK, LOCAL_WORLD_SIZE, membershipFrom(job)]).toEqual([
    "1",
    "4",
    { rank: 5, size: 8, localRank: 0, localSize: 1, host: "node1", port: 29500 },
  ])
})

test("Slurm: the first node of the job, a port by the job's number", () => {
  expect(membershipFrom(slurm)).toEqual({ rank: 5, size: 8, localRank: 1, localSize: 2, host: "node03", port: 16_711 })
  expect(membershipFrom({ ...slurm, SLURM_JOB_ID: "98765432", SLURM_STEP_ID: "3" })).toMatchObject({
    port: 12_000 + ((98765432 + 3 * 97) % 20_000),
  })
  // A step that has a part of the job's tasks and nodes.
  const step = { SLURM_STEP_NUM_TASKS: "6", SLURM_STEP_NODELIST: "node09", SLURM_STEP_TASKS_PER_NODE: "6" }
  expect(membershipFrom({ ...slurm, ...step, SLURM_NODEID: "0" })).toMatchObject({
    size: 6,
    localSize: 6,
    host: "node09",
  })
  expect(membershipFrom({ ...slurm, MASTER_ADDR: "a", MASTER_PORT: "1" })).toMatchObject({ host: "a", port: 1 })
  // torchrun that Slurm has started
  expect(membershipFrom({ ...slurm, ...torchrun })).toMatchObject({ rank: 5, localSize: 4, host: "node1" })
})

test("cores: a share of the machine's, or what Slurm gives a task", () => {
  const cores = availableParallelism()
  expect(coresOf({ localSize: 1 }, {})).toBe(cores)
  expect(coresOf({ localSize: 2 }, {})).toBe(Math.max(1, Math.floor(cores / 2)))
  expect(coresOf({ localSize: 4 * cores }, {})).toBe(1)
  expect(coresOf({ localSize: 4 }, { SLURM_CPUS_PER_TASK: "1" })).toBe(1)
  expect(coresOf({ localSize: 4 }, { SLURM_CPUS_PER_TASK: "1000" })).toBe(cores)
  // Workers of `pixelwise train --nproc` within a task
  expect(coresOf({ localSize: cores }, { SLURM_CPUS_PER_TASK: "1000", RANK: "0" })).toBe(1)
})

test.each([
  ["node1", "node1"],
  ["node1,node2", "node1"],
  ["node[03-05,09],other1", "node03"],
  ["node[7,9-10]", "node7"],
  ["rack[2-3]-gpu[08,09]-x,b[1-2]", "rack2-gpu08-x"],
])("of the nodes %s the first is %s", (nodes, first) => {
  expect(firstHost(nodes)).toBe(first)
})

describe("contradictions are told", () => {
  test.each<[Record<string, string | undefined>, RegExp]>([
    [{ ...torchrun, RANK: undefined }, /^WORLD_SIZE is 8, but RANK is not set: give both\.$/],
    [{ ...torchrun, WORLD_SIZE: undefined }, /^RANK is 5, but WORLD_SIZE is not set: give both\.$/],
    [{ ...torchrun, RANK: "8" }, /^RANK is 8, but WORLD_SIZE is 8: expected 0 to 7\.$/],
    [{ ...torchrun, RANK: "-1" }, /^RANK is "-1"; expected a whole number of at least 0\.$/],
    [{ ...torchrun, WORLD_SIZE: "two" }, /^WORLD_SIZE is "two"; expected a whole number of at least 1\.$/],
    [{ ...torchrun, LOCAL_RANK: "4" }, /^LOCAL_RANK is 4, but LOCAL_WORLD_SIZE is 4\.$/],
    [{ ...torchrun, RANK: "0" }, /^LOCAL_RANK is 1, but RANK is only 0\.$/],
    [{ ...torchrun, LOCAL_WORLD_SIZE: "9" }, /^LOCAL_WORLD_SIZE is 9, but WORLD_SIZE is only 8\.$/],
    [
      { ...torchrun, MASTER_ADDR: "" },
      /^This is rank 5 of 8 processes, but MASTER_ADDR is not set: where is rank 0\?$/,
    ],
    [{ ...torchrun, MASTER_ADDR: "", MASTER_PORT: "" }, /MASTER_ADDR and MASTER_PORT are not set/],
    [{ ...torchrun, MASTER_PORT: "99999" }, /^MASTER_PORT is "99999"; expected a whole number from 1 to 65535\.$/],
    [{ ...slurm, SLURM_STEP_ID: undefined }, /^This is a Slurm job of 8 tasks, but the command runs once.*write srun/],
    [{ ...slurm, SLURM_PROCID: "8", SLURM_LOCALID: "0" }, /^SLURM_PROCID is 8, but there are 8 tasks\.$/],
    [{ ...slurm, SLURM_PROCID: "0" }, /^SLURM_LOCALID is 1, but SLURM_PROCID is only 0\.$/],
    [{ ...slurm, SLURM_JOB_NODELIST: undefined }, /^Slurm's SLURM_JOB_NODELIST is not set/],
  ])("%j", (env, message) => {
    expect(() => membershipFrom(env)).toThrow(message)
  })
})
