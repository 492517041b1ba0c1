// Where libtorch is looked for, and in which order: LIBTORCH, python3's torch, the system.

import { mkdirSync, symlinkSync } from "node:fs"
import { expect, test } from "vitest"
import { findLibtorch, which } from "../../scripts/libtorch.mjs"
import { fakeMachine } from "./fake-machine.ts"

const platform = "linux"

test("LIBTORCH comes before python3's torch, which comes before the system's", () => {
  const machine = fakeMachine()
  const [own, python, system] = ["own", "site-packages/torch", "usr"].map((place) => machine.libtorch(place))
  const options = { env: machine.env, platform, prefixes: [system as string] } as const
  machine.python(python)

  const { found } = findLibtorch({ ...options, env: { ...machine.env, LIBTORCH: own } })
  expect(found).toEqual({
    root: own,
    includeDirs: [`${own}/include`, `${own}/include/torch/csrc/api/include`],
    libDirs: [`${own}/lib`],
    version: "2.1.3",
    source: "LIBTORCH",
    cuda: false,
  })
  expect(findLibtorch(options).found).toMatchObject({ source: "python", root: python })
  machine.python()
  expect(findLibtorch(options).found).toMatchObject({ source: "system", root: system })
})

test("a LIBTORCH that does not hold is an error: no other libtorch takes its place", () => {
  const machine = fakeMachine()
  const env = { ...machine.env, LIBTORCH: machine.libtorch("own", { libraries: [] }) }
  expect(findLibtorch({ env, platform, prefixes: [machine.libtorch("usr")] })).toEqual({
    found: undefined,
    looked: [{ source: "LIBTORCH", place: env.LIBTORCH, problem: "no lib/libtorch_cpu.so" }],
  })
})

test("a torch without headers, and a python3 that does not run, are passed over", () => {
  const machine = fakeMachine()
  const options = { env: machine.env, platform, prefixes: [machine.libtorch("usr")] } as const
  const place = machine.path("bin/python3")
  const unset = { source: "LIBTORCH", place: "the environment", problem: "not set" }

  machine.python(machine.libtorch("site-packages/torch", { headers: false }))
  const withoutHeaders = findLibtorch(options)
  expect(withoutHeaders.found?.source).toBe("system")
  expect(withoutHeaders.looked).toEqual([unset, { source: "python", place, problem: "no include/ATen/ATen.h" }])

  machine.program("python3", "exit 127")
  const broken = findLibtorch(options)
  expect(broken.found?.source).toBe("system")
  expect(broken.looked).toEqual([unset, { source: "python", place, problem: "no torch there" }])
})

test("Debian's python3-torch, links into a libtorch-dev that is absent, is passed over", () => {
  const machine = fakeMachine()
  mkdirSync(machine.path("site-packages/torch/include"), { recursive: true })
  symlinkSync(machine.path("usr/include/ATen"), machine.path("site-packages/torch/include/ATen"))
  machine.python(machine.path("site-packages/torch"))
  expect(findLibtorch({ env: machine.env, platform, prefixes: [] }).found).toBeUndefined()
})

test("every place that was looked at is told", () => {
  const machine = fakeMachine()
  expect(findLibtorch({ env: machine.env, platform, prefixes: [machine.path("usr")] })).toEqual({
    found: undefined,
    looked: [
      { source: "LIBTORCH", place: "the environment", problem: "not set" },
      { source: "python", place: "the PATH", problem: "no python3" },
      { source: "system", place: machine.path("usr"), problem: "no include/ATen/ATen.h" },
    ],
  })
})

test("the version is a package's own if it states one, else that of the headers; CUDA is seen by its library", () => {
  const machine = fakeMachine()
  const root = machine.libtorch("own", { libraries: ["torch_cpu", "torch_cuda"] })
  const found = () => findLibtorch({ env: { LIBTORCH: root }, platform }).found
  expect(found()).toMatchObject({ version: "2.1.3", cuda: true })
  machine.write("own/version.py", "from typing import Optional\n\n__version__ = '2.1.3+cu121'\n")
  expect(found()?.version).toBe("2.1.3+cu121")
  machine.write("own/build-version", "2.1.3+cu118\n")
  expect(found()?.version).toBe("2.1.3+cu118")
})

test("newer headers keep the version in torch/headeronly", () => {
  const machine = fakeMachine()
  const root = machine.libtorch("own", { version: "2.13.0" })
  machine.write("own/include/torch/csrc/api/include/torch/version.h", "#include <torch/headeronly/version.h>\n")
  machine.write(
    "own/include/torch/headeronly/version.h",
    "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n",
  )
  expect(findLibtorch({ env: { LIBTORCH: root }, platform }).found?.version).toBe("2.13.0")
})

test("macOS and Windows name their libraries differently", () => {
  const machine = fakeMachine()
  const root = machine.libtorch("own", { libraries: [] })
  const look = (platform: NodeJS.Platform) => findLibtorch({ env: { LIBTORCH: root }, platform })
  expect(look("darwin").looked[0]?.problem).toBe("no lib/libtorch_cpu.dylib")
  expect(look("win32").looked[0]?.problem).toBe("no lib/torch_cpu.lib")
  machine.write("own/lib/libtorch_cpu.dylib", "")
  expect(look("darwin").found?.libDirs).toEqual([`${root}/lib`])
})

test("which() takes the first of the PATH and skips empty entries", () => {
  const machine = fakeMachine()
  machine.program("cmake")
  expect(which("cmake", { env: { PATH: `:/nowhere:${machine.path("bin")}` }, platform })).toBe(
    machine.path("bin/cmake"),
  )
  expect(which("ninja", { env: machine.env, platform })).toBeUndefined()
})
