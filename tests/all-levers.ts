// For tests and benchmarks of what models compute: all levers on, also those that would not pay on this machine. Tests that
// start processes have those that are on by default.
import { levers } from "../src/torch/index.ts"

for (const name of Object.keys(levers) as (keyof typeof levers)[]) levers[name] = true
