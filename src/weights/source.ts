// Where the bytes of a file come from: a web server, or a folder on a disk. All that can go wrong on the way becomes one
// clause that a sentence can hold, and one decision: is it worth another try?
//
// Behind a proxy Node 24 needs NODE_USE_ENV_PROXY=1 beside HTTPS_PROXY; behind one that opens TLS, NODE_EXTRA_CA_CERTS.
import { createReadStream } from "node:fs"
import { stat } from "node:fs/promises"
import { STATUS_CODES } from "node:http"
import { fileURLToPath } from "node:url"
import { fileProblem } from "../files.ts"

/** The file from byte `start` on. */
export type Part = {
  /** What was asked for, or 0 when the source begins anew. */
  readonly start: number
  /** Bytes of the whole file, if the source says it. */
  readonly total: number | undefined
  /** ETag or date of this version of the file; without one a download cannot be resumed. */
  readonly version: string | undefined
  readonly body: AsyncIterable<Uint8Array>
  /** Frees the connection; call it always. */
  close(): void
}

/**
 * Why there are no bytes (any more): a clause without a full stop.
 * "refused": asking again is no use. "unreachable": there was no answer. "interrupted": the next try may well succeed.
 * "outdated": the next try will, from the beginning.
 */
export class SourceError extends Error {
  readonly kind: "refused" | "unreachable" | "interrupted" | "outdated"

  constructor(kind: SourceError["kind"], reason: string, options?: ErrorOptions) {
    super(reason, options)
    this.kind = kind
  }
}

export type OpenOptions = {
  /** Bytes that are here already, of this version. */
  readonly start: number
  readonly version: string | undefined
  /** Without data for so long a connection counts as interrupted. */
  readonly stallSeconds: number
  readonly signal: AbortSignal | undefined
}

/**
 * Opens a file from `start` on; from 0 if that version is gone or the source cannot begin in the middle.
 * @throws SourceError, from here and from the body; what aborted `signal` when that was it
 */
export const openSource = (url: URL, options: OpenOptions): Promise<Part> =>
  url.protocol === "file:" ? openFile(url) : openHttp(url, options)

async function openFile(url: URL): Promise<Part> {
  const path = fileURLToPath(url)
  const refused = (cause: unknown) => new SourceError("refused", fileProblem(cause), { cause })
  const { size } = await stat(path).catch((cause) => {
    throw refused(cause)
  })
  const stream = createReadStream(path, { highWaterMark: 2 ** 20 })
  const body = async function* () {
    try {
      yield* stream
    } catch (cause) {
      throw refused(cause)
    }
  }
  return { start: 0, total: size, version: undefined, body: body(), close: () => stream.destroy() }
}

async function openHttp(url: URL, { start, version, stallSeconds, signal }: OpenOptions): Promise<Part> {
  const resumes = start > 0 && version !== undefined
  const connection = new AbortController()
  let stalled = false
  const timer = setTimeout(() => {
    stalled = true
    connection.abort()
  }, 1000 * stallSeconds)
  const close = () => {
    clearTimeout(timer)
    connection.abort()
  }
  const failure = (kind: SourceError["kind"], cause: unknown): unknown => {
    if (cause instanceof SourceError) return cause
    if (signal?.aborted) return signal.reason
    const seconds = stallSeconds === 1 ? "a second" : `${stallSeconds} seconds`
    return new SourceError(kind, stalled ? `no data came for ${seconds}` : connectionProblem(cause, url), { cause })
  }
  const body = async function* (response: Response) {
    try {
      for await (const chunk of response.body ?? []) {
        timer.refresh()
        yield chunk as Uint8Array
        timer.refresh() // a slow disk is not a slow server
      }
    } catch (cause) {
      throw failure("interrupted", cause)
    }
  }
  try {
    const response = await fetch(url, {
      headers: {
        "accept-encoding": "identity", // byte ranges and Content-Length must count the file's own bytes
        ...(resumes ? { range: `bytes=${start}-`, "if-range": version } : {}),
      },
      signal: signal ? AbortSignal.any([signal, connection.signal]) : connection.signal,
    })
    return { ...describe(response, resumes ? start : 0), body: body(response), close }
  } catch (cause) {
    close()
    throw failure("unreachable", cause)
  }
}

/** What the head of an answer says. @throws SourceError for everything that is not (a part of) the file */
function describe({ status, headers }: Response, asked: number): Pick<Part, "start" | "total" | "version"> {
  if (status === 416) throw new SourceError("outdated", "the server has less of the file than is here")
  if (status >= 500 || status === 429 || status === 408) throw new SourceError("interrupted", answered(status))
  if (status !== 200 && status !== 206) throw new SourceError("refused", answered(status))
  if (/^text\/html\b/i.test(headers.get("content-type") ?? ""))
    throw new SourceError("refused", "a web page came instead of the file, perhaps the log-in page of this network")
  const etag = headers.get("etag")
  // A weak ETag does not promise the same bytes. RFC 9110, 13.1.5
  const version = (etag?.startsWith("W/") ? undefined : etag) ?? headers.get("last-modified") ?? undefined
  if (status === 200) {
    const length = headers.get("content-length")
    return { start: 0, total: length === null ? undefined : Number(length), version }
  }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "")
  if (range === null || Number(range[1]) !== asked)
    throw new SourceError("outdated", "the server sent another part of the file than it was asked for")
  return { start: asked, total: range[2] === "*" ? undefined : Number(range[2]), version }
}

const answered = (status: number) => `the server answered ${status} ${STATUS_CODES[status] ?? ""}`.trimEnd()

/** fetch says "fetch failed" or "terminated"; what happened stands in the cause. */
function connectionProblem(error: unknown, { host, hostname }: URL): string {
  const { code = "", message = String(error) } = ((error as Error).cause ?? error) as NodeJS.ErrnoException
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `${hostname} cannot be found, so this machine seems to be offline${proxy()}`
  if (code === "ECONNREFUSED") return `nothing answers at ${host}${proxy()}`
  if (code === "ETIMEDOUT" || code === "UND_ERR_CONNECT_TIMEOUT") return `${host} does not answer${proxy()}`
  if (code === "ECONNRESET" || code === "UND_ERR_SOCKET") return `the connection to ${host} was cut`
  if (/CERT|SIGNATURE/.test(code))
    return `the certificate of ${host} is not trusted here (${code}; NODE_EXTRA_CA_CERTS=file.pem adds a trusted one)`
  return message.replace(/\.$/, "")
}

function proxy(): string {
  const { HTTPS_PROXY, https_proxy, HTTP_PROXY, http_proxy, NODE_USE_ENV_PROXY } = process.env
  const isSet = HTTPS_PROXY || https_proxy || HTTP_PROXY || http_proxy
  return isSet && NODE_USE_ENV_PROXY !== "1"
    ? " (Node uses the proxy that is set here only with NODE_USE_ENV_PROXY=1)"
    : ""
}
