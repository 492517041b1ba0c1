// The addon in several threads at once, and every way for a process to end.
import { spawnSync } from "node:child_process"
import { expect, test } from "vitest"

const torch = new URL("../../src/torch/index.ts", import.meta.url).href

/** Runs a module with the tensor layer as `t` in a process of its own. */
function run(body: string): { status: number | null; output: string } {
  const script = `import * as t from "${torch}"\n${body}`
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    timeout: 30_000,
  })
  return { status, output: `${stdout}${stderr}${signal ?? ""}` }
}

/** A worker's code that ends with live tensors, a graph, and gradients switched off. */
const workerBody = `
  import { parentPort, threadId } from "node:worker_threads"
  import * as t from "${torch}"
  const weight = t.randn([16, 16], { requiresGrad: true })
  let total = 0
  for (let k = 0; k < 50; k++) {
    t.tidy(() => {
      weight.grad = null
      t.randn([32, 16]).matmul(weight).pow(2).sum().backward()
      total += t.tidy(() => weight.grad.abs().sum().item())
    })
  }
  const live = weight.mul(2)
  const guard = t.noGrad()
  if (!Number.isFinite(total)) throw new Error("total " + total)
  parentPort.postMessage(t.isGradEnabled())`
const startWorker = `
  const { Worker } = await import("node:worker_threads")
  const start = () => new Promise((resolve, reject) => {
    const worker = new Worker(new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(workerBody)})))
    let message
    worker.on("message", (value) => { message = value })
    worker.on("error", reject)
    worker.on("exit", (code) => resolve([code, message]))
  })`

test("workers and the main thread use libtorch at once; a handle or a grad mode of one is nothing to the other", () => {
  const { status, output } = run(`${startWorker}
    const before = t.liveTensors()
    const mine = t.ones([3], { requiresGrad: true })
    const workers = Promise.all([start(), start(), start()])
    let busy = true
    workers.finally(() => { busy = false })
    let steps = 0
    while (busy) {
      t.tidy(() => t.randn([64, 64]).matmul(t.randn([64, 64])).sum().item())
      if (++steps % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    console.log(JSON.stringify(await workers), t.isGradEnabled(), t.liveTensors() - before, mine.requiresGrad)`)
  expect(output.trim()).toBe("[[0,false],[0,false],[0,false]] true 1 true")
  expect(status).toBe(0)
}, 60_000)

test("workers may be terminated inside a call, also inside one that fails", () => {
  const { status, output } = run(`
    const { Worker } = await import("node:worker_threads")
    const loops = [
      "t.tidy(() => t.randn([32, 16], { requiresGrad: true }).pow(2).sum().backward())",
      "try { t.ones([2]).add(t.ones([3])) } catch {}",
      "try { t.zeros(new Array(50).fill('x')) } catch {}",
      "t.tidy(() => t.aten.chunk(t.ones([500]), 500))",
    ]
    for (let k = 0; k < 24; k++) {
      const code = 'import * as t from "${torch}"; import { parentPort } from "node:worker_threads"; parentPort.postMessage(0); for (;;) '
      const worker = new Worker(new URL("data:text/javascript," + encodeURIComponent(code + loops[k % 4])))
      await new Promise((resolve) => worker.once("message", resolve))
      await new Promise((resolve) => setTimeout(resolve, (k * 7) % 25))
      await worker.terminate()
    }
    console.log(t.ones([2]).sum().item())`)
  expect(output.trim()).toBe("2")
  expect(status).toBe(0)
}, 60_000)

const endings: [how: string, body: string, status: number][] = [
  [
    "with live tensors, gradients and a graph",
    "globalThis.x = t.ones([1000], { requiresGrad: true }); globalThis.y = x.mul(x); y.sum().backward()",
    0,
  ],
  ["inside noGrad and tidy", "t.noGrad(); t.tidy(() => { t.ones([5]); process.exit(0) })", 0],
  ["with a kept generator and its state", "globalThis.g = new t.Generator(1); globalThis.s = t.rngState()", 0],
  ["by process.exit in a busy pool of threads", "t.randn([512, 512]).matmul(t.randn([512, 512])); process.exit(3)", 3],
  ["by an uncaught error in a tidy", "t.tidy(() => { t.ones([2]); throw new Error('mine') })", 1],
  ["after an out-of-memory error", "try { t.zeros([2 ** 50]) } catch {}", 0],
]
test.each(endings)("the process ends %s", (_, body, expected) => {
  expect(run(body).status).toBe(expected)
})
