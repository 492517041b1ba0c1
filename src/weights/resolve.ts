// Weights as users name them: a file of theirs, or published ones.
import { stat } from "node:fs/promises"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { UserError } from "../errors.ts"
import { fileProblem } from "../files.ts"
import { type FetchOptions, fetchWeights } from "./download.ts"
import { findWeights, suggestWeights, type Weights } from "./registry.ts"

/** `entry` says what published weights are; of a file we know nothing but that it is there. */
export type ResolvedWeights = { readonly path: string; readonly entry?: Weights }

/**
 * The file behind a path, a file:// address or a name such as "resnet50", which is downloaded when it is not in the cache.
 * @throws UserError when there is neither such a file nor such a name, and as `fetchWeights`
 */
export async function resolveWeights(nameOrPath: string, options: FetchOptions = {}): Promise<ResolvedWeights> {
  const path = nameOrPath.startsWith("file:") ? localPath(nameOrPath) : nameOrPath
  const entry = findWeights(nameOrPath)
  const problem = await stat(path).then(
    (found) => (found.isFile() ? undefined : `${path} is not a file`),
    (error) => `Cannot open ${path}: ${fileProblem(error)}`,
  )
  if (problem === undefined) return { path: resolve(path) }
  if (entry) return { path: await fetchWeights(entry, options), entry }
  throw new UserError(
    `${problem}, and there are no published weights of that name.${suggestWeights(nameOrPath)} "pixelwise weights" lists them.`,
  )
}

function localPath(address: string): string {
  try {
    return fileURLToPath(address)
  } catch (cause) {
    throw new UserError(`"${address}" is not an address of a file here; expected file:///folder/file.`, { cause })
  }
}
