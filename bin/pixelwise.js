#!/usr/bin/env node
// The command `pixelwise`: starts the CLI under a Node that is new enough. In a checkout that is src/cli/main.ts, run as it is;
// in an installed package dist/cli/main.js. Plain JavaScript: this runs on Node 20.

import { existsSync } from "node:fs"
import { fileURLToPath, pathToFileURL } from "node:url"
import { findNode, keepCompiled, nodeIsTooOld, runAndExit } from "../scripts/node.mjs"

const inRoot = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
const source = inRoot("src/cli/main.ts")
const isCheckout = existsSync(source)
const main = isCheckout ? source : inRoot("dist/cli/main.js")

const setup = isCheckout ? "npm run setup" : `node ${inRoot("scripts/setup.mjs")}`
if (isCheckout && !existsSync(inRoot("node_modules"))) {
  console.error(`pixelwise is not set up yet. Run: ${setup}`)
  process.exit(2)
}
const node = findNode()
if (node === undefined) {
  console.error(`pixelwise: ${nodeIsTooOld}`)
  process.exit(2)
}

keepCompiled()
if (node === process.execPath) await import(pathToFileURL(main).href)
else runAndExit(node, [main, ...process.argv.slice(2)])
