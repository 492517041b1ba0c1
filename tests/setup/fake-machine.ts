// A directory tree that stands for a machine: programs on a PATH, libtorch in the places where it is looked for.

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { onTestFinished } from "vitest"

export function fakeMachine() {
  const root = mkdtempSync(join(tmpdir(), "pixelwise-machine-"))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  const path = (name: string) => join(root, name)
  const write = (name: string, text: string) => {
    mkdirSync(dirname(path(name)), { recursive: true })
    writeFileSync(path(name), text)
    return path(name)
  }
  const bin = path("bin")
  mkdirSync(bin)
  return {
    path,
    write,
    /** The environment of a user whose PATH is this machine's bin/ alone. */
    env: { PATH: bin } as NodeJS.ProcessEnv,

    /** Puts a shell script on the PATH. */
    program(name: string, body = "exit 0") {
      chmodSync(write(`bin/${name}`, `#!/bin/sh\n${body}\n`), 0o755)
    },

    /** A libtorch: as much of one as the search looks at. */
    libtorch(name: string, { version = "2.1.3", headers = true, libraries = ["torch_cpu"], lib = "lib" } = {}) {
      const [major, minor, patch] = version.split(".")
      if (headers) {
        write(`${name}/include/ATen/ATen.h`, "")
        write(
          `${name}/include/torch/csrc/api/include/torch/version.h`,
          `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`,
        )
      }
      for (const library of libraries) write(`${name}/${lib}/lib${library}.so`, "")
      return path(name)
    },

    /** A python3 whose torch is the package at this path, which need not exist; without a path, one without torch. */
    python(torch?: string) {
      this.program("python3", `echo "${torch === undefined ? "" : `${torch}/__init__.py`}"`)
    },
  }
}
