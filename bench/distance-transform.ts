// How long the distance transform of the Hausdorff loss takes: 21 planes of 512x512, both sides of each, on one core. In time of the
// processor, which other processes hardly change.
//   node scripts/with-node.mjs bench/distance-transform.ts [--rounds 20]

import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { interpolate } from "../src/nn/index.ts"
import { manualSeed, rand, setThreads, squaredDistance, type Tensor, tidy, zeros } from "../src/torch/index.ts"

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } })
const rounds = Number(values.rounds)
const [PLANES, SIDE] = [21, 512]
setThreads(1)
manualSeed(0)

/** True in squares of 64 pixels, half of them; the planes differ. */
const squares = () =>
  interpolate(rand([1, PLANES, SIDE / 64, SIDE / 64]), [SIDE, SIDE], { mode: "nearest" })
    .lt(0.5)
    .squeeze({ dim: 0 })
const masks: Record<string, () => Tensor> = {
  squares,
  noise: () => rand([PLANES, SIDE, SIDE]).lt(0.5),
  empty: () => zeros([PLANES, SIDE, SIDE], { dtype: "bool" }),
}

const rows = Object.entries(masks).map(([name, make]) =>
  tidy(() => {
    const mask = make()
    const times = Array.from({ length: rounds }, () => {
      const before = process.cpuUsage()
      squaredDistance(mask).dispose()
      const { user, system } = process.cpuUsage(before)
      return (user + system) / 1000
    })
    return [name, median(times).toFixed(0), Math.min(...times).toFixed(0)]
  }),
)
console.log(`${PLANES} planes of ${SIDE}x${SIDE}, one thread, n = ${rounds}; milliseconds`)
console.log(table(["masks", "median", "best"], rows))
