// Runs a tool or a script of this repository: sets up what is missing first (quiet when nothing is), then starts it under a Node
// that is new enough, with our arguments, terminal, signals and exit code.
//   node scripts/with-node.mjs vitest run tests/setup
//   node scripts/with-node.mjs bench/run.ts --rounds 5

import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join, resolve } from "node:path"
import { findNode, keepCompiled, runAndExit } from "./node.mjs"
import { setupOrExit } from "./setup.mjs"

/** Tools by the name of their command, and the npm package each comes in. */
const tools = { vitest: "vitest", tsc: "typescript", biome: "@biomejs/biome" }

/** Path of a tool's JavaScript, or of a script. */
function locate(command) {
  if (command in tools) {
    const manifest = createRequire(import.meta.url).resolve(`${tools[command]}/package.json`)
    return join(dirname(manifest), JSON.parse(readFileSync(manifest, "utf8")).bin[command])
  }
  return existsSync(command) ? resolve(command) : undefined
}

const [command, ...args] = process.argv.slice(2)
if (command === undefined) {
  console.error(`usage: with-node.mjs <${Object.keys(tools).join(" | ")} | script> [arguments]`)
  process.exit(2)
}
await setupOrExit()
const script = locate(command)
if (script === undefined) {
  console.error(`with-node: there is no script ${command}, and the tools are ${Object.keys(tools).join(", ")}.`)
  process.exit(2)
}
keepCompiled()
runAndExit(findNode(), [script, ...args])
