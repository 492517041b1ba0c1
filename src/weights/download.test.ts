// Downloads of small files from a server on this machine that misbehaves on demand.
import { createHash } from "node:crypto"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { homedir, tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"
import { UserError } from "../errors.ts"
import { type Download, type FetchOptions, fetchWeights, weightsFolder } from "./download.ts"

const SIZE = 300_000
const bytes = (seed: number) => Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * i * 31 + i * seed) >> 3))
const content = bytes(7)
const other = bytes(8)
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex").slice(0, 8)

let folder: string
let cache: string
let server: Server
let requests: IncomingMessage["headers"][]
/** What the server does with a request; the default is to serve `content` well. */
let answer: (request: IncomingMessage, response: ServerResponse) => unknown

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "pixelwise-weights-"))
  cache = join(folder, "cache")
  requests = []
  answer = serve(content)
  server = createServer((request, response) => {
    requests.push(request.headers)
    answer(request, response)
  })
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
  vi.stubEnv("PIXELWISE_WEIGHTS_URL", "")
})
afterEach(async () => {
  vi.unstubAllEnvs()
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  rmSync(folder, { recursive: true, force: true })
})

const address = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const entry = (data = content, url = `${address()}/models/net-x.pth`): Download => ({
  ...{ url, sha256: sha256(data), mebibytes: SIZE / 2 ** 20 },
})
const path = () => join(cache, "net-x.pth")
const fetchIt = (options: FetchOptions = {}, download = entry()) =>
  fetchWeights(download, { cacheFolder: cache, retrySeconds: [0.01, 0.01], ...options })

/** A good server: ETag, byte ranges, If-Range. `until`: cuts the connection after that many bytes of the file. */
function serve(data: Buffer, { until = data.length, etag = `"${sha256(data)}"` as string | null } = {}) {
  return ({ headers }: IncomingMessage, response: ServerResponse): void => {
    const asked = /^bytes=(\d+)-$/.exec(headers.range ?? "")
    const start = asked && headers["if-range"] === etag ? Number(asked[1]) : 0
    if (start >= data.length) {
      response.writeHead(416, { "content-range": `bytes */${data.length}` }).end()
      return
    }
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": data.length - start,
      ...(etag === null ? {} : { etag }),
      ...(start > 0 ? { "content-range": `bytes ${start}-${data.length - 1}/${data.length}` } : {}),
    })
    if (until === data.length) response.end(data.subarray(start))
    else response.write(data.subarray(start, until), () => setTimeout(() => response.destroy(), 20))
  }
}

/** Answers the first request with the first handler, the second with the second; the last one stays. */
function inTurn(...handlers: (typeof answer)[]): typeof answer {
  let turn = 0
  return (request, response) => handlers[Math.min(turn++, handlers.length - 1)]?.(request, response)
}

async function sentence(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason) => reason,
  )
  expect(error).toBeInstanceOf(UserError)
  return error.message
}

/** Leaves the first 100,000 bytes as an interrupted call would. */
async function interrupted(data = content): Promise<void> {
  answer = serve(data, { until: 100_000 })
  await sentence(fetchIt({ retrySeconds: [] }))
  expect(readFileSync(`${path()}.partial`)).toEqual(data.subarray(0, 100_000))
  answer = serve(content)
  requests = []
}

const expectDone = async (result: Promise<string>, data = content) => {
  expect(await result).toBe(path())
  expect(readFileSync(path()).equals(data)).toBe(true)
  expect(readdirSync(cache), "nothing else is left").toEqual(["net-x.pth"])
}

describe("a download", () => {
  test("arrives whole, with progress", async () => {
    const seen: [number, number][] = []
    await expectDone(fetchIt({ onProgress: (received, total) => seen.push([received, total]) }))
    expect(seen[0]).toEqual([0, SIZE])
    expect(seen.at(-1)).toEqual([SIZE, SIZE])
    expect(seen.every(([received], k) => k === 0 || received > (seen[k - 1]?.[0] as number))).toBe(true)
    expect(requests[0]).toMatchObject({ "accept-encoding": "identity" })
  })

  test("is done once: the cache needs no server", async () => {
    await fetchIt()
    answer = (_, response) => response.writeHead(500).end()
    await expectDone(fetchIt({ onProgress: () => expect.unreachable() }))
    expect(requests).toHaveLength(1)
  })

  test("follows redirects, and knows no total where the server says none", async () => {
    answer = inTurn(
      (_, response) => response.writeHead(302, { location: "/elsewhere" }).end(),
      (_, response) => {
        response.writeHead(200)
        response.write(content.subarray(0, 1000))
        response.end(content.subarray(1000))
      },
    )
    const totals = new Set<number>()
    await expectDone(fetchIt({ onProgress: (_, total) => totals.add(total) }))
    expect([...totals]).toEqual([SIZE]) // from the registry's MiB
  })

  test("of one file by two callers is one request", async () => {
    let received = 0
    answer = (request, response) => setTimeout(() => serve(content)(request, response), 300)
    const onProgress = (count: number) => {
      received = count
    }
    await Promise.all([expectDone(fetchIt()), fetchIt({ onProgress }), fetchIt({}, entry())])
    expect(requests).toHaveLength(1)
    expect(received).toBeLessThanOrEqual(SIZE)
  })

  test("takes the lock of a process that was killed", async () => {
    mkdirSync(cache)
    writeFileSync(`${path()}.lock`, "")
    const before = Date.now() / 1000 - 60
    utimesSync(`${path()}.lock`, before, before)
    await expectDone(fetchIt())
  })
})

