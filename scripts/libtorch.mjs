// Finds libtorch (headers and libraries). Shared by set-up, which builds the addon against it, and `pixelwise doctor`, which shows it.
// The order: LIBTORCH (a directory), the torch of `python3` on the PATH, the system. Plain JavaScript, Node 20, no packages.

import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, realpathSync } from "node:fs"
import { delimiter, dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

/** Debian keeps libraries under /usr/lib/<triplet>. */
const triplets = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" }
const triplet = triplets[process.arch] ?? process.arch

/** Prefixes of an installed libtorch: Debian and Ubuntu, built by hand, Homebrew. */
const systemPrefixes = {
  linux: ["/usr", "/usr/local"],
  darwin: ["/opt/homebrew", "/usr/local"],
}

/** The `problem` of a LIBTORCH that nobody asked for. */
export const notSet = "not set"

/** Where set-up notes what the addon was built from; see setup.mjs. */
export const stampFile = fileURLToPath(new URL("../build/native/setup.json", import.meta.url))

/** Set-up's note, or undefined before set-up. */
export function readStamp() {
  try {
    return JSON.parse(readFileSync(stampFile, "utf8"))
  } catch {
    return undefined
  }
}

/** The libtorch that the addon in build/ was built against, or undefined before set-up. */
export function builtLibtorch() {
  return readStamp()?.libtorch
}

/** Full path of a program on the PATH, or undefined. */
export function which(name, { env = process.env, platform = process.platform } = {}) {
  const suffixes = platform === "win32" ? [".exe", ".cmd", ".bat"] : [""]
  for (const dir of (env.PATH ?? env.Path ?? "").split(delimiter)) {
    for (const suffix of suffixes) {
      const path = join(dir, name + suffix)
      if (dir !== "" && existsSync(path)) return path
    }
  }
  return undefined
}

/** Looks in all three places, in order; types and details are in libtorch.d.mts. */
export function findLibtorch({
  env = process.env,
  platform = process.platform,
  prefixes = systemPrefixes[platform],
} = {}) {
  const looked = []
  const look = (source, place, root) => {
    const result = root === undefined ? "no torch there" : libtorchAt(root, platform)
    if (typeof result === "object") return { found: { ...result, source }, looked }
    looked.push({ source, place, problem: result })
    return undefined
  }

  // A LIBTORCH that does not hold is an error: another libtorch than the one asked for would be a surprise.
  if (env.LIBTORCH) return look("LIBTORCH", env.LIBTORCH, resolve(env.LIBTORCH)) ?? { found: undefined, looked }
  looked.push({ source: "LIBTORCH", place: "the environment", problem: notSet })

  const python = which(platform === "win32" ? "python" : "python3", { env, platform })
  if (python === undefined) looked.push({ source: "python", place: "the PATH", problem: "no python3" })
  else {
    const root = pythonTorch(python, env)
    // Debian's python3-torch is made of links into libtorch-dev: that is the system's, found below with its own directories.
    const linked = root !== undefined && isDebianLinks(root)
    const found = linked ? undefined : look("python", python, root)
    if (found) return found
  }

  for (const prefix of prefixes ?? []) {
    const found = look("system", prefix, prefix)
    if (found) return found
  }
  return { found: undefined, looked }
}

/** What is at a libtorch's root, or one phrase about what it lacks. */
export function libtorchAt(root, platform = process.platform) {
  const include = join(root, "include")
  const includeDirs = [include, join(include, "torch", "csrc", "api", "include")].filter((dir) => existsSync(dir))
  if (!existsSync(join(include, "ATen", "ATen.h"))) return "no include/ATen/ATen.h"
  const version = readVersion(root, includeDirs)
  if (version === undefined) return "no include/torch/csrc/api/include/torch/version.h"

  const file =
    { win32: (name) => `${name}.lib`, darwin: (name) => `lib${name}.dylib` }[platform] ?? ((name) => `lib${name}.so`)
  const has = (dir, name) => existsSync(join(dir, file(name)))
  const libDirs = [join(root, "lib"), join(root, "lib", triplet)].filter((dir) => has(dir, "torch_cpu"))
  if (libDirs.length === 0) return `no lib/${file("torch_cpu")}`
  return { root, includeDirs, libDirs, version, cuda: libDirs.some((dir) => has(dir, "torch_cuda")) }
}

/** "2.13.0+cpu" from the file that a download or pip's package carries, else "1.13.0" from the headers. */
function readVersion(root, includeDirs) {
  const read = (path) => (existsSync(path) ? readFileSync(path, "utf8") : "")
  const named =
    read(join(root, "build-version")).trim() || /__version__ = '(.*)'/.exec(read(join(root, "version.py")))?.[1]
  if (named) return named
  for (const dir of includeDirs) {
    for (const header of ["torch/headeronly/version.h", "torch/version.h"]) {
      const match = /VERSION_MAJOR (\d+).*VERSION_MINOR (\d+).*VERSION_PATCH (\d+)/s.exec(read(join(dir, header)))
      if (match) return match.slice(1).join(".")
    }
  }
  return undefined
}

/** Directory of the torch package that a Python would import. It is not imported: that takes seconds. */
function pythonTorch(python, env) {
  const code = 'import importlib.util as u; s = u.find_spec("torch"); print(s.origin if s and s.origin else "")'
  try {
    const options = { env, encoding: "utf8", timeout: 20_000, stdio: ["ignore", "pipe", "ignore"] }
    const origin = execFileSync(python, ["-c", code], options).trim()
    return origin === "" ? undefined : dirname(origin)
  } catch {
    return undefined // a python3 that does not run (a version manager's stand-in, say) holds no torch
  }
}

function isDebianLinks(root) {
  const header = join(root, "include", "ATen")
  return existsSync(header) && realpathSync(header) === "/usr/include/ATen"
}
