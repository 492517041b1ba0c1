// Types of needs.mjs, for the TypeScript sources that import it.
import type { FindOptions, Libtorch, LookedAt } from "./libtorch.mjs"

export type Need = "compiler" | "cmake" | "ninja" | "libtorch" | "blas" | "jpeg"

export interface Needs {
  readonly libtorch: Libtorch | undefined
  readonly looked: readonly LookedAt[]
  /** without these the addon cannot be built */
  readonly missing: readonly Need[]
  /** it works without these, but slowly */
  readonly slow: readonly ("blas" | "jpeg")[]
}

/** What it is like without those that are no must. */
export const slower: Readonly<Record<"blas" | "jpeg", string>>

/** Whether JPEGs can be read by libjpeg-turbo. */
export function hasJpegHeader(prefixes?: readonly string[]): boolean

/** What the addon needs from this machine, and what of it is missing. Starts python3 once, unless LIBTORCH is set (about 0.1 s). */
export function findNeeds(options?: FindOptions & { jpegPrefixes?: readonly string[] }): Needs

/** True where `apt-get install` works without asking: root on Debian, Ubuntu or one of their kin. */
export function canInstall(options?: { env?: NodeJS.ProcessEnv; isRoot?: boolean; osRelease?: string }): boolean

/** Debian packages for a list of needs. */
export function debianPackages(needs: readonly Need[]): string[]

/** "CMake and Ninja are missing."; where LIBTORCH is what is wrong, that first. */
export function sentence(missing: readonly Need[], looked?: readonly LookedAt[]): string

/** The commands that install what is missing, for Debian and Ubuntu, macOS and Windows, and what else libtorch may come from. */
export function instructions(options: { missing: readonly Need[]; looked?: readonly LookedAt[] }): string
