// `npm run setup`: from a clone with Node 20 and npm to a built addon. Installs npm's packages, then, as root on Debian or Ubuntu,
// the compiler and libtorch, then builds native/. Elsewhere it prints the commands to run, and exits with 2 having changed nothing.
// Every step compares first (versions and hashes, never times), so a second run takes some milliseconds. Plain JavaScript, Node 20.

import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { createRequire } from "node:module"
import { availableParallelism, totalmem } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { isDeepStrictEqual } from "node:util"
import { libtorchAt, readStamp, stampFile, which } from "./libtorch.mjs"
import { canInstall, debianPackages, findNeeds, hasJpegHeader, instructions, sentence, slower } from "./needs.mjs"
import { findNode, nodeIsTooOld } from "./node.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const build = join(root, "build")
const addon = join(build, "native", "pixelwise.node")
const jpegAddon = join(build, "native", "jpeg.node") // only where libjpeg-turbo is

/** Exit code when something must be installed by hand first; other failures exit with 1. */
const needsHelp = 2

/**
 * Makes this checkout ready to run. Quiet when it already is.
 * @param {{ lookAgain?: boolean }} [options] lookAgain: search for libtorch even if the one of the last build is still there
 */
export async function setup({ lookAgain = false } = {}) {
  const current = packagesAreCurrent()
  if (current && !lookAgain && machineIsAsBefore() && isBuilt(readStamp().libtorch)) return
  let needs = findNeeds()
  if (current && needs.slow.length === 0 && isBuilt(needs.libtorch)) return stamp(needs.libtorch)

  // Decide first, so that nothing is half-done where something cannot be done.
  const install = [...needs.missing, ...needs.slow]
  const byApt = install.length > 0 && canInstall() && !(process.env.LIBTORCH && needs.libtorch === undefined)
  if (needs.missing.length > 0 && !byApt) giveUp(needs)
  if (needs.slow.length > 0 && !byApt) {
    say(
      `${sentence(needs.slow)} Without: ${needs.slow.map((need) => slower[need]).join("; ")}. To install:\n${instructions({ missing: needs.slow })}`,
    )
  }

  mkdirSync(build, { recursive: true })
  const work = [
    !current && installPackages(),
    byApt && installDebian(debianPackages(install), { mayFail: needs.missing.length === 0 }),
  ]
  for (const { reason } of await Promise.allSettled(work)) if (reason) throw reason
  if (byApt) needs = findNeeds()
  if (needs.missing.length > 0) giveUp(needs)
  if (findNode() === undefined) fail(nodeIsTooOld, needsHelp)
  await locked(() => isBuilt(needs.libtorch) || buildAddon(needs.libtorch))
}

// --- npm's packages --------------------------------------------------------------------------------------------------

/** Whether node_modules holds what package-lock.json says. npm notes what it installed, at its end, in a lock file of its own. */
function packagesAreCurrent() {
  const read = (path) => (existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined)
  const wanted = read(join(root, "package-lock.json"))
  if (wanted === undefined) return true // installed from the registry: npm has seen to the packages
  const installed = read(join(root, "node_modules", ".package-lock.json"))
  if (installed === undefined) return false
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === "") return true
    const found = installed[path]
    return found === undefined ? optional === true : found.version === version
  })
}

async function installPackages() {
  const flags = ["--include=dev", "--include=optional", "--no-audit", "--no-fund"] // NODE_ENV=production would leave vitest out
  await timed("npm packages (npm ci)", async () => {
    if ((await npm("ci", ...flags)) === 0) return
    // npm's versions differ in what they call in sync; what `npm install` makes of the lock file is close enough to go on.
    const outOfSync = readFileSync(logFile("npm"), "utf8").includes("EUSAGE")
    if (outOfSync)
      say("`npm ci` finds that package-lock.json does not match package.json; using `npm install` instead.")
    if (!outOfSync || (await npm("install", "--no-save", ...flags)) !== 0)
      failWithLog("npm could not install the packages.", "npm")
  })
}

