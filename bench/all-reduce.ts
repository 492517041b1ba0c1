// How long processes take to add up their gradients: gloo's all-reduce on this machine's loopback, as a training step uses it.
//   node scripts/with-node.mjs bench/all-reduce.ts [--processes 2,4] [--rounds 15]
// Milliseconds of rank 0 from one all-reduce's beginning to the next one's; what the others cost it is in them.
import { spawn } from "node:child_process"
import { createServer } from "node:net"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { ProcessGroup, zeros } from "../src/torch/index.ts"
import { joinGroup } from "../src/train/distributed.ts"

const { values } = parseArgs({
  options: { processes: { type: "string", default: "2,4" }, rounds: { type: "string", default: "15" } },
})
const rounds = Number(values.rounds)

/** Numbers at once: one, as a step's loss; PyTorch's first bucket; a whole bucket; ResNet-50's gradients; DeepLabV3's on it. */
const sizes = { "1 number": 1, "1 MiB": 2 ** 18, "25 MiB": 25 * 2 ** 18, "94 MB": 23.5e6, "168 MB": 42e6 }

/** Milliseconds by size. */
async function measure(): Promise<Record<string, number[]>> {
  const group = await joinGroup()
  if (!(group instanceof ProcessGroup)) throw new Error("all-reduce.ts was started by hand as a worker.")
  const found: Record<string, number[]> = {}
  for (const [name, count] of Object.entries(sizes)) {
    using numbers = zeros([count])
    const times: number[] = []
    for (let round = -2; round < rounds; round++) {
      group.sumNumbers([0]) // all begin together
      const repeats = count === 1 ? 50 : 1
      const start = performance.now()
      for (let k = 0; k < repeats; k++) group.addUp(numbers)
      if (round >= 0) times.push((performance.now() - start) / repeats)
    }
    found[name] = times
  }
  await group.leave()
  return found
}

async function launch(count: number): Promise<Record<string, number[]>> {
  const port = await new Promise<number>((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
  const workers = Array.from({ length: count }, (_, rank) => {
    const own = { RANK: rank, WORLD_SIZE: count, MASTER_ADDR: "127.0.0.1", MASTER_PORT: port, OMP_NUM_THREADS: 1 }
    const env = {
      ...process.env,
      ...Object.fromEntries(Object.entries(own).map(([name, value]) => [name, `${value}`])),
    }
    return spawn(process.execPath, [import.meta.filename, "--rounds", values.rounds], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    })
  })
  const outputs = await Promise.all(workers.map(async ({ stdout }) => (await Array.fromAsync(stdout)).join("")))
  return JSON.parse(outputs[0]!)
}

if (process.env.RANK !== undefined) {
  console.log(JSON.stringify(await measure()))
} else {
  const rows: string[][] = []
  for (const count of values.processes.split(",").map(Number)) {
    for (const [name, times] of Object.entries(await launch(count))) {
      const middle = median(times)
      const bytes = 4 * sizes[name as keyof typeof sizes]
      const rate = (bytes * 2 * (count - 1)) / count / middle / 1e6 // what each process sends
      rows.push([
        `${count} processes, ${name}`,
        middle.toFixed(middle < 1 ? 3 : 1),
        Math.min(...times).toFixed(middle < 1 ? 3 : 1),
        bytes > 4 ? rate.toFixed(2) : "",
      ])
    }
  }
  console.log(table([`gloo, loopback, n = ${rounds}`, "median ms", "least ms", "GB/s sent by each"], rows))
}
