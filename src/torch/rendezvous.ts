// How processes find each other, and how they find out who is missing: through libtorch's store, a small server in rank 0 in which
// each leaves word under a name.
import { createSocket } from "node:dgram"
import { lookup } from "node:dns/promises"
import { connect } from "node:net"
import { hostname, networkInterfaces } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { UserError } from "../errors.ts"
import { native } from "./native.ts"

/** A process's place among those that train together. */
export interface Membership {
  readonly rank: number
  readonly size: number
  /** Where rank 0 is: a name or an address, and a port. */
  readonly host: string
  readonly port: number
  /** Whether somebody else keeps the store there, as torchrun does; else rank 0 itself. */
  readonly hasStore?: boolean
  /** Under which they meet there; another one when a launcher starts them again. */
  readonly name?: string
  /** Seconds after which those who wait for a process give up on it. */
  readonly timeout: number
}

interface Member {
  readonly host: string
  readonly process: number
  readonly size: number
  /** By which others reach it. */
  readonly address: string
}

/** How a process ended: by an error of its own, or because it lost the others. */
interface Ending {
  readonly isLost: boolean
  readonly message: string
}

const POLL = 50 // milliseconds
const LAST_WORDS = 5000 // milliseconds in which those who live say so once the group has failed

export class Rendezvous {
  readonly #membership: Membership
  readonly #store: number
  readonly #members: (Member | null)[] = []

  private constructor(membership: Membership, store: number) {
    this.#membership = membership
    this.#store = store
  }

  /**
   * Waits until all processes have come.
   * @throws UserError when some do not, or two claim the same rank, or they do not agree how many there are
   */
  static async of(membership: Membership, signal?: AbortSignal): Promise<Rendezvous> {
    const { rank } = membership
    const rendezvous = new Rendezvous(membership, await openStore(membership, signal))
    try {
      await rendezvous.#announce()
      if (rank === 0) await rendezvous.#welcome(signal)
      else await rendezvous.#beWelcomed(signal)
      return rendezvous
    } catch (error) {
      await rendezvous.close()
      throw error
    }
  }

  /** The store, for the group that is made of it. */
  get store(): number {
    return this.#store
  }

  /** By which others reach this process. */
  async address(): Promise<string> {
    const own = this.#members[this.#membership.rank]!.address
    // On rank 0's machine its own name may stand for a loopback address (Debian's /etc/hosts), or it was told "localhost".
    const elsewhere = this.#members.find((member) => !isLoopback(member!.address))
    return isLoopback(own) && elsewhere ? await addressTowards(elsewhere.address, this.#membership.port) : own
  }

  async #announce(): Promise<void> {
    const { rank, size, host, port } = this.#membership
    if ((await native.storeAdd(this.#store, `count/${rank}`, 1)) > 1) {
      throw new UserError(
        `Rank ${rank} has joined at ${host}:${port} before: two processes were given the same rank. Give each its own, from 0 to ${size - 1}.`,
      )
    }
    const member: Member = { host: hostname(), process: process.pid, size, address: await addressTowards(host, port) }
    await this.#say(`here/${rank}`, member)
  }

  async #welcome(signal?: AbortSignal): Promise<void> {
    const { size, timeout } = this.#membership
    const end = performance.now() + 1000 * timeout
    const missing = new Set(Array.from({ length: size }, (_, rank) => rank))
    for (; ; await sleep(POLL)) {
      for (const rank of missing) {
        const member = await this.#hear<Member>(`here/${rank}`)
        if (member === null) continue
        missing.delete(rank)
        this.#members[rank] = member
      }
      const wrong = this.#members.findIndex((member) => member != null && member.size !== size)
      if (wrong >= 0) {
        await this.#sendAway(unequalSizes(wrong, this.#members[wrong]!.size, size))
      }
      if (missing.size === 0) break
      if (performance.now() > end) {
        const those = list([...missing].sort((a, b) => a - b))
        await this.#sendAway(
          `${missing.size === 1 ? `Rank ${those} of ${size} processes has` : `Ranks ${those} of ${size} processes have`} not come within ${timeout} s. Start ${missing.size === 1 ? "it" : "them"}, or wait longer: --group-timeout.`,
        )
      }
      signal?.throwIfAborted()
    }
    await this.#say("start", { members: this.#members })
  }

