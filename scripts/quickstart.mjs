// `npm run quickstart`: sets up what is missing, then `pixelwise quickstart`: makes a data set, trains, evaluates, shows pictures.

import { fileURLToPath } from "node:url"
import { findNode, runAndExit } from "./node.mjs"
import { setupOrExit } from "./setup.mjs"

await setupOrExit()
const cli = fileURLToPath(new URL("../bin/pixelwise.js", import.meta.url))
runAndExit(findNode(), [cli, "quickstart", ...process.argv.slice(2)])
