// Published weights as files on this machine: fetched once, kept in a cache, and never used without a look at their
// checksum. An interrupted download goes on where it stopped, also in the next call. Memory stays bounded.
//
//   PIXELWISE_CACHE         instead of ~/.cache/pixelwise (macOS: ~/Library/Caches, Windows: %LOCALAPPDATA%)
//   PIXELWISE_WEIGHTS_URL   a mirror, for classrooms: http(s)://host/folder or file:///folder with files of the same
//                           names; file:///home/me/.cache/torch/hub/checkpoints is what PyTorch has downloaded
import { createHash, type Hash } from "node:crypto"
import { createReadStream, readFileSync } from "node:fs"
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises"
import { homedir } from "node:os"
import { dirname, isAbsolute, join, posix, resolve } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { UserError } from "../errors.ts"
import { fileProblem, writeFileAtomic } from "../files.ts"
import { withLock } from "./lock.ts"
import type { Weights } from "./registry.ts"
import { openSource, SourceError } from "./source.ts"

const MIRROR = "PIXELWISE_WEIGHTS_URL"
const TOLERANCE = 2 ** 16 // bytes; sizes are known to 0.001 MiB

/** What must be known of a file to fetch it. */
export type Download = Pick<Weights, "url" | "sha256" | "mebibytes">

export type FetchOptions = {
  /** Default: `weightsFolder()`. */
  readonly cacheFolder?: string | undefined
  /** Bytes that are here, and bytes in all (about, while no server has said it). Not called for what is in the cache. */
  readonly onProgress?: ((received: number, total: number) => void) | undefined
  /** Aborting keeps what has come; the next call goes on from there. */
  readonly signal?: AbortSignal | undefined
  /** Without data for so long a connection counts as interrupted. */
  readonly stallSeconds?: number
  /** Pauses before each further try after an interruption, in seconds. */
  readonly retrySeconds?: readonly number[]
}

/** Where downloaded weights are kept. The folder need not exist. */
export function weightsFolder(env: NodeJS.ProcessEnv = process.env, platform = process.platform): string {
  const { PIXELWISE_CACHE, XDG_CACHE_HOME = "", LOCALAPPDATA } = env
  if (PIXELWISE_CACHE) return join(resolve(PIXELWISE_CACHE), "weights")
  const caches = () => {
    if (platform === "darwin") return join(homedir(), "Library", "Caches")
    if (platform === "win32") return LOCALAPPDATA || join(homedir(), "AppData", "Local")
    return isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : join(homedir(), ".cache") // relative ones are to be ignored
  }
  return join(caches(), "pixelwise", "weights")
}

/** Where these weights are, or will be. */
export const cachedPath = ({ url }: Pick<Weights, "url">, folder = weightsFolder()): string =>
  join(folder, fileName(url))

const fileName = (url: string): string => posix.basename(new URL(url).pathname)

/**
 * The file of published weights, downloaded if it is not in the cache yet. The checksum is compared each time (85 ms for
 * 100 MB on an AMD EPYC), so that a damaged disk or a file that was put there by hand cannot give wrong weights.
 * Processes that want the same file at once download it once.
 * @returns its path
 * @throws UserError when it cannot be had: why, and how to get it by hand; an AbortError when the signal says so
 */
export async function fetchWeights(download: Download, options: FetchOptions = {}): Promise<string> {
  const { cacheFolder, signal, onProgress } = options
  signal?.throwIfAborted()
  const path = cachedPath(download, cacheFolder)
  const work = async () => {
    if (!(await isHere(path, download))) await receive(path, download, options) // else another one just brought it
  }
  const onWait = async () => {
    const partial = await stat(`${path}.partial`).catch(() => undefined)
    if (partial) onProgress?.(partial.size, bytes(download))
  }
  try {
    if (await isHere(path, download)) return path
    await mkdir(dirname(path), { recursive: true })
    await withLock(`${path}.lock`, work, { signal, onWait })
    return path
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause // not the file system's
    throw new UserError(
      `Cannot keep weights at ${path}: ${fileProblem(cause)}. PIXELWISE_CACHE=/some/folder keeps them elsewhere.`,
      { cause },
    )
  }
}

/** Whether the file is there and right. @throws UserError when it is there and wrong */
async function isHere(path: string, { sha256 }: Download): Promise<boolean> {
  const found = await hashFile(path)
  if (found === undefined) return false
  const got = digest(found.hash)
  if (got === sha256) return true
  throw new UserError(
    `${path} is damaged: its SHA-256 begins with ${got}, expected ${sha256}. Delete it, and it will be downloaded anew.`,
  )
}

/** Connects until the file is whole, or trying again makes no sense. */
async function receive(path: string, download: Download, options: FetchOptions): Promise<void> {
  const { signal, retrySeconds = [1, 2, 4, 8] } = options
  const origin = mirrored(download.url)
  let answered = false
  const onAnswer = () => {
    answered = true
  }
  for (let attempt = 0; ; attempt++) {
    try {
      return await receivePart(origin, path, download, options, onAnswer)
    } catch (error) {
      if (!(error instanceof SourceError)) throw error
      const pause = retrySeconds[attempt]
      // Who never reached the server is offline, and wants to know that at once.
      const hopeless = error.kind === "refused" || (error.kind === "unreachable" && !answered)
      if (hopeless || pause === undefined) throw await failure(error, origin, path, download)
      if (error.kind === "outdated") await rm(`${path}.partial`, { force: true })
      else await sleep(1000 * pause, undefined, { signal })
    }
  }
}

