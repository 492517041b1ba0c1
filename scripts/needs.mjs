// What the native addon needs from the machine, what of it is missing, and the exact commands that install it. Set-up acts on
// this, `pixelwise doctor` shows it. Nothing here changes anything; plain JavaScript, Node 20, no packages.

import { existsSync, readFileSync, realpathSync } from "node:fs"
import { join } from "node:path"
import { findLibtorch, notSet, which } from "./libtorch.mjs"

/** Debian's and Ubuntu's packages for each need. libgloo-dev: what libtorch's process groups are built with. */
const debian = {
  compiler: ["g++"],
  cmake: ["cmake"],
  ninja: ["ninja-build"],
  libtorch: ["libtorch-dev", "libgloo-dev", "libopenblas0-pthread"],
  blas: ["libopenblas0-pthread"],
  jpeg: ["libturbojpeg0-dev"],
}

const homebrew = { cmake: "cmake", ninja: "ninja", libtorch: "pytorch", jpeg: "jpeg-turbo" }

const winget = {
  compiler:
    "winget install Microsoft.VisualStudio.2022.BuildTools --override " +
    '"--wait --passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"',
  cmake: "winget install Kitware.CMake",
  ninja: "winget install Ninja-build.Ninja",
  libtorch: "winget install Python.Python.3.12; py -3.12 -m pip install torch",
}

/** How the needs are called in sentences. */
const titles = {
  compiler: "a C++ compiler",
  cmake: "CMake",
  ninja: "Ninja",
  libtorch: "libtorch",
  blas: "OpenBLAS",
  jpeg: "libjpeg-turbo",
}

/** What it is like without those that are no must. */
export const slower = { blas: "matrix products are 30 times slower", jpeg: "reading a JPEG takes three times as long" }

/** Looks at the machine; types and details are in needs.d.mts. */
export function findNeeds({ env = process.env, platform = process.platform, prefixes, jpegPrefixes } = {}) {
  const has = (...names) => names.some((name) => which(name, { env, platform }) !== undefined)
  const { found: libtorch, looked } = findLibtorch({ env, platform, prefixes })
  const missing = []
  if (!(env.CXX || has(...(platform === "win32" ? ["cl", "g++"] : ["c++", "g++", "clang++"])))) missing.push("compiler")
  if (!has("cmake")) missing.push("cmake")
  if (!has("ninja")) missing.push("ninja")
  if (libtorch === undefined) missing.push("libtorch")
  const slow = []
  if (libtorch?.source === "system" && platform === "linux" && hasReferenceBlas(libtorch.libDirs)) slow.push("blas")
  // Windows has no place where its header would be; images are read by sharp there.
  if (platform !== "win32" && !hasJpegHeader(jpegPrefixes)) slow.push("jpeg")
  return { libtorch, looked, missing, slow }
}

/**
 * Debian's libtorch multiplies matrices with whichever libblas.so.3 is installed. The reference one, which a missing Recommends
 * leaves, is 30 times slower than OpenBLAS.
 */
function hasReferenceBlas(libDirs) {
  return libDirs.some((dir) => {
    const blas = join(dir, "libblas.so.3")
    return existsSync(blas) && /\/blas\/libblas/.test(realpathSync(blas))
  })
}

/** Where CMake finds turbojpeg.h, and Homebrew's, which it keeps to itself. */
const systemJpegPrefixes = ["/usr", "/usr/local", "/opt/homebrew/opt/jpeg-turbo", "/usr/local/opt/jpeg-turbo"]

export function hasJpegHeader(prefixes = systemJpegPrefixes) {
  return prefixes.some((prefix) => existsSync(join(prefix, "include", "turbojpeg.h")))
}

/** True where `apt-get install` works without asking: root on Debian, Ubuntu or one of their kin. */
export function canInstall({
  env = process.env,
  isRoot = process.getuid?.() === 0,
  osRelease = "/etc/os-release",
} = {}) {
  if (!isRoot || which("apt-get", { env }) === undefined || !existsSync(osRelease)) return false
  return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync(osRelease, "utf8"))
}

/** Debian packages for a list of needs. */
export function debianPackages(needs) {
  return [...new Set(needs.flatMap((need) => debian[need]))]
}

/** "CMake, Ninja and libtorch are missing."; where LIBTORCH is what is wrong, that first. */
export function sentence(missing, looked = []) {
  const names = missing.map((need) => titles[need])
  const list = names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
  const wrong = looked.find(({ source, problem }) => source === "LIBTORCH" && problem !== notSet)
  const first = wrong
    ? `LIBTORCH=${wrong.place} is not a libtorch: ${wrong.problem}. Correct it, or unset it to have others tried.\n`
    : ""
  return `${first}${list[0].toUpperCase()}${list.slice(1)} ${names.length === 1 ? "is" : "are"} missing.`
}

/** The commands that install what is missing, for every system, and what else libtorch may come from. */
export function instructions({ missing, looked = [] }) {
  const brew = missing.filter((need) => need in homebrew).map((need) => homebrew[need])
  const windows = missing.filter((need) => need in winget).map((need) => winget[need])
  const lines = [
    "Debian, Ubuntu:",
    "  sudo apt-get update",
    `  sudo apt-get install -y --no-install-recommends ${debianPackages(missing).join(" ")}`,
  ]
  if (brew.length > 0 || missing.includes("compiler")) lines.push("macOS:")
  if (missing.includes("compiler")) lines.push("  xcode-select --install")
  if (brew.length > 0) lines.push(`  brew install ${brew.join(" ")}`)
  if (windows.length > 0) lines.push("Windows (set-up itself in Visual Studio's x64 Native Tools prompt):")
  lines.push(...windows.map((command) => `  ${command}`))
  if (missing.includes("libtorch")) {
    lines.push(
      "Instead of installing libtorch, use the torch of Python:",
      "  python3 -m pip install torch",
      "or a directory with libtorch's include/ and lib/:",
      "  LIBTORCH=/path/to/libtorch npm run setup",
      "Looked for libtorch in:",
      ...looked.map(({ source, place, problem }) => `  ${source} (${place}): ${problem}`),
    )
  }
  return lines.join("\n")
}
