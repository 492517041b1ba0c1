// What is missing on a machine, and the exact commands that set-up prints or runs for it.

import { spawnSync } from "node:child_process"
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect, test } from "vitest"
import { canInstall, debianPackages, findNeeds, instructions, sentence } from "../../scripts/needs.mjs"
import { fakeMachine } from "./fake-machine.ts"

const platform = "linux"

test("a bare machine lacks everything, and each missing thing drops out as it appears", () => {
  const machine = fakeMachine()
  const missing = () => findNeeds({ env: machine.env, platform, prefixes: [machine.path("usr")] }).missing
  expect(missing()).toEqual(["compiler", "cmake", "ninja", "libtorch"])
  machine.program("clang++")
  machine.program("ninja")
  expect(missing()).toEqual(["cmake", "libtorch"])
  machine.program("cmake")
  machine.libtorch("usr")
  expect(missing()).toEqual([])
})

test("a compiler named by CXX counts", () => {
  const machine = fakeMachine()
  const env = { ...machine.env, CXX: "/opt/gcc/bin/g++" }
  expect(findNeeds({ env, platform, prefixes: [] }).missing).not.toContain("compiler")
})

test("the commands for everything, for each system", () => {
  const { missing, looked } = findNeeds({ env: {}, platform, prefixes: ["/nowhere"] })
  expect(sentence(missing, looked)).toBe("A C++ compiler, CMake, Ninja and libtorch are missing.")
  expect(instructions({ missing, looked })).toMatchInlineSnapshot(`
    "Debian, Ubuntu:
      sudo apt-get update
      sudo apt-get install -y --no-install-recommends g++ cmake ninja-build libtorch-dev libgloo-dev libopenblas0-pthread
    macOS:
      xcode-select --install
      brew install cmake ninja pytorch
    Windows (set-up itself in Visual Studio's x64 Native Tools prompt):
      winget install Microsoft.VisualStudio.2022.BuildTools --override "--wait --passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"
      winget install Kitware.CMake
      winget install Ninja-build.Ninja
      winget install Python.Python.3.12; py -3.12 -m pip install torch
    Instead of installing libtorch, use the torch of Python:
      python3 -m pip install torch
    or a directory with libtorch's include/ and lib/:
      LIBTORCH=/path/to/libtorch npm run setup
    Looked for libtorch in:
      LIBTORCH (the environment): not set
      python (the PATH): no python3
      system (/nowhere): no include/ATen/ATen.h"
  `)
})

test("the commands name only what is missing", () => {
  expect(sentence(["ninja"])).toBe("Ninja is missing.")
  expect(instructions({ missing: ["ninja"] })).toMatchInlineSnapshot(`
    "Debian, Ubuntu:
      sudo apt-get update
      sudo apt-get install -y --no-install-recommends ninja-build
    macOS:
      brew install ninja
    Windows (set-up itself in Visual Studio's x64 Native Tools prompt):
      winget install Ninja-build.Ninja"
  `)
})

test("a wrong LIBTORCH is the first thing said", () => {
  const { missing, looked } = findNeeds({ env: { LIBTORCH: "/opt/none", CXX: "g++" }, platform })
  expect(sentence(missing, looked)).toMatchInlineSnapshot(`
    "LIBTORCH=/opt/none is not a libtorch: no include/ATen/ATen.h. Correct it, or unset it to have others tried.
    CMake, Ninja and libtorch are missing."
  `)
})

test("apt-get is for root on Debian and its kin", () => {
  const machine = fakeMachine()
  const release = (text: string) => machine.write("os-release", text)
  const may = (isRoot: boolean) => canInstall({ env: machine.env, isRoot, osRelease: machine.path("os-release") })

  expect(may(true)).toBe(false) // no apt-get
  machine.program("apt-get")
  expect(may(true)).toBe(false) // no os-release
  for (const debian of [
    'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n',
    "ID=ubuntu\nID_LIKE=debian\n",
    'ID=linuxmint\nID_LIKE="ubuntu debian"\n',
  ]) {
    release(debian)
    expect(may(true)).toBe(true)
    expect(may(false)).toBe(false)
  }
  release('ID=fedora\nPRETTY_NAME="not debian"\n')
  expect(may(true)).toBe(false)
})

test("with Debian's libtorch the reference BLAS is slow, and OpenBLAS is not", () => {
  const machine = fakeMachine()
  const usr = machine.libtorch("usr")
  const options = { env: machine.env, platform, prefixes: [usr], jpegPrefixes: [usr] } as const
  machine.write("usr/include/turbojpeg.h", "")
  const install = (blas: string) => {
    const link = machine.path("usr/lib/libblas.so.3")
    rmSync(link, { force: true })
    symlinkSync(machine.write(`usr/lib/${blas}/libblas.so.3`, ""), link)
  }
  install("openblas-pthread")
  expect(findNeeds(options).slow).toEqual([])
  install("blas")
  expect(findNeeds(options).slow).toEqual(["blas"])
  expect(debianPackages(["blas"])).toEqual(["libopenblas0-pthread"])
})

test("without libjpeg-turbo's header images are read more slowly, except on Windows, where it is not looked for", () => {
  const machine = fakeMachine()
  const usr = machine.libtorch("usr")
  const options = { env: machine.env, platform, prefixes: [usr], jpegPrefixes: [usr] } as const
  expect(findNeeds(options).slow).toEqual(["jpeg"])
  expect(findNeeds({ ...options, platform: "win32" }).slow).toEqual([])
  expect(instructions({ missing: ["jpeg"] })).toBe(
    "Debian, Ubuntu:\n  sudo apt-get update\n  sudo apt-get install -y --no-install-recommends libturbojpeg0-dev\nmacOS:\n  brew install jpeg-turbo",
  )
  machine.write("usr/include/turbojpeg.h", "")
  expect(findNeeds(options).slow).toEqual([])
})

test("where it cannot install, set-up ends with 2, says what to do, and leaves the checkout as it was", () => {
  const machine = fakeMachine()
  const checkout = machine.path("checkout")
  mkdirSync(checkout)
  for (const name of ["scripts", "native", "package.json", "package-lock.json"]) {
    cpSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), `${checkout}/${name}`, { recursive: true })
  }
  const before = readdirSync(checkout, { recursive: true })
  // LIBTORCH: this machine's own libtorch must not be found. No apt-get is on the PATH, so this holds for root too.
  const env = { ...machine.env, LIBTORCH: machine.path("none") }
  const { status, stderr } = spawnSync(process.execPath, ["scripts/setup.mjs"], {
    cwd: checkout,
    env,
    encoding: "utf8",
  })
  expect(stderr).toContain("LIBTORCH=")
  expect(stderr).toContain("sudo apt-get install -y --no-install-recommends g++ cmake ninja-build libtorch-dev")
  expect(stderr).not.toContain("    at ") // no stack
  expect(status).toBe(2)
  expect(readdirSync(checkout, { recursive: true })).toEqual(before)
})
