// The process that the fuzz tests start, because what they look for ends a process. It writes each call to a file before
// making it, so that the last one is known, and prints what it counted.
//     node fuzz-child.ts '{ "seed": 1, "operators": ["aten::relu"], "calls": 20, "log": "/tmp/x" }'
import { openSync, writeSync } from "node:fs"
import { inspect } from "node:util"
import * as torch from "../../src/torch/index.ts"
import {
  aten,
  call,
  findOperator,
  grad,
  liveTensors,
  ones,
  slice,
  Tensor,
  tensor,
  tidy,
} from "../../src/torch/index.ts"
import { native } from "../../src/torch/native.ts"
import { type ArgumentType, hostile, Plausible, Random, recipes } from "./values.ts"

export interface Job {
  readonly seed: number
  /** Full names; with "raw", functions of the addon, "methods" those of Tensor and of the index. */
  readonly operators: readonly string[]
  /** Calls of each. */
  readonly calls: number
  readonly log: string
}

export interface Report {
  calls: number
  returned: number
  threw: number
  /** What broke the rule that a failure is an Error. */
  violations: string[]
  leaked: number
  slowest: { call: string; milliseconds: number }
}

const job: Job = JSON.parse(process.argv[2] as string)
const file = openSync(job.log, "w")
const report: Report = {
  calls: 0,
  returned: 0,
  threw: 0,
  violations: [],
  leaked: 0,
  slowest: { call: "", milliseconds: 0 },
}

const show = (value: unknown): string => {
  try {
    if (value instanceof Tensor)
      return value.isDisposed ? "disposed" : `${value.signature}${value.requiresGrad ? "g" : ""}/${value.strides}`
    if (Array.isArray(value)) return value.length > 20 ? `Array(${value.length})` : `[${Array.from(value, show)}]`
    if (typeof value === "string") return JSON.stringify(value.slice(0, 40))
    return inspect(value, { depth: 0 }).slice(0, 60)
  } catch {
    return "?"
  }
}

/** One call under watch. What it throws must be an Error. */
function attempt(name: string, args: readonly unknown[], run: () => unknown): unknown {
  const line = `${name}(${args.map(show).join(", ")})`
  writeSync(file, Buffer.from(`${line.slice(0, 3000).padEnd(3000)}\n`), 0, 3001, 0)
  report.calls++
  const started = performance.now()
  try {
    const result = run()
    report.returned++
    return result
  } catch (error) {
    report.threw++
    const own = error === "trap" || error === 5 || error === undefined // thrown by a trap of ours, and passed through
    if (!own && !(error instanceof Error && error.message)) report.violations.push(`${line} threw ${inspect(error)}`)
    return undefined
  } finally {
    const milliseconds = performance.now() - started
    if (milliseconds > 500) console.error(milliseconds, line)
    if (milliseconds > report.slowest.milliseconds) report.slowest = { call: line, milliseconds }
  }
}

function fuzzOperator(fullName: string, r: Random): void {
  let types: readonly ArgumentType[]
  try {
    types = findOperator(fullName).arguments
  } catch {
    return // refused, or not in this libtorch
  }
  const recipe = recipes[fullName.replace("aten::", "")]
  for (let k = 0; k < job.calls; k++) {
    tidy(() => {
      const plausible = new Plausible(r)
      let args = types.map((type) => plausible.argument(type))
      if (recipe && r.chance(0.8)) {
        const valid = recipe()
        const changes = r.below(3)
        for (let change = 0; change < changes; change++) {
          const at = r.below(valid.length)
          valid[at] = args[at]
        }
        for (const value of valid)
          if (value instanceof Tensor && value.dtype === "float32" && value.isLeaf && r.chance(0.3))
            value.requiresGrad_()
        args = valid
      }
      if (r.chance(0.08)) args[r.below(args.length + 1)] = hostile(r)
      if (r.chance(0.01)) args.pop()
      using _ = r.chance(0.2) ? torch.noGrad() : torch.enableGrad()
      use(
        fullName,
        r,
        args,
        attempt(fullName, args, () => call(fullName, ...args)),
      )
    })
  }
}

