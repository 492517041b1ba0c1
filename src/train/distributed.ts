// Whether this process is one of several that train together, and which: by the environment that a launcher gives it. torchrun,
// Kubernetes' PyTorchJob and `pixelwise train --nproc` set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; Slurm its own names.
import { availableParallelism } from "node:os"
import { UserError } from "../errors.ts"
import { alone, type Group, type JoinOptions, ProcessGroup } from "../torch/index.ts"

type Environment = Readonly<Record<string, string | undefined>>

/** Seconds in which all processes must have come, and after which a process that hangs is given up. */
export const GROUP_TIMEOUT = 300

/**
 * Waits for the other processes, if the environment says that there are any.
 * @throws UserError when it contradicts itself, or the others do not come
 */
export async function joinGroup({
  env = process.env as Environment,
  timeout = GROUP_TIMEOUT,
  signal,
}: {
  env?: Environment
  timeout?: number
  signal?: AbortSignal
} = {}): Promise<Group> {
  const membership = membershipFrom(env)
  return membership ? await ProcessGroup.join({ ...membership, timeout }, signal) : alone
}

/** Cores of this machine that are this process's share: Slurm says how many a task has, and may show it no others. */
export function coresOf({ localSize }: Pick<Group, "localSize">, env: Environment = process.env): number {
  const cores = availableParallelism()
  const ofTask = env.RANK === undefined ? Number(env.SLURM_CPUS_PER_TASK) : Number.NaN
  return ofTask > 0 ? Math.min(cores, ofTask) : Math.max(1, Math.floor(cores / localSize))
}

/** Null for a process by itself. @throws UserError when the environment contradicts itself */
export function membershipFrom(env: Environment): Omit<JoinOptions, "timeout"> | null {
  const isGiven = (name: string) => env[name] !== undefined && env[name] !== ""
  if (isGiven("RANK") || isGiven("WORLD_SIZE")) return fromTorchrun(env)
  if (isGiven("SLURM_PROCID") && isGiven("SLURM_NTASKS")) return fromSlurm(env)
  return null
}

function fromTorchrun(env: Environment): Omit<JoinOptions, "timeout"> | null {
  const missing = ["RANK", "WORLD_SIZE"].filter((name) => !env[name])
  const [given] = ["RANK", "WORLD_SIZE"].filter((name) => env[name])
  if (missing.length > 0) throw new UserError(`${given} is ${env[given!]}, but ${missing[0]} is not set: give both.`)
  const size = whole(env, "WORLD_SIZE", 1)
  const rank = whole(env, "RANK", 0)
  if (rank >= size) throw new UserError(`RANK is ${rank}, but WORLD_SIZE is ${size}: expected 0 to ${size - 1}.`)
  const localSize = env.LOCAL_WORLD_SIZE ? whole(env, "LOCAL_WORLD_SIZE", 1) : 1
  if (localSize > size) throw new UserError(`LOCAL_WORLD_SIZE is ${localSize}, but WORLD_SIZE is only ${size}.`)
  const localRank = env.LOCAL_RANK ? whole(env, "LOCAL_RANK", 0) : 0
  if (env.LOCAL_WORLD_SIZE && localRank >= localSize) {
    throw new UserError(`LOCAL_RANK is ${localRank}, but LOCAL_WORLD_SIZE is ${localSize}.`)
  }
  if (localRank > rank) throw new UserError(`LOCAL_RANK is ${localRank}, but RANK is only ${rank}.`)
  if (size === 1) return null
  if (!env.MASTER_ADDR || !env.MASTER_PORT) {
    const missing = ["MASTER_ADDR", "MASTER_PORT"].filter((name) => !env[name])
    throw new UserError(
      `This is rank ${rank} of ${size} processes, but ${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} not set: where is rank 0?`,
    )
  }
  const place = { rank, size, localRank, localSize, host: env.MASTER_ADDR, port: whole(env, "MASTER_PORT", 1, 65535) }
  // torchrun keeps the store itself in some of its modes, and starts all processes again when one has failed.
  const name = env.TORCHELASTIC_RESTART_COUNT ?? ""
  return env.TORCHELASTIC_USE_AGENT_STORE === "True" ? { ...place, hasStore: true, name } : place
}

// Ports from here on are neither well known nor given out to outgoing connections (from 32768 on).
const [FIRST_PORT, PORTS] = [12_000, 20_000]

function fromSlurm(env: Environment): Omit<JoinOptions, "timeout"> | null {
  const size = env.SLURM_STEP_NUM_TASKS ? whole(env, "SLURM_STEP_NUM_TASKS", 1) : whole(env, "SLURM_NTASKS", 1)
  const rank = whole(env, "SLURM_PROCID", 0)
  if (size === 1) return null
  if (env.SLURM_STEP_ID === undefined) {
    throw new UserError(
      `This is a Slurm job of ${size} tasks, but the command runs once, in its script: write srun before it, or ask for one task.`,
    )
  }
  if (rank >= size) throw new UserError(`SLURM_PROCID is ${rank}, but there are ${size} tasks.`)
  const nodes = env.SLURM_STEP_NODELIST ?? env.SLURM_JOB_NODELIST
  const host = env.MASTER_ADDR ?? (nodes ? firstHost(nodes) : undefined)
  if (!host) throw new UserError("Slurm's SLURM_JOB_NODELIST is not set: where is rank 0? Set MASTER_ADDR.")
  // Steps of one job may run at once on one machine.
  const jobAndStep = () => whole(env, "SLURM_JOB_ID", 0) + 97 * whole(env, "SLURM_STEP_ID", 0)
  const port = env.MASTER_PORT ? whole(env, "MASTER_PORT", 1, 65535) : FIRST_PORT + (jobAndStep() % PORTS)
  const perNode = tasksPerNode(env.SLURM_STEP_TASKS_PER_NODE ?? env.SLURM_TASKS_PER_NODE ?? "")
  const localSize = perNode[env.SLURM_NODEID ? whole(env, "SLURM_NODEID", 0) : 0] ?? 1
  const localRank = env.SLURM_LOCALID ? whole(env, "SLURM_LOCALID", 0) : 0
  if (localRank > rank) throw new UserError(`SLURM_LOCALID is ${localRank}, but SLURM_PROCID is only ${rank}.`)
  return { rank, size, localRank, localSize, host, port }
}

/** Of Slurm's list of nodes the first: node03 of "node[03-05,09],other1". */
export function firstHost(nodes: string): string {
  const [first] = nodes.split(/,(?![^[]*\])/) as [string] // at commas outside of brackets
  return first.replaceAll(/\[([^\]]*)\]/g, (_, ranges: string) => ranges.split(/[-,]/)[0]!)
}

/** "2(x3),1" is [2, 2, 2, 1]. */
function tasksPerNode(text: string): number[] {
  return Array.from(text.matchAll(/(\d+)(?:\(x(\d+)\))?/g)).flatMap(([, tasks, nodes = "1"]) =>
    new Array<number>(Number(nodes)).fill(Number(tasks)),
  )
}

function whole(env: Environment, name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const text = env[name]
  const value = Number(text)
  if (text && /^\d+$/.test(text) && value >= least && value <= most) return value
  const range = most < Number.MAX_SAFE_INTEGER ? `from ${least} to ${most}` : `of at least ${least}`
  throw new UserError(`${name} is ${text === undefined ? "not set" : `"${text}"`}; expected a whole number ${range}.`)
}