function npm(...args) {
  const self = process.env.npm_execpath // set where npm runs us; `npm` itself is a .cmd file on Windows, which cannot be spawned
  return self?.endsWith(".js")
    ? run("npm", process.execPath, [self, ...args])
    : run("npm", "npm", args, { shell: process.platform === "win32" })
}

// --- the machine's packages ------------------------------------------------------------------------------------------

async function installDebian(packages, { mayFail }) {
  rmSync(logFile("apt"), { force: true })
  await timed(`apt-get install ${packages.join(" ")}`, async () => {
    const options = { append: true, env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } }
    const apt = (...args) => run("apt", "apt-get", ["-y", "-o", "DPkg::Lock::Timeout=120", ...args], options)
    const install = () => apt("install", "--no-install-recommends", ...packages)
    const lists = "/var/lib/apt/lists"
    const hasLists = existsSync(lists) && readdirSync(lists).some((name) => name.includes("Packages"))
    if (hasLists && (await install()) === 0) return
    await apt("update") // there are no package lists, or old ones, that name files which are gone
    if ((await install()) === 0) return
    if (mayFail) return say(`apt-get failed (${logFile("apt")}); going on without.`)
    failWithLog("apt-get failed. libtorch may also come from `python3 -m pip install torch` or LIBTORCH=/path.", "apt")
  })
}

// --- the addon -------------------------------------------------------------------------------------------------------

/** Whether the addon in build/ is what a build against this libtorch would make. */
function isBuilt(libtorch) {
  return libtorch !== undefined && existsSync(addon) && isDeepStrictEqual(readStamp()?.inputs, buildInputs(libtorch))
}

/** Whether a search would find the libtorch of the last build again. Starting python3 to be sure takes longer than all the rest. */
function machineIsAsBefore() {
  const before = readStamp()
  if (before === undefined || !isDeepStrictEqual(before.surroundings, surroundings())) return false
  const { source, ...libtorch } = before.libtorch
  return isDeepStrictEqual(libtorchAt(libtorch.root), libtorch)
}

const surroundings = () => ({
  LIBTORCH: process.env.LIBTORCH ?? null,
  python: which("python3") ?? which("python") ?? null,
})

/** What a build depends on: `found` decides what CMake sets up, `sources` what Ninja compiles. */
function buildInputs({ source, ...libtorch }) {
  const native = join(root, "native")
  const sources = createHash("sha256")
  const files = readdirSync(native, { withFileTypes: true }).filter((entry) => entry.isFile())
  for (const { name } of files.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    sources.update(name).update(readFileSync(join(native, name)))
  }
  const headers = ["node-api-headers", "node-addon-api"].map(
    (name) => JSON.parse(readFileSync(join(packageDir(name), "package.json"), "utf8")).version,
  )
  return { found: { libtorch, headers, jpeg: hasJpegHeader() }, sources: sources.digest("hex") }
}

const packageDir = (name) => dirname(createRequire(import.meta.url).resolve(`${name}/package.json`))

function stamp(libtorch, inputs = buildInputs(libtorch)) {
  const note = { libtorch, surroundings: surroundings(), inputs }
  writeFileSync(stampFile, `${JSON.stringify(note, null, 2)}\n`)
}

