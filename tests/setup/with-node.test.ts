// with-node.mjs and the launcher behave like the program they start: arguments, exit code, signals.

import { type SpawnOptions, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { readdirSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, test } from "vitest"
import { findNode, runsTypeScript } from "../../scripts/node.mjs"
import { fakeMachine } from "./fake-machine.ts"

const withNode = fileURLToPath(new URL("../../scripts/with-node.mjs", import.meta.url))

function start(script: string, args: string[] = [], options: SpawnOptions = {}) {
  const child = spawn(process.execPath, [withNode, script, ...args], { stdio: ["ignore", "pipe", "pipe"], ...options })
  let output = ""
  child.stdout?.on("data", (data) => {
    output += data
  })
  child.stderr?.on("data", (data) => {
    output += data
  })
  const ended = once(child, "close").then(([code, signal]) => ({ code, signal, output }))
  const says = async (text: string) => {
    while (!output.includes(text)) await once(child.stdout as NodeJS.ReadableStream, "data")
  }
  return { child, ended, says }
}

test("Nodes that run TypeScript without a flag and a warning", () => {
  const good = ["24.3.0", "24.21.0", "26.0.0"]
  const bad = ["20.20.2", "22.9.0", "22.18.0", "23.11.0", "24.2.0"] // 22 cannot parse `using`; 23.6 to 24.2 warn at every start
  expect([...good, ...bad].filter(runsTypeScript)).toEqual(good)
})

test("a script gets its arguments as they are, and its exit code comes back; set-up that has nothing to do says nothing", async () => {
  const script = fakeMachine().write(
    "script.ts",
    "const args: string[] = process.argv.slice(2)\nconsole.log(JSON.stringify(args))\nprocess.exit(7)\n",
  )
  const args = ["--reporter=dot", "a b", "$HOME", ""]
  expect(await start(script, args).ended).toEqual({ code: 7, signal: null, output: `${JSON.stringify(args)}\n` })
})

test("what Node made of TypeScript is kept for the next start, where the user keeps such things if they do", async () => {
  const machine = fakeMachine()
  const script = machine.write(
    "cache.ts",
    'import { getCompileCacheDir } from "node:module"\nconsole.log(getCompileCacheDir())\n',
  )
  const cacheOf = async (env: NodeJS.ProcessEnv) => (await start(script, [], { env }).ended).output
  const { NODE_COMPILE_CACHE: _, NODE_DISABLE_COMPILE_CACHE: __, ...env } = process.env
  const ours = fileURLToPath(new URL("../../build/compile-cache/", import.meta.url))
  expect(await cacheOf(env)).toContain(ours)
  const theirs = join(dirname(script), "theirs")
  expect(await cacheOf({ ...env, NODE_COMPILE_CACHE: theirs })).toContain(theirs)
  expect(readdirSync(theirs)).toHaveLength(1) // a folder of this Node's version
})

test("a tool is found by its name", async () => {
  const { code, output } = await start("tsc", ["--version"]).ended
  expect({ code, output }).toEqual({ code: 0, output: expect.stringMatching(/^Version \d/) })
})

test("an unknown tool is named, with those there are", async () => {
  const { code, output } = await start("vitst").ended
  expect(code).toBe(2)
  expect(output).toBe("with-node: there is no script vitst, and the tools are vitest, tsc, biome.\n")
})

test("a signal to the parent reaches the child, whose end becomes the parent's", async () => {
  const machine = fakeMachine()
  const handles = machine.write(
    "handles.mjs",
    "process.on('SIGINT', () => process.exit(5)); setInterval(() => {}, 1000); console.log('up')\n",
  )
  const dies = machine.write("dies.mjs", "setInterval(() => {}, 1000); console.log('up')\n")

  // detached: in a process group of its own, so out of the foreground of whatever terminal runs these tests
  const polite = start(handles, [], { detached: true })
  await polite.says("up")
  polite.child.kill("SIGINT")
  expect(await polite.ended).toMatchObject({ code: 5, signal: null })

  const killed = start(dies)
  await killed.says("up")
  killed.child.kill("SIGTERM")
  expect(await killed.ended).toMatchObject({ code: null, signal: "SIGTERM" })
})

// script(1), on every Debian, gives a program a terminal, where the machine has any; the byte 3 is Ctrl-C there.
const hasTerminals = process.platform === "linux" && spawnSync("script", ["-qec", "true", "/dev/null"]).status === 0
test.runIf(hasTerminals)("Ctrl-C in a terminal reaches the child once, and the parent waits for it", async () => {
  const counts = fakeMachine().write(
    "counts.mjs",
    "let count = 0; process.on('SIGINT', () => { count += 1; setTimeout(() => { console.log('got ' + count); process.exit(6) }, 300) }); setInterval(() => {}, 1000); console.log('up')\n",
  )
  const child = spawn("script", ["-qec", `exec '${process.execPath}' '${withNode}' '${counts}'`, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
  })
  let output = ""
  child.stdout.on("data", (data) => {
    if (!output.includes("up")) setTimeout(() => child.stdin.write("\x03"), 100)
    output += data
  })
  const [code] = await once(child, "close")
  expect(output).toContain("got 1")
  expect(code).toBe(6)
})

test("the Node that is found is new enough to run TypeScript", () => {
  const { stdout } = spawnSync(findNode() as string, ["-p", "process.versions.node"], { encoding: "utf8" })
  expect(runsTypeScript(stdout.trim())).toBe(true)
})