/** Reads, prints and differentiates what came back: a broken tensor shows only then. */
function use(name: string, r: Random, args: readonly unknown[], result: unknown): void {
  const results = [result].flat().filter((value) => value instanceof Tensor)
  for (const value of results) {
    if (value.numel < 1e5 && !value.dtype.startsWith("complex")) attempt(`data of ${name}`, args, () => value.data())
    if (r.chance(0.02)) attempt(`print of ${name}`, args, () => String(value))
  }
  const outputs = results.filter((value) => value.requiresGrad && value.numel < 1e5 && /^b?float/.test(value.dtype))
  const inputs = leaves(args)
  if (outputs.length === 0 || inputs.length === 0) return
  attempt(`gradient of ${name}`, args, () => {
    const gradients = outputs.map((output) => aten.ones_like(output))
    const createGraph = r.chance(0.3)
    const first = grad(outputs, inputs, { gradients, createGraph }).filter((g) => g?.requiresGrad) as Tensor[]
    if (first.length > 0) grad(first, inputs, { gradients: first.map((g) => aten.ones_like(g)) })
  })
}

/** The tensors among the arguments that want a gradient; none when one of the arguments is a trap. */
function leaves(args: readonly unknown[]): Tensor[] {
  try {
    const flat = args.flatMap((value) => (Array.isArray(value) && value.length < 20 ? [...value] : [value]))
    return flat.filter((value) => value instanceof Tensor && value.requiresGrad && value.isLeaf)
  } catch {
    return []
  }
}

function fuzzRaw(name: string, r: Random): void {
  const run = native[name as keyof typeof native] as (...args: unknown[]) => unknown
  const relu = native.findOperator("aten::add", "Tensor").id
  const valid: Record<string, () => unknown[]> = {
    call: () => [relu, handle(), handle()],
    findOperator: () => ["aten::relu", ""],
    fromData: () => [new Float32Array(6), [2, 3], "float32"],
    read: () => [handle(), new Float32Array(6)],
    backward: () => [[handle()], [null], false, false],
    gradients: () => [[handle()], [handle()], [null], false, false],
    setGradient: () => [handle(), handle()],
    setGradEnabled: () => [true],
  }
  const handle = () => ones([2, 3], { requiresGrad: r.chance(0.5) }).handleFor("fuzz")
  for (let k = 0; k < job.calls; k++) {
    tidy(() => {
      const args = valid[name]?.() ?? [handle()]
      const changes = r.below(3)
      for (let change = 0; change < changes; change++)
        args[r.below(args.length + 1)] = r.chance(0.5)
          ? hostile(r)
          : r.pick([-1, 0, 1, 2 ** 24, 2 ** 31, 1e17, null, []])
      if (r.chance(0.1)) args.length = r.below(args.length + 1)
      attempt(`native.${name}`, args, () => run(...args))
    })
  }
}

function fuzzMethods(r: Random): void {
  const names = Object.getOwnPropertyNames(Tensor.prototype).filter((name) => !/^(constructor|keep)$/.test(name))
  const functions = Object.entries(torch).filter(
    ([name, value]) => typeof value === "function" && !/Threads|Safetensors|Error$|tidy|^call$/.test(name),
  )
  const value = () =>
    r.pick([
      () => hostile(r),
      () => ones([2, 3]),
      () => r.below(5) - 2,
      () => [1, 2],
      () => ({ dim: hostile(r) }),
      () => slice(0, r.below(3)),
    ])()
  for (let k = 0; k < job.calls; k++) {
    tidy(() => {
      const self = r.pick([
        () =>
          tensor([
            [1, 2, 3],
            [4, 5, 6],
          ]),
        () => hostile(r),
      ])()
      const args = Array.from({ length: r.below(4) }, value)
      const name = r.pick(names)
      attempt(`Tensor.${name}`, [self, ...args], () => {
        const {
          get,
          set,
          value: method,
        } = Object.getOwnPropertyDescriptor(Tensor.prototype, name) as PropertyDescriptor
        if (set && args.length > 0) return set.call(self, args[0])
        return get ? get.call(self) : method.apply(self, args)
      })
      const [label, fn] = r.pick(functions)
      using _ = torch.enableGrad() // puts back what noGrad() changes
      attempt(label, args, () =>
        /^[A-Z]/.test(label) ? Reflect.construct(fn as never, args) : (fn as (...a: unknown[]) => unknown)(...args),
      )
    })
  }
}

torch.manualSeed(job.seed)
const before = liveTensors()
for (const [k, name] of job.operators.entries()) {
  const r = new Random(job.seed * 1_000_003 + k * 7919)
  if (name.startsWith("native.")) fuzzRaw(name.slice(7), r)
  else if (name === "methods") fuzzMethods(r)
  else fuzzOperator(name, r)
}
report.leaked = liveTensors() - before
report.violations.splice(20)
console.log(JSON.stringify(report))