/** One connection: from what is here to the end, or as far as it goes. */
async function receivePart(
  origin: URL,
  path: string,
  download: Download,
  { onProgress, signal, stallSeconds = 30 }: FetchOptions,
  onAnswer: () => void,
): Promise<void> {
  const partial = `${path}.partial`
  const note = `${partial}.json` // which version of which file it is a part of
  const expected = bytes(download)
  const refuse = async (what: string): Promise<never> => {
    await rm(partial, { force: true })
    await rm(note, { force: true })
    throw wrongFile(origin, download, what)
  }
  const { url, version } = readNote(note)
  const here = url === origin.href ? await hashFile(partial) : undefined
  if (here === undefined || digest(here.hash) !== download.sha256) {
    const part = await openSource(origin, { start: here?.size ?? 0, version, stallSeconds, signal })
    onAnswer()
    try {
      // Never more than the published file has, so that a wrong server cannot fill the disk.
      const most = expected + TOLERANCE
      if (part.total !== undefined && part.total > most)
        await refuse(`it has ${part.total} bytes, expected about ${expected}. Nothing of it was kept`)
      const resumes = here !== undefined && part.start > 0
      const hash = resumes ? here.hash : createHash("sha256")
      await using file = await open(partial, resumes ? "r+" : "w")
      if (!resumes) writeFileAtomic(note, JSON.stringify({ url: origin.href, version: part.version }))
      const total = part.total ?? expected
      let received = part.start
      onProgress?.(received, total)
      for await (const chunk of part.body) {
        if (received + chunk.length > most)
          await refuse(`it has more than ${most} bytes, expected about ${expected}. It was deleted`)
        await writeAll(file, chunk, received)
        hash.update(chunk)
        received += chunk.length
        onProgress?.(received, total)
      }
      if (part.total !== undefined && received !== part.total)
        throw new SourceError("interrupted", `${received} bytes came instead of ${part.total}`)
      await file.sync()
      const got = digest(hash)
      if (got !== download.sha256)
        await refuse(`its SHA-256 begins with ${got}, expected ${download.sha256}. It was deleted`)
    } finally {
      part.close()
    }
  }
  await rename(partial, path)
  await rm(note, { force: true })
}

async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; )
    done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten
}

/** Size and checksum so far of a file; undefined when there is none. */
async function hashFile(path: string): Promise<{ size: number; hash: Hash } | undefined> {
  const hash = createHash("sha256")
  let size = 0
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
      hash.update(chunk)
      size += chunk.length
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw error
  }
  return { size, hash }
}

const digest = (hash: Hash): string => hash.copy().digest("hex").slice(0, 8)

const mib = (size: number): string => (size / 2 ** 20).toFixed(1)

const bytes = ({ mebibytes }: Download): number => Math.round(mebibytes * 2 ** 20)

/** {} when there is none, or it cannot be read: then the download begins anew. */
function readNote(path: string): { url?: string; version?: string } {
  try {
    const { url, version } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>
    return typeof url === "string" && typeof version === "string" ? { url, version } : {}
  } catch {
    return {}
  }
}

/** The address to ask: the published one, or the file of that name in the mirror. */
function mirrored(url: string): URL {
  const mirror = process.env[MIRROR]
  if (!mirror) return new URL(url)
  const folder = URL.parse(mirror.endsWith("/") ? mirror : `${mirror}/`)
  const usable =
    folder?.protocol === "file:"
      ? folder.host === ""
      : /^https?:$/.test(folder?.protocol ?? "") && !folder?.username && !folder?.password
  if (folder === null || !usable)
    throw new UserError(
      `${MIRROR} is "${mirror}"; expected an address without user and password, such as https://host/folder or file:///folder.`,
    )
  return new URL(fileName(url), folder)
}

async function failure(
  error: SourceError,
  origin: URL,
  path: string,
  { url, mebibytes }: Download,
): Promise<UserError> {
  const size = (await stat(`${path}.partial`).catch(() => undefined))?.size ?? 0
  const { version } = readNote(`${path}.partial.json`)
  const kept =
    size > 0 && version !== undefined && error.kind !== "refused"
      ? `; ${mib(size)} of ${mebibytes.toFixed(1)} MiB are kept, and the next call goes on from there`
      : ""
  const published = origin.href === url
  const what = published ? fileName(url) : origin
  const advice = published
    ? `Download ${url} on another machine and put it at ${path}, or set ${MIRROR} to a mirror (https://host/folder or file:///folder).`
    : `Look at ${MIRROR}, or download ${url} on another machine and put it at ${path}.`
  return new UserError(`Cannot download ${what}: ${error.message}${kept}. ${advice}`, { cause: error })
}

function wrongFile(origin: URL, { url }: Download, what: string): UserError {
  const advice = origin.href === url ? "try again, or from another network" : `put the right one into ${MIRROR}`
  return new UserError(`What came from ${origin} is not the published file: ${what}; ${advice}.`)
}
