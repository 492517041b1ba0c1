// Types of node.mjs, for the TypeScript sources that import it.

/** Whether this version of Node ("24.3.0") runs TypeScript sources without a flag and without a warning. */
export function runsTypeScript(version: string): boolean

/** Path of a Node that is new enough (the current one, or npm's on Linux), or undefined. */
export function findNode(): string | undefined

/** What to tell a user for whom `findNode()` found none. */
export const nodeIsTooOld: string

/** Runs a script under a Node, with our stdin, stdout and stderr, and ends this process the way the script ended. */
export function runAndExit(node: string, args: readonly string[]): void