  async #sendAway(problem: string): Promise<never> {
    await this.#say("start", { problem })
    await this.#untilHeard(Array.from(this.#members.keys()).filter((rank) => this.#members[rank] != null))
    throw new UserError(problem)
  }

  async #beWelcomed(signal?: AbortSignal): Promise<void> {
    const { rank, size, timeout } = this.#membership
    const end = performance.now() + 1000 * timeout + LAST_WORDS
    while (performance.now() < end) {
      const start = await this.#hear<{ members?: Member[]; problem?: string }>("start").catch((cause: unknown) => {
        throw new UserError("Rank 0 ended before all processes had come. Its own output says why.", { cause })
      })
      if (start?.members) {
        this.#members.push(...start.members)
        if (start.members.length === size) return
        throw new UserError(unequalSizes(rank, size, start.members.length))
      }
      if (start?.problem) {
        await this.#say(`heard/${rank}`, true)
        throw new UserError(start.problem)
      }
      signal?.throwIfAborted()
      await sleep(POLL)
    }
    throw new UserError(`Rank 0 did not begin within ${timeout} s. Does it wait for others, or hang?`)
  }

  /**
   * After a failure: says how this process ended, and finds out whose fault it was. Those who live agree on it.
   * @returns a sentence
   */
  async settle(own: Ending): Promise<string> {
    const { rank } = this.#membership
    try {
      await this.#say(`ending/${rank}`, own)
      if (!own.isLost && rank !== 0) return own.message // the others will hear
      if (rank !== 0) {
        // Rank 0 may be saving first.
        const end = performance.now() + 1000 * this.#membership.timeout + 2 * LAST_WORDS
        while (performance.now() < end) {
          const verdict = await this.#hear<string>("verdict")
          if (verdict !== null) {
            await this.#say(`heard/${rank}`, true)
            return verdict
          }
          await sleep(POLL)
        }
        return `${this.#name(0)} hangs`
      }
      const { verdict, readers } = await this.#judge(own)
      await this.#say("verdict", verdict)
      await this.#untilHeard(readers)
      return verdict
    } catch {
      return `${this.#name(0)} is gone`
    }
  }

  /** Rank 0's: waits until all have said how they ended, or one has said that it is to blame. */
  async #judge(own: Ending): Promise<{ verdict: string; readers: number[] }> {
    const ranks = Array.from(this.#members.keys())
    const endings = new Map([[0, own]])
    const end = performance.now() + LAST_WORDS
    for (; ; await sleep(POLL)) {
      for (const rank of ranks) {
        const ending = endings.get(rank) ?? (await this.#hear<Ending>(`ending/${rank}`))
        if (ending) endings.set(rank, ending)
      }
      const guilty = ranks.find((rank) => endings.get(rank)?.isLost === false)
      if (guilty !== undefined) {
        const verdict = `${this.#name(guilty)} ended: ${endings.get(guilty)!.message}`
        return { verdict, readers: ranks.filter((rank) => rank !== guilty) }
      }
      const silent = ranks.filter((rank) => !endings.has(rank))
      if (silent.length === 0) return { verdict: `their connections broke: ${own.message}`, readers: ranks }
      if (performance.now() > end) {
        const names = list(silent.map((rank) => this.#name(rank)))
        const verdict = `${names} ${silent.length === 1 ? "is gone, or hangs" : "are gone, or hang"}`
        return { verdict, readers: ranks.filter((rank) => endings.has(rank)) }
      }
    }
  }

  /** Rank 0's: its store must stay until the others have read in it. */
  async #untilHeard(ranks: readonly number[]): Promise<void> {
    const end = performance.now() + LAST_WORDS / 2
    const waiting = new Set(ranks.filter((rank) => rank !== 0))
    while (waiting.size > 0 && performance.now() < end) {
      for (const rank of waiting) if ((await this.#hear(`heard/${rank}`)) !== null) waiting.delete(rank)
      await sleep(POLL)
    }
  }

  async close(): Promise<void> {
    await native.closeStore(this.#store)
  }

  /** "rank 1 (process 4711 on node7)" */
  #name(rank: number): string {
    const member = this.#members[rank]
    return `rank ${rank}${member ? ` (process ${member.process} on ${member.host})` : ""}`
  }

  #say(key: string, value: unknown): Promise<void> {
    return native.storeSet(this.#store, key, JSON.stringify(value))
  }

  async #hear<T>(key: string): Promise<T | null> {
    const text = await native.storeGet(this.#store, key)
    return text === null ? null : (JSON.parse(text) as T)
  }
}

/** Rank 0's server, or the way to it: it may begin later. */
async function openStore(
  { rank, host, port, hasStore = false, name = "", timeout }: Membership,
  signal?: AbortSignal,
): Promise<number> {
  const milliseconds = Math.ceil(1000 * timeout)
  const prefix = `pixelwise${name}`
  if (rank === 0 && !hasStore) {
    return await native.openStore(host, port, true, milliseconds, prefix).catch((cause: Error) => {
      const isTaken = /address already in use|EADDRINUSE/i.test(cause.message)
      throw new UserError(
        isTaken
          ? `Port ${port} of this machine is taken, and the processes were to meet there. Choose another MASTER_PORT.`
          : `Rank 0 cannot open ${host}:${port}, where the processes were to meet: ${cause.message.split("\n")[0]}. Is MASTER_ADDR this machine's address?`,
        { cause },
      )
    })
  }
  const end = performance.now() + milliseconds
  // libtorch would ask again and again by itself, but log each time, and hear of no signal.
  while (!(await answers(host, port))) {
    if (performance.now() > end) {
      throw new UserError(
        `${hasStore ? "torchrun" : "Rank 0"} was not found at ${host}:${port} within ${timeout} s. Is it started, and are MASTER_ADDR and MASTER_PORT right?`,
      )
    }
    signal?.throwIfAborted()
    await sleep(2 * POLL)
  }
  return await native.openStore(host, port, false, milliseconds, prefix)
}

/** Whether anybody listens there. */
const answers = (host: string, port: number): Promise<boolean> =>
  new Promise((done) => {
    const socket = connect({ host, port, timeout: 1000 })
    const answer = (is: boolean) => {
      socket.destroy()
      done(is)
    }
    socket.once("connect", () => answer(true))
    socket.once("timeout", () => answer(false))
    socket.once("error", () => answer(false)) // nobody yet, or the name is not yet known
  })

/** This machine's address on the way to another one. PyTorch's GLOO_SOCKET_IFNAME chooses the network interface. */
async function addressTowards(host: string, port: number): Promise<string> {
  const chosen = process.env.GLOO_SOCKET_IFNAME
  if (chosen) {
    const [first] = networkInterfaces()[chosen] ?? []
    if (first) return first.address
    throw new UserError(
      `GLOO_SOCKET_IFNAME is "${chosen}", which this machine does not have. It has ${Object.keys(networkInterfaces()).join(", ")}.`,
    )
  }
  const { address, family } = await lookup(host)
  const socket = createSocket(family === 6 ? "udp6" : "udp4")
  try {
    // Nothing is sent: connecting only chooses the route.
    await new Promise<void>((done, fail) => {
      socket.once("error", fail)
      socket.connect(port, address, () => done())
    })
    return socket.address().address
  } finally {
    socket.close()
  }
}

const unequalSizes = (rank: number, told: number, mainTold: number): string =>
  `Rank ${rank} was told that there are ${told} processes, and rank 0 that there are ${mainTold}. Start all with the same number.`

const isLoopback = (address: string): boolean => address.startsWith("127.") || address === "::1"

const list = (names: readonly (string | number)[]): string =>
  names.length < 2 ? String(names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