describe("an interrupted download", () => {
  test("goes on by itself, where it stopped", async () => {
    answer = inTurn(serve(content, { until: 100_000 }), serve(content, { until: 200_000 }), serve(content))
    const seen: number[] = []
    await expectDone(fetchIt({ onProgress: (received) => seen.push(received) }))
    expect(requests.map(({ range }) => range)).toEqual([undefined, "bytes=100000-", "bytes=200000-"])
    expect(seen.every((received, k) => k === 0 || received >= (seen[k - 1] as number))).toBe(true)
  })

  test("says after some tries that the next call goes on, and that goes on", async () => {
    answer = serve(content, { until: 100_000 })
    const message = await sentence(fetchIt())
    expect(requests).toHaveLength(3)
    expect(message).toMatch(
      /net-x\.pth: .*(cut|terminated).*; 0\.1 of 0\.3 MiB are kept, and the next call goes on from there\./,
    )
    answer = serve(content)
    await expectDone(fetchIt())
    expect(requests.at(-1)).toMatchObject({ range: "bytes=100000-", "if-range": `"${sha256(content)}"` })
  })

  test("begins anew where the server knows no ranges", async () => {
    await interrupted()
    answer = (_, response) => response.writeHead(200, { etag: `"${sha256(content)}"` }).end(content)
    await expectDone(fetchIt())
    expect(requests[0]?.range).toBe("bytes=100000-")
  })

  test("begins anew where the server names no version, and promises nothing else", async () => {
    answer = serve(content, { until: 100_000, etag: null })
    expect(await sentence(fetchIt({ retrySeconds: [] }))).not.toContain("goes on")
    answer = serve(content)
    await expectDone(fetchIt())
    expect(requests.map(({ range }) => range)).toEqual([undefined, undefined])
  })

  test("uses the date where the ETag is weak", async () => {
    const date = "Wed, 21 Oct 2015 07:28:00 GMT"
    answer = (request, response) => {
      response.setHeader("last-modified", date)
      serve(content, { until: 100_000, etag: 'W/"1"' })(request, response)
    }
    await sentence(fetchIt({ retrySeconds: [] }))
    answer = serve(content, { etag: date })
    await expectDone(fetchIt())
    expect(requests[1]).toMatchObject({ range: "bytes=100000-", "if-range": date })
  })

  test("begins anew when the file on the server is another one now", async () => {
    await interrupted(other)
    await expectDone(fetchIt())
    expect(requests).toHaveLength(1)
  })

  test.each<[string, typeof answer]>([
    ["416", (_, response) => response.writeHead(416).end()],
    ["another range", (_, response) => response.writeHead(206, { "content-range": "bytes 5-9/10" }).end("56789")],
  ])("begins anew when the server answers %s", async (_, wrong) => {
    await interrupted()
    answer = inTurn(wrong, serve(content))
    await expectDone(fetchIt())
    expect(requests.map(({ range }) => range)).toEqual(["bytes=100000-", undefined])
  })

  test("begins anew for another mirror", async () => {
    await interrupted()
    vi.stubEnv("PIXELWISE_WEIGHTS_URL", `${address()}/mirror`)
    await expectDone(fetchIt())
    expect(requests[0]?.range).toBeUndefined()
  })

  test("needs no request when all had come", async () => {
    await interrupted()
    writeFileSync(`${path()}.partial`, content)
    await expectDone(fetchIt())
    expect(requests).toHaveLength(0)
  })

  test("is one that stalls, too", async () => {
    answer = inTurn((_, response) => {
      response.writeHead(200, { "content-length": SIZE, etag: `"${sha256(content)}"` })
      response.write(content.subarray(0, 50_000))
    }, serve(content))
    await expectDone(fetchIt({ stallSeconds: 0.2 }))
    expect(requests[1]?.range).toBe("bytes=50000-")
  })

  test("can be interrupted by the caller, who goes on later", async () => {
    const controller = new AbortController()
    answer = (_, response) => {
      response.writeHead(200, { "content-length": SIZE, etag: `"${sha256(content)}"` })
      response.write(content.subarray(0, 50_000))
    }
    const onProgress = (received: number) => received === 50_000 && controller.abort()
    await expect(fetchIt({ signal: controller.signal, onProgress })).rejects.toMatchObject({ name: "AbortError" })
    expect(readdirSync(cache).sort()).toEqual(["net-x.pth.partial", "net-x.pth.partial.json"])
    await expect(fetchIt({ signal: controller.signal })).rejects.toMatchObject({ name: "AbortError" })
    answer = serve(content)
    await expectDone(fetchIt())
    expect(requests.map(({ range }) => range)).toEqual([undefined, "bytes=50000-"])
  })

  test("tries again when the server is busy", async () => {
    answer = inTurn((_, response) => response.writeHead(503).end(), serve(content))
    await expectDone(fetchIt())
  })
})

