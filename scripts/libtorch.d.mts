// Types of libtorch.mjs, for the TypeScript sources that import it.

/** A libtorch that an addon can be built against. */
export interface Libtorch {
  /** the directory that holds include/ and lib/ */
  readonly root: string
  readonly includeDirs: readonly string[]
  readonly libDirs: readonly string[]
  /** as libtorch states it: "1.13.0", "2.13.0+cpu" */
  readonly version: string
  readonly source: LibtorchSource
  /** true when it was built with CUDA; whether this machine has a GPU is another question */
  readonly cuda: boolean
}

export type LibtorchSource = "LIBTORCH" | "python" | "system"

/** A place without a usable libtorch, and what it lacks. */
export interface LookedAt {
  readonly source: LibtorchSource
  readonly place: string
  readonly problem: string
}

export interface FindOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly platform?: NodeJS.Platform
  /** installation prefixes of the system, such as /usr */
  readonly prefixes?: readonly string[]
}

/**
 * Looks for libtorch: `LIBTORCH` (a directory; when set, nothing else is tried), the torch of `python3` on the PATH, the system.
 * Starts python3 once when LIBTORCH is not set (about 0.1 s).
 * @returns what was found, and the places before it that lacked something
 */
export function findLibtorch(options?: FindOptions): {
  readonly found: Libtorch | undefined
  readonly looked: readonly LookedAt[]
}

/** What is at a libtorch's root directory, or one phrase about what it lacks. */
export function libtorchAt(root: string, platform?: NodeJS.Platform): Omit<Libtorch, "source"> | string

/** The libtorch that the addon in build/ was built against, or undefined before set-up. Reads one small file. */
export function builtLibtorch(): Libtorch | undefined

/** Full path of a program on the PATH, or undefined. */
export function which(name: string, options?: FindOptions): string | undefined

/** The `problem` of a LIBTORCH that nobody asked for. */
export const notSet: string
