// Reads the checkpoints of PyTorch (.pth, .pt) without running anything of them: torch.save's two formats.
// Since torch 1.6 a zip archive: <name>/data.pkl is a pickle, <name>/data/<key> the elements of each storage. Before, four
// pickles (magic number, version, system, objects), a fifth with the storages' keys, then each storage: count, elements.
// https://github.com/pytorch/pytorch/blob/v1.13.1/torch/serialization.py
import { groupBy } from "../arrays.ts"
import { fromData } from "./create.ts"
import { call } from "./dispatch.ts"
import { bytesPerElement, type DType } from "./dtype.ts"
import { ByteReader, gib, type OpenFile, readBytes, readingWeights, show, showName, Unreadable } from "./file-bytes.ts"
import { Known, readPickle } from "./pickle.ts"
import { memory } from "./runtime.ts"
import type { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"
import { readZipDirectory, readZipEntry } from "./zip.ts"

const MAX_PICKLE = 64 * 2 ** 20 // bytes; a model of 1,000 tensors needs 0.2 MB
const MAX_TENSORS = 50_000
// Tensors may have this many bytes: MAX_NAMES times what is stored (tied weights stand under several names), and more
// where elements are repeated, as expand() does. One element would else become all the memory there is.
const MAX_NAMES = 4
const MAX_REPEATED = 64 * 2 ** 20
const MAGIC = 0x1950a86a20f9469cfc6cn
const remedy = "In PyTorch, save model.state_dict() alone, or write a .safetensors file"

/** A run of elements in the file that tensors are views of. */
interface Storage {
  readonly key: string
  readonly dtype: DType
  /** Elements. */
  readonly count: number
}

/** What a pickle says about a storage: all of it, or (in old files) a part. */
class StorageView {
  readonly storage: Storage
  readonly start: number
  readonly count: number

  constructor(storage: Storage, start: number, count: number) {
    this.storage = storage
    this.start = start
    this.count = count
  }
}

/** The arguments of _rebuild_tensor, unchecked: a list among them may still grow while the pickle is read. */
class PickledTensor {
  readonly args: readonly unknown[]

  constructor(args: readonly unknown[]) {
    this.args = args
  }
}

/** A tensor of the file, checked: every element lies inside its storage. */
interface Entry {
  readonly name: string
  readonly storage: Storage
  /** In elements of the storage. */
  readonly offset: number
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  /** Elements. */
  readonly numel: number
}

interface Checkpoint {
  readonly root: unknown
  /** The bytes of a storage, exactly as many as it says. @throws Unreadable when the file lacks them */
  read(storage: Storage): Buffer
}

/**
 * The state dict of a checkpoint, in its order, on the CPU, in the file's dtypes. It may be the file itself or stand in a
 * dict beside other things (epoch, optimizer), under whatever key. The prefixes of DataParallel ("module.") and of
 * torch.compile ("_orig_mod.") are taken off when all names have them.
 * @param key which entry of the file's dict to take, needed only where several hold tensors ("model", "model_ema")
 * @throws UserError when the file cannot be read, is damaged or truncated, holds no state dict or several, or asks for a
 * Python object that is no part of a state dict; nothing is run in any case
 */
export function loadPth(path: string, { key }: { key?: string } = {}): { tensors: Map<string, Tensor> } {
  return readingWeights(path, (file) => {
    const checkpoint = open(file)
    const state = stateDict(checkpoint.root, key)
    const entries = [...state].flatMap(([name, value]) =>
      typeof name === "string" && value instanceof PickledTensor ? [describe(name, value)] : [],
    )
    return { tensors: withoutWrapperPrefix(readTensors(entries, checkpoint)) }
  })
}

const wrappers = ["module.", "_orig_mod."] // of DataParallel and DistributedDataParallel, of torch.compile

/** Takes "module." and "_orig_mod.", in any order, off the names when all have them. */
export function withoutWrapperPrefix(tensors: Map<string, Tensor>): Map<string, Tensor> {
  const names = [...tensors.keys()]
  if (names.length === 0) return tensors
  let length = 0
  while (true) {
    const wrapper = wrappers.find((wrapper) => names.every((name) => name.startsWith(wrapper, length)))
    if (!wrapper) break
    length += wrapper.length
  }
  return new Map(Array.from(tensors, ([name, tensor]) => [name.slice(length), tensor]))
}

// --- the two formats ---------------------------------------------------------------------------------------------------

function open(file: OpenFile): Checkpoint {
  const head = readBytes(file, 0, Math.min(file.size, 512))
  if (head.toString("latin1", 0, 2) === "PK") return openZip(file)
  if (head[0] === 0x80) return openLegacy(file)
  if (head.toString("latin1", 257, 262) === "ustar")
    throw new Unreadable(
      "it is a tar archive, as PyTorch 0.1 wrote; load it in PyTorch and save it again with torch.save",
    )
  throw new Unreadable(`torch.save did not make it: it begins with ${show(head.toString("latin1", 0, 8))}`)
}

function openZip(file: OpenFile): Checkpoint {
  const entries = readZipDirectory(file)
  const pickle = [...entries.values()].find(({ name }) => /^[^/]*\/data\.pkl$/.test(name))
  if (!pickle) throw new Unreadable("it is a zip archive without data.pkl: torch.save did not make it")
  const folder = pickle.name.slice(0, -"data.pkl".length)
  if (entries.has(`${folder}constants.pkl`))
    throw new Unreadable(`it is a TorchScript program (torch.jit.save), not weights. ${remedy}`)
  const byteorder = entries.get(`${folder}byteorder`)
  if (byteorder && (byteorder.size !== 6 || String(readZipEntry(file, byteorder)) !== "little")) throw bigEndian()

  if (pickle.size > MAX_PICKLE)
    throw new Unreadable(`its data.pkl has ${pickle.size} bytes, expected at most ${MAX_PICKLE}. ${remedy}`)
  const bytes = readZipEntry(file, pickle)
  const reader = new ByteReader((position, length) => bytes.subarray(position, position + length), 0, bytes.length)
  return {
    root: readPickle(reader, surroundings()),
    read: ({ key, dtype, count }) => {
      const entry = entries.get(`${folder}data/${key}`)
      const expected = bytesOf({ dtype, count })
      if (entry?.size !== expected)
        throw new Unreadable(
          `it is damaged: storage ${show(key)} has ${entry?.size ?? "no"} bytes, expected ${expected} for ${count} ${dtype}`,
        )
      return readZipEntry(file, entry)
    },
  }
}

function openLegacy(file: OpenFile): Checkpoint {
  const end = Math.min(file.size, MAX_PICKLE)
  const reader = new ByteReader((position, length) => readBytes(file, position, length), 0, end)
  const next = () => readPickle(reader, surroundings())
  if (next() !== MAGIC) throw new Unreadable(`it is a pickle, but torch.save did not make it. ${remedy}`)
  const version = next()
  if (version !== 1001) throw new Unreadable(`it is of the version ${show(version)}; expected 1001`)
  const system = next()
  if (system instanceof Map && system.get("little_endian") === false) throw bigEndian()
  const storages = new Map<string, Storage>()
  const root = readPickle(reader, surroundings(storages))
  const keys = next()
  if (!Array.isArray(keys)) throw new Unreadable("it is damaged: it has no list of storages")

  const positions = new Map<Storage, number>()
  let at = reader.position
  for (const key of keys) {
    const storage = storages.get(key)
    if (!storage || positions.has(storage)) throw new Unreadable(`it is damaged: it lists the storage ${show(key)}`)
    const { count } = storage
    if (at + 8 > file.size) throw truncated(file.size, at + 8)
    const stored = readBytes(file, at, 8).readBigInt64LE()
    if (stored !== BigInt(count))
      throw new Unreadable(`it is damaged: storage ${show(key)} has ${stored} elements, expected ${count}`)
    positions.set(storage, at + 8)
    at += 8 + bytesOf(storage)
    if (at > file.size) throw truncated(file.size, at)
  }
  return {
    root,
    read: (storage) => {
      const position = positions.get(storage)
      if (position === undefined) throw new Unreadable(`it is damaged: it lacks the storage ${show(storage.key)}`)
      return readBytes(file, position, bytesOf(storage))
    },
  }
}

const bigEndian = () =>
  new Unreadable("a big-endian machine wrote it. Load it in PyTorch and write a .safetensors file")
const truncated = (size: number, expected: number) =>
  new Unreadable(`it is truncated: ${size} bytes, expected at least ${expected}. Download it again`)

// --- what a pickle may ask for -----------------------------------------------------------------------------------------

const storageTypes: Readonly<Record<string, DType>> = {
  FloatStorage: "float32",
  DoubleStorage: "float64",
  HalfStorage: "float16",
  BFloat16Storage: "bfloat16",
  LongStorage: "int64",
  IntStorage: "int32",
  ShortStorage: "int16",
  CharStorage: "int8",
  ByteStorage: "uint8",
  BoolStorage: "bool",
  UntypedStorage: "uint8",
}
const storageDtypes = new Map<string, DType>(
  Object.entries(storageTypes).flatMap(([type, dtype]) =>
    ["torch", "torch.cuda", "torch.storage"].map((module) => [`${module}.${type}`, dtype] as const),
  ),
)

/** What one pickle can reach. @param storages is filled with those that the pickle names */
function surroundings(storages = new Map<string, Storage>()) {
  const ordered = new WeakMap<object, ReadonlyMap<unknown, unknown>>()
  /** Python 2 gives a list of pairs. Each list is copied once, however often a hostile file asks for it. */
  const orderedDict = ([pairs]: readonly unknown[]): ReadonlyMap<unknown, unknown> => {
    if (pairs === undefined) return new Map()
    const made = ordered.get(pairs as object)
    if (made) return made
    if (!isPairs(pairs)) throw new Unreadable("it is damaged: an OrderedDict of something other than pairs")
    const dict = new Map(pairs)
    ordered.set(pairs, dict)
    return dict
  }
  const known = new Map(
    [
      new Known("collections.OrderedDict", orderedDict),
      new Known("torch._utils._rebuild_tensor", (args) => new PickledTensor(args)),
      new Known("torch._utils._rebuild_tensor_v2", (args) => new PickledTensor(args)),
      new Known("torch._utils._rebuild_parameter", parameter),
      new Known("torch.nn.parameter.Parameter", parameter), // torchvision's files of 2017
      new Known("torch.Size", ([sizes]) => sizes),
      new Known("torch.device", ([name]) => name),
      ...Array.from(storageDtypes.keys(), (type) => new Known(type)),
    ].map((known) => [known.name, known]),
  )

  return {
    find(name: string): Known {
      const found = known.get(name)
      if (found) return found
      const shown = showName(name)
      if (/^torch\.(\w+\.)?\w+Storage$/.test(name))
        throw new Unreadable(`it holds a ${shown}; expected one of ${Object.keys(storageTypes).join(", ")}`)
      const what = name.startsWith("torch.nn.modules.")
        ? `it is a whole pickled model (${shown}), not its weights`
        : `it asks for ${shown}, which is no part of a state dict`
      throw new Unreadable(`${what}; nothing of it was run. ${remedy}`)
    },

    /** @param id ("storage", type, key, device, elements), in old files also (key, start, elements) of a part of it */
    persistent(id: unknown): StorageView {
      const [kind, type, key, , count, part = null] = Array.isArray(id) ? id : []
      const dtype = type instanceof Known ? storageDtypes.get(type.name) : undefined
      if (kind !== "storage" || !dtype || typeof key !== "string" || !isCount(count))
        throw new Unreadable("it is damaged: it refers to something that is no storage")
      const storage = storages.get(key) ?? { key, dtype, count }
      if (storage.dtype !== dtype || storage.count !== count)
        throw new Unreadable(`it is damaged: storage ${show(key)} is described twice, and differently`)
      storages.set(key, storage)
      if (part === null) return new StorageView(storage, 0, count)
      const [, start, length] = Array.isArray(part) ? part : []
      if (!isCount(start) || !isCount(length) || start + length > count)
        throw new Unreadable(`it is damaged: a part of storage ${show(key)} lies outside it`)
      return new StorageView(storage, start, length)
    },
  }
}

/** A Parameter is to us its tensor. */
function parameter([tensor]: readonly unknown[]): PickledTensor {
  if (!(tensor instanceof PickledTensor)) throw new Unreadable("it is damaged: a parameter without a tensor")
  return tensor
}

// --- which part of it is the state dict --------------------------------------------------------------------------------

function stateDict(root: unknown, key: string | undefined): ReadonlyMap<unknown, unknown> {
  if (!(root instanceof Map)) {
    const what = root instanceof PickledTensor ? "a single tensor" : Array.isArray(root) ? "a list" : "no dict"
    throw new Unreadable(`it holds ${what}; expected a state dict. ${remedy}`)
  }
  // Each dict is looked through once, though it may stand under many keys.
  const dicts = new Set([...new Set(root.values())].filter(holdsTensors))
  const names = [...root].flatMap(([name, value]) => (dicts.has(value) ? [name] : []))
  if (key !== undefined) {
    const chosen = root.get(key)
    if (dicts.has(chosen)) return chosen
    const found = names.length > 0 ? `; expected ${list(names)}` : ""
    throw new Unreadable(`it has no state dict under the key ${show(key)}${found}`)
  }
  if (dicts.size > 1)
    throw new Unreadable(`it holds ${dicts.size} state dicts, ${list(names)}: choose one with the option key`)
  const [chosen = root] = dicts // one inside wins over loose tensors beside it, such as best_acc1
  if (!holdsTensors(chosen)) {
    const others = root.size > 0 ? `; its keys are ${list([...root.keys()])}` : ""
    throw new Unreadable(`it holds no state dict${others}. ${remedy}`)
  }
  return chosen
}

function holdsTensors(value: unknown): value is ReadonlyMap<unknown, unknown> {
  if (!(value instanceof Map)) return false
  for (const [name, tensor] of value) if (typeof name === "string" && tensor instanceof PickledTensor) return true
  return false
}

const list = (names: readonly unknown[]): string =>
  `${names.slice(0, 10).map(show).join(", ")}${names.length > 10 ? ", ..." : ""}`

// --- from views of storages to tensors ---------------------------------------------------------------------------------

/** @throws Unreadable when an element would lie outside its storage */
function describe(name: string, { args: [view, offset, shape, strides] }: PickledTensor): Entry {
  const wrong = (what: string) => new Unreadable(`it is damaged: tensor ${show(name)} ${what}`)
  if (!(view instanceof StorageView)) throw wrong("has no storage")
  if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length)
    throw wrong("has an offset, a shape or strides that no tensor has")
  // Doubles do not overflow: where a product or a sum is not exact, it is far beyond every storage.
  const volume = shape.reduce((product, size) => product * Math.max(1, size), 1)
  if (volume > Number.MAX_SAFE_INTEGER) throw wrong(`has shape [${shape.join(", ")}]`)
  const { storage, start, count } = view
  if (shape.includes(0)) return { name, storage, offset: 0, shape, strides: shape.map(() => 0), numel: 0 }
  const last = shape.reduce((sum, size, axis) => sum + (size - 1) * strides[axis]!, offset)
  if (last >= count) throw wrong(`of shape [${shape.join(", ")}] needs ${last + 1} elements, its storage has ${count}`)
  return { name, storage, offset: start + offset, shape, strides, numel: volume }
}