describe("wrong bytes", () => {
  test("are deleted, with what was got and expected", async () => {
    answer = serve(other)
    const message = await sentence(fetchIt())
    expect(message).toContain(`begins with ${sha256(other)}, expected ${sha256(content)}`)
    expect(readdirSync(cache)).toEqual([])
    answer = serve(content)
    await expectDone(fetchIt())
  })

  test("that are too many end when that is known, with nothing kept", async () => {
    const most = SIZE + 2 ** 16
    const long = Buffer.alloc(4 * SIZE)
    const seen: number[] = []
    const onProgress = (received: number) => seen.push(received)
    answer = serve(long)
    expect(await sentence(fetchIt({ onProgress }))).toMatch(
      /not the published file: it has 1200000 bytes, expected about 300000\. Nothing of it was kept; try again/,
    )
    expect(seen, "refused before the first byte").toEqual([])

    answer = (_, response) => void response.write(long) // chunked, and without end
    expect(await sentence(fetchIt({ onProgress }))).toContain(
      `it has more than ${most} bytes, expected about 300000. It was`,
    )
    expect(Math.max(...seen)).toBeLessThanOrEqual(most)
    expect(requests, "each asked once").toHaveLength(2)
    expect(readdirSync(cache)).toEqual([])

    await interrupted()
    answer = (_, response) => {
      response.writeHead(206, { "content-range": `bytes 100000-${4 * SIZE - 1}/*` })
      response.write(long)
    }
    expect(await sentence(fetchIt())).toContain(`more than ${most} bytes`)
    await interrupted()
    const mirror = join(folder, "net-x.pth")
    writeFileSync(mirror, long)
    vi.stubEnv("PIXELWISE_WEIGHTS_URL", pathToFileURL(folder).href)
    expect(await sentence(fetchIt())).toMatch(/it has 1200000 bytes, .* put the right one into PIXELWISE_WEIGHTS_URL/)
    expect(readdirSync(cache)).toEqual([])
    expect(existsSync(mirror), "only our own copy is deleted").toBe(true)
  })

  test("in the part that had come are found as well", async () => {
    await interrupted()
    writeFileSync(`${path()}.partial`, other.subarray(0, 100_000))
    expect(await sentence(fetchIt())).toContain(`expected ${sha256(content)}`)
    expect(requests[0]?.range).toBe("bytes=100000-")
    expect(readdirSync(cache)).toEqual([])
  })

  test("in the cache are named and kept: they may have been put there by hand", async () => {
    await fetchIt()
    writeFileSync(path(), content.subarray(0, 1000))
    const message = await sentence(fetchIt())
    expect(message).toContain(path())
    expect(message).toContain(`begins with ${sha256(content.subarray(0, 1000))}, expected ${sha256(content)}`)
    expect(existsSync(path())).toBe(true)
  })
})

