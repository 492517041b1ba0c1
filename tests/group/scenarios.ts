// What the processes of a group do in tests: `node scenarios.ts NAME`, started by together.ts. The result is the last line of output.
import { setTimeout as sleep } from "node:timers/promises"
import { type Group, GroupError, ProcessGroup, tensor, tidy } from "../../src/torch/index.ts"

// biome-ignore lint/suspicious/noExplicitAny: each scenario has its own
type Scenario = (group: Group, data: any) => unknown

const scenarios: Record<string, Scenario> = {
  collectives(group) {
    return tidy(() => {
      const x = tensor([1, 2, 3]).mul(group.rank + 1)
      x.requiresGrad_()
      const y = group.sum(x)
      y.mul(tensor([1, 10, 100]).mul(group.rank + 1))
        .sum()
        .backward()
      const copied = tensor([group.rank])
      group.copyFromMain([copied])
      return {
        sum: y.toArray(),
        gradient: x.grad!.toArray(),
        numbers: [...group.sumNumbers([group.rank, 2 ** 52])],
        gathered: group.gather({ rank: group.rank, text: "x".repeat(group.rank) }),
        fromMain: group.fromMain(`of ${group.rank}`),
        copied: copied.item(),
      }
    })
  },

  /** Sums without end, until another process is gone. */
  async endless(group) {
    for (;;) {
      group.sumNumbers([1])
      await sleep(10)
    }
  },

  /** As endless, but one rank has an error of its own. */
  async oneFails(group) {
    for (let step = 0; ; step++) {
      if (group.rank === 1 && step === 5) throw new Error("the disk is full")
      group.sumNumbers([1])
      await sleep(10)
    }
  },
}

const { data, ...membership } = JSON.parse(process.env.MEMBER!)
const tell = (value: object) => console.log(JSON.stringify(value))
let group: Group | undefined
try {
  group = await ProcessGroup.join({ localSize: membership.size, ...membership })
  tell({ joined: true })
  const value = await scenarios[process.argv[2]!]!(group, data)
  await group.leave()
  tell({ value })
} catch (caught) {
  const error = group ? await group.fail(caught) : caught
  tell({ error: (error as Error).message, isOfGroup: error instanceof GroupError })
  process.exitCode = 1
}