/** Each storage is read once, whatever the number of its views, and let go before the next. */
function readTensors(entries: readonly Entry[], checkpoint: Checkpoint): Map<string, Tensor> {
  if (entries.length > MAX_TENSORS)
    throw new Unreadable(`it holds ${entries.length} tensors, expected at most ${MAX_TENSORS}`)
  const views = groupBy(entries, ({ storage }) => storage)
  const largest = Math.max(...Array.from(views.keys(), bytesOf))
  // A storage stands in memory twice, as read and as libtorch has it, while its views are copied.
  const copies = entries.reduce((sum, { storage, numel }) => sum + bytesOf({ ...storage, count: numel }), 0)
  const needed = copies + 2 * largest
  const { limitBytes } = memory()
  if (needed > limitBytes)
    throw new Unreadable(`it needs ${gib(needed)} GiB of memory, this machine has ${gib(limitBytes)}`)
  const stored = Array.from(views.keys(), bytesOf).reduce((sum, bytes) => sum + bytes, 0)
  if (copies > MAX_NAMES * stored + MAX_REPEATED)
    throw new Unreadable(
      `its tensors have ${copies} bytes and only ${stored} are stored, expected at most ${MAX_NAMES} times as many: they ` +
        "repeat elements. In PyTorch, call contiguous() on them before saving",
    )

  return tidy(() => {
    const tensors = new Map<Entry, Tensor>()
    for (const [storage, group] of views) {
      const isEmpty = group.every(({ numel }) => numel === 0)
      const bytes = isEmpty ? Buffer.alloc(0) : checkpoint.read(storage)
      using all = fromData(bytes, [isEmpty ? 0 : storage.count], { dtype: storage.dtype })
      for (const entry of group) tensors.set(entry, copyOf(entry, all))
    }
    return new Map(entries.map((entry) => [entry.name, tensors.get(entry)!]))
  })
}

/** A copy of its own for each view, row by row: also where views overlap, are transposed or repeat an element. */
function copyOf({ offset, shape, strides }: Entry, all: Tensor): Tensor {
  using view = call("aten::as_strided", all, shape, strides, offset) as Tensor
  return view.clone({ memoryFormat: "contiguous" })
}

const bytesOf = ({ dtype, count }: Pick<Storage, "dtype" | "count">): number => count * bytesPerElement[dtype]
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length <= 64 && value.every(isCount)
const isPairs = (value: unknown): value is (readonly [unknown, unknown])[] =>
  Array.isArray(value) && value.every((pair) => Array.isArray(pair) && pair.length === 2)