async function buildAddon(libtorch) {
  const inputs = buildInputs(libtorch) // before the build: sources that change while it runs are built next time
  if (!isDeepStrictEqual(readStamp()?.inputs.found, inputs.found))
    rmSync(dirname(addon), { recursive: true, force: true }) // CMake keeps old paths
  const [major, minor] = libtorch.version.split(".").map(Number)
  if (major < 1 || (major === 1 && minor < 13))
    say(`libtorch ${libtorch.version} is older than 1.13, the oldest that is tested.`)

  await timed(`native addon for libtorch ${libtorch.version} (${libtorch.source}, ${libtorch.root})`, async () => {
    const define = (name, ...values) => `-D${name}=${values.join(";")}`
    const configure = [
      ...["-S", join(root, "native"), "-B", dirname(addon), "-G", "Ninja"],
      define("TORCH_INCLUDE_DIRS", ...libtorch.includeDirs),
      define("TORCH_LIB_DIRS", ...libtorch.libDirs),
      define("NODE_API_DIR", packageDir("node-api-headers")),
      define("NODE_ADDON_API_DIR", packageDir("node-addon-api")),
    ]
    const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31))) // one compiler takes 1 to 2 GiB
    const compiled =
      (await run("build", "cmake", configure)) === 0 &&
      (await run("build", "cmake", ["--build", dirname(addon), "--parallel", String(jobs)], { append: true })) === 0
    if (!compiled) failWithLog("The native addon could not be built.", "build")
    const load = "process.dlopen({ exports: {} }, process.argv[1])"
    for (const built of [addon, jpegAddon].filter(existsSync)) {
      const { status, stderr } = spawnSync(findNode(), ["-e", load, built], { encoding: "utf8" })
      if (status !== 0) fail(`${built} was built, but does not load:\n${stderr}`)
    }
  })
  stamp(libtorch, inputs)
}

/** Runs `work` while no other process does: two test runs started together would build into the same directory. */
async function locked(work) {
  const lock = join(build, "setup.lock")
  for (let waited = 0; ; waited += 1) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" })
      break
    } catch (error) {
      if (error.code !== "EEXIST") throw error
    }
    if (!isRunning(lock))
      rmSync(lock, { force: true }) // left by a process that was killed
    else if (waited === 0) say("waiting for another set-up that is building the addon")
    await sleep(200)
  }
  try {
    await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

function isRunning(lock) {
  try {
    const pid = Number(readFileSync(lock, "utf8"))
    if (!(pid > 0)) return Date.now() - statSync(lock).mtimeMs < 5000 // it is just being written, or its writer was killed doing it
    return process.kill(pid, 0)
  } catch (error) {
    return error.code !== "ESRCH" // EPERM: running, as another user; ENOENT: just let go
  }
}

// --- running and telling ---------------------------------------------------------------------------------------------

const logFile = (name) => join(build, `${name}.log`)

/** Runs a command with its output in a log file. Returns the exit code; -1 when it could not be started. */
function run(log, command, args, { append = false, ...options } = {}) {
  const fd = openSync(logFile(log), append ? "a" : "w")
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, ...options, stdio: ["ignore", fd, fd] })
    child.on("error", () => resolve(-1))
    child.on("exit", (code) => resolve(code ?? -1))
  }).finally(() => closeSync(fd))
}

function say(text) {
  console.error(`setup: ${text}`)
}

async function timed(title, work) {
  say(`${title} ...`)
  const start = performance.now()
  await work()
  say(`${title}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

/** A failure that is told to the user in full; any other error is a bug and shows its stack. */
class SetupError extends Error {
  exitCode = 1
}

function fail(message, exitCode = 1) {
  throw Object.assign(new SetupError(message), { exitCode })
}

function failWithLog(message, log) {
  const lines = readFileSync(logFile(log), "utf8").trimEnd().split("\n")
  const shown = lines.length > 120 ? [...lines.slice(0, 60), "[...]", ...lines.slice(-60)] : lines
  fail(`${shown.join("\n")}\n\n${message} The output above is also in ${logFile(log)}`)
}

function giveUp({ missing, looked }) {
  fail(
    `${sentence(missing, looked)} Install with the commands for your system, then run \`npm run setup\` again.\n\n${instructions({ missing, looked })}`,
    needsHelp,
  )
}

/** `setup()` for programs: on failure tells why and ends this process. */
export async function setupOrExit(options) {
  try {
    await setup(options)
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    console.error(`setup: ${error.message}`)
    process.exit(error.exitCode)
  }
}

if (existsSync(process.argv[1] ?? "") && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await setupOrExit({ lookAgain: true })
  const { version, source, root: place } = readStamp().libtorch
  say(`ready: libtorch ${version} (${source}, ${place})`)
}
