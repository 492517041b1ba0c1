// What the processes of a group do in tests: `node scenarios.ts NAME`, started by together.ts. The result is the last line of output.
import { setTimeout as sleep } from "node:timers/promises"
import { losses } from "../../src/losses/index.ts"
import { createObjective } from "../../src/losses/objective.ts"
import {
  BatchNorm2d,
  batchNormsOf,
  Conv2d,
  KeptStatistics,
  ReLU,
  Sequential,
  unfoldBatchNorms,
} from "../../src/nn/index.ts"
import {
  fromData,
  type Group,
  GroupError,
  grad,
  liveTensors,
  memory,
  Parameter,
  ProcessGroup,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "../../src/torch/index.ts"

/** Numbers from 0 to 1 that every process draws alike. */
function drawn(seed: number, shape: readonly number[]): Tensor {
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  return fromData(Float64Array.from({ length: shape.reduce((a, b) => a * b) }, next), shape)
}

/** This rank's part along the first axis. */
const partOf = (whole: Tensor, { rank, size }: Group): Tensor => {
  const length = whole.size(0) / size
  return whole.narrow(0, rank * length, length).clone()
}

/** Largest difference, as a part of the largest number. */
const difference = (a: Tensor, b: Tensor): number => a.sub(b).abs().max().item() / b.abs().max().item()

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
        copied: copied.item(),
      }
    })
  },

  /** Batch-norm of the whole batch against each rank's part of it with statistics of all; in float64. */
  batchNorm(group) {
    return tidy(() => {
      const shape = [2 * group.size, 3, 4, 5]
      const whole = drawn(1, shape)
        .mul(3)
        .add(tensor([100, -2, 0]).view([1, 3, 1, 1]))
      const slope = drawn(2, shape)
      const run = (x: Tensor, dy: Tensor, over: Group | null) => {
        const norm = new BatchNorm2d(3, { momentum: 0.3 }).to({ dtype: "float64" })
        norm.weight.setData(tensor([0.5, 2, -1], { dtype: "float64" }))
        norm.bias.setData(tensor([0.1, 0, -0.2], { dtype: "float64" }))
        if (over) norm.group = over
        x.requiresGrad_()
        const y = norm.callClamped(x, { low: 0, high: 0.7 })
        y.mul(dy).sum().backward()
        return [y.detach(), x.grad!, norm.weight.grad!, norm.bias.grad!, norm.running_mean, norm.running_var] as const
      }
      const [y, dx, dweight, dbias, mean, variance] = run(whole, slope, null)
      const own = run(partOf(whole.detach(), group), partOf(slope, group), group)
      return {
        y: difference(own[0], partOf(y, group)),
        dx: difference(own[1], partOf(dx, group)),
        dweight: difference(group.sum(own[2]), dweight),
        dbias: difference(group.sum(own[3]), dbias),
        mean: difference(own[4], mean),
        variance: difference(own[5], variance),
      }
    })
  },

  /** The same in bfloat16, as autocast gives it, against float32 of the rounded numbers. */
  batchNormOfFewBits(group) {
    return tidy(() => {
      const shape = [2 * group.size, 3, 16, 16]
      const rounded = (x: Tensor) => x.to({ dtype: "bfloat16" })
      const whole = rounded(
        drawn(1, shape)
          .mul(3)
          .add(tensor([100, -2, 0]).view([1, 3, 1, 1])),
      )
      const slope = rounded(drawn(2, shape))
      const run = (x: Tensor, dy: Tensor, over: Group | null) => {
        const norm = new BatchNorm2d(3, { momentum: 1 })
        if (over) norm.group = over
        x.requiresGrad_()
        const y = norm.call(x)
        const [dx] = grad([y], [x], { gradients: [dy] }) as [Tensor]
        return [y.detach(), dx, norm.running_mean, norm.running_var].map((each) => each.to({ dtype: "float32" }))
      }
      const full = (x: Tensor) => x.detach().to({ dtype: "float32" })
      const [y, dx, mean, variance] = run(full(whole), full(slope), null) as [Tensor, Tensor, Tensor, Tensor]
      const own = run(partOf(whole.detach(), group), partOf(slope, group), group) as [Tensor, Tensor, Tensor, Tensor]
      return {
        y: difference(own[0], partOf(y, group)),
        dx: difference(own[1], partOf(dx, group)),
        mean: difference(own[2], mean),
        variance: difference(own[3], variance),
      }
    })
  },

  /** What batch-norms learn of each process's own images, and what folded ones are given, are of all processes' images. */
  statistics(group) {
    return tidy(() => {
      const images = Array.from({ length: group.size }, (_, rank) =>
        drawn(10 + rank, [2, 3, 4, 4])
          .mul(rank + 1)
          .to({ dtype: "float32" }),
      )
      const norm = new BatchNorm2d(3)
      norm.call(images[group.rank]!)
      const own = group.gather(norm.running_mean.toArray())
      new KeptStatistics(norm).meanOver(group)
      const unfold = (some: readonly Tensor[], over?: Group) => {
        const folded = new BatchNorm2d(3)
        folded.bias.setData(tensor([1, 2, 3]))
        let next = 0
        unfoldBatchNorms(folded, () => folded.call(some[next++]!), some.length, over)
        return [...folded.stateDict()].flatMap(([, tensor]) => tensor.toArray() as number[])
      }
      return {
        own,
        mean: norm.running_mean.toArray(),
        unfolded: unfold([images[group.rank]!], group),
        byOne: unfold(images),
      }
    })
  },

  /** Each loss of a batch of which ranks have very different parts, against the whole batch at once; in float64. */
  losses(group) {
    return tidy(() => {
      const [n, k, h, w] = [2 * group.size, 4, 6, 5] as const
      const whole = drawn(3, [n, k, h, w]).mul(4)
      const labels = drawn(4, [n, h, w]).mul(k).to({ dtype: "int64" })
      labels.narrow(0, 0, 1).fill_(255) // rank 0 has few pixels that count
      labels
        .select(0, 1)
        .narrow(0, 1, h - 1)
        .fill_(255)
      labels.narrow(0, n / 2, n / 2).copy_(labels.narrow(0, n / 2, n / 2).clamp({ max: 2 })) // and rank 1 no pixel of class 3
      const weight = tensor([0.3, 1, 2, 5], { dtype: "float64" })
      const found: Record<string, { value: number; gradient: number }> = {}
      const check = (name: string, options: Omit<Parameters<typeof createObjective>[0], "group">) => {
        tidy(() => {
          const run = (x: Tensor, target: Tensor, over?: Group) => {
            x.requiresGrad_()
            const loss = createObjective({ ...options, group: over })(
              { logits: x, aux: x.mul(0.5) },
              { labels: target },
              { step: 3, progress: 0 },
            )
            loss.backward()
            return [loss.item(), x.grad!] as const
          }
          const [value, gradient] = run(whole.detach().clone(), labels)
          const [own, ownGradient] = run(partOf(whole.detach(), group), partOf(labels, group), group)
          found[name] = {
            value: Math.abs(group.sumNumbers([own])[0]! / group.size - value) / value,
            gradient: difference(ownGradient.div(group.size), partOf(gradient, group)),
          }
        })
      }
      for (const name of Object.keys(losses) as (keyof typeof losses)[]) {
        check(name, { terms: [{ name, factor: 1 }] })
        check(`weighted ${name}`, { terms: [{ name, factor: 1 }], weight })
      }
      const both = [
        { name: "cross-entropy", factor: 1 },
        { name: "dice", factor: 0.5 },
      ] as const
      check("sum, by pixels", { terms: both, weight, reduction: "mean-over-pixels", labelSmoothing: 0.1 })
      check("all of the top", { terms: [both[0]], mining: { topK: 1, until: 0 } })
      check("certain ones", { terms: [both[0]], mining: { threshold: 0.4, minKept: 0 } })
      return found
    })
  },

  /** Gradients: their mean; parameters that nobody uses, or one rank alone; several backward passes. */
  gradients(group) {
    const parameters = Array.from({ length: 5 }, (_, i) => new Parameter(tensor([1, 1]).mul(i + 1)))
    const [everyone, nobody, onlyOne, frozen, last] = parameters as [
      Parameter,
      Parameter,
      Parameter,
      Parameter,
      Parameter,
    ]
    frozen.requiresGrad_(false)
    using mean = group.meanGradients(parameters)
    const loss = (factor: number) =>
      [everyone, last, frozen, ...(group.rank === 1 ? [onlyOne] : [])]
        .reduce((sum, parameter) => sum.add(parameter), tensor([0, 0]))
        .mul(factor)
        .sum()
    const gradients: unknown[] = []
    for (let step = 0; step < 3; step++) {
      tidy(() => {
        loss(10).backward() // this rank's own, added up
        const value = loss(group.rank + 1)
        mean.prepare(value)
        value.backward()
        gradients.push(parameters.map(({ grad }) => grad?.toArray() ?? null))
        for (const parameter of parameters) parameter.grad = null
      })
    }
    void nobody
    return gradients
  },

  /** What is held after some steps with everything in them, and after many. */
  memory(group) {
    const model = new Sequential(new Conv2d(3, 4, 3), new BatchNorm2d(4), new ReLU(), new Conv2d(4, 2, 1))
    for (const norm of batchNormsOf(model)) norm.group = group
    const objective = createObjective({ terms: [{ name: "cross-entropy", factor: 1 }], group })
    using mean = group.meanGradients(model.parameters())
    const images = drawn(5, [2, 3, 8, 8]).to({ dtype: "float32" })
    const labels = zeros([2, 6, 6], { dtype: "int64" })
    // The least of some steps each: threads of gloo let go of a step's last sum a little later.
    const tensors: number[] = []
    const held = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    for (let step = 0; step < 120; step++) {
      tidy(() => {
        const loss = objective({ logits: model.call(images) }, { labels }, { step, progress: 0 })
        mean.prepare(loss)
        loss.backward()
        group.gather({ step })
        model.zeroGrad()
      })
      if (step === 10 || step === 119) tensors.push(liveTensors())
      const when = step >= 110 ? 1 : 0
      if (when === 1 || (step >= 10 && step < 20)) held[when] = Math.min(held[when]!, memory().liveBytes)
    }
    return { bytes: held, tensors }
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
  group = await ProcessGroup.join({ localRank: membership.rank, localSize: membership.size, ...membership })
  tell({ joined: true })
  const value = await scenarios[process.argv[2]!]!(group, data)
  await group.leave()
  tell({ value })
} catch (caught) {
  const error = group ? await group.fail(caught) : caught
  tell({ error: (error as Error).message, isOfGroup: error instanceof GroupError })
  process.exitCode = 1
}