describe("what cannot be had is one sentence that tells the way by hand", () => {
  const byHand = () =>
    `Download ${entry().url} on another machine and put it at ${path()}, or set PIXELWISE_WEIGHTS_URL`

  test.each<[string, typeof answer, RegExp]>([
    ["404", (_, response) => response.writeHead(404).end(), /answered 404 Not Found\./],
    ["403", (_, response) => response.writeHead(403).end("<html>"), /answered 403 Forbidden\./],
    [
      "HTML",
      (_, response) => response.setHeader("content-type", "text/html; charset=utf-8").end("<!doctype html>"),
      /web page/,
    ],
  ])("%s", async (_, handler, says) => {
    answer = handler
    const message = await sentence(fetchIt())
    expect(message).toMatch(says)
    expect(message).toContain(byHand())
    expect(requests, "asked once").toHaveLength(1)
    expect(readdirSync(cache)).toEqual([])
  })

  test("a server that never answers", async () => {
    answer = () => {}
    const message = await sentence(fetchIt({ stallSeconds: 0.2 }))
    expect(message).toContain("no data came for 0.2 seconds")
    expect(message).toContain(byHand())
  })

  test("no server", async () => {
    const download = entry()
    await new Promise((done) => server.close(done))
    const started = performance.now()
    const message = await sentence(fetchIt({ retrySeconds: [9] }, download))
    expect(message).toMatch(/nothing answers at 127\.0\.0\.1:\d+\. Download /)
    expect(performance.now() - started, "milliseconds: no pause for further tries").toBeLessThan(5000)
    server.listen(0)
  })

  test("no such host, where a proxy is set that Node does not use", async () => {
    vi.stubEnv("HTTPS_PROXY", "http://127.0.0.1:9")
    vi.stubEnv("NODE_USE_ENV_PROXY", undefined)
    const message = await sentence(fetchIt({}, entry(content, "http://pixelwise.invalid/net-x.pth")))
    expect(message).toMatch(/pixelwise\.invalid cannot be found, .*offline.*NODE_USE_ENV_PROXY=1/)
  })

  test("a disk without room, and no way to write", async () => {
    mkdirSync(cache)
    if (existsSync("/dev/full")) {
      symlinkSync("/dev/full", `${path()}.partial`)
      expect(await sentence(fetchIt())).toMatch(/net-x\.pth: the disk is full\. PIXELWISE_CACHE=/)
    }
    writeFileSync(join(folder, "file"), "")
    expect(await sentence(fetchIt({ cacheFolder: join(folder, "file") }))).toContain("is a file, not a folder")
  })
})

describe("a mirror", () => {
  test.each(["/mirror", "/mirror/"])("by http: %s", async (place) => {
    vi.stubEnv("PIXELWISE_WEIGHTS_URL", address() + place)
    const seen: (string | undefined)[] = []
    answer = (request, response) => {
      seen.push(request.url)
      serve(content)(request, response)
    }
    await expectDone(fetchIt({}, entry(content, "https://pixelwise.invalid/models/net-x.pth")))
    expect(seen).toEqual(["/mirror/net-x.pth"])
  })

  test("by file://", async () => {
    const mirror = join(folder, "my mirror")
    mkdirSync(mirror)
    writeFileSync(join(mirror, "net-x.pth"), content)
    vi.stubEnv("PIXELWISE_WEIGHTS_URL", pathToFileURL(mirror).href)
    const seen: number[] = []
    await expectDone(fetchIt({ onProgress: (received) => seen.push(received) }))
    expect(seen.at(-1)).toBe(SIZE)
    expect(requests).toHaveLength(0)
    expect(existsSync(join(mirror, "net-x.pth"))).toBe(true)
  })

  test("without the file, and with another one", async () => {
    vi.stubEnv("PIXELWISE_WEIGHTS_URL", pathToFileURL(folder).href)
    const message = await sentence(fetchIt())
    expect(message).toContain(
      `Cannot download ${pathToFileURL(join(folder, "net-x.pth"))}: it does not exist. Look at PIXELWISE`,
    )
    expect(message).toContain(`download ${entry().url} on another machine and put it at ${path()}`)
    writeFileSync(join(folder, "net-x.pth"), other)
    expect(await sentence(fetchIt())).toMatch(/not the published file: .* put the right one into PIXELWISE_WEIGHTS_URL/)
    expect(existsSync(path())).toBe(false)
  })

  test.each(["/srv/weights", "ftp://host/x", "file://host/x", "https://me:secret@host/x", "nonsense"])(
    "%s is refused",
    async (mirror) => {
      vi.stubEnv("PIXELWISE_WEIGHTS_URL", mirror)
      expect(await sentence(fetchIt())).toContain(`PIXELWISE_WEIGHTS_URL is "${mirror}"; expected`)
    },
  )
})

describe("weightsFolder", () => {
  test.each<[NodeJS.ProcessEnv, NodeJS.Platform, string]>([
    [{ PIXELWISE_CACHE: "/srv/cache", XDG_CACHE_HOME: "/xdg" }, "linux", "/srv/cache/weights"],
    [{ PIXELWISE_CACHE: "cache" }, "linux", join(resolve("cache"), "weights")],
    [{ XDG_CACHE_HOME: "/xdg" }, "linux", "/xdg/pixelwise/weights"],
    [{ XDG_CACHE_HOME: "relative", PIXELWISE_CACHE: "" }, "linux", join(homedir(), ".cache/pixelwise/weights")],
    [{}, "darwin", join(homedir(), "Library/Caches/pixelwise/weights")],
    [{ LOCALAPPDATA: "/local" }, "win32", "/local/pixelwise/weights"],
  ])("%j on %s is %s", (env, platform, expected) => {
    expect(weightsFolder(env, platform)).toBe(expected)
  })
})
