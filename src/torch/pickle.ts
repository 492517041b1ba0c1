// Reads Python's pickles, as far as torch.save writes them, and runs nothing of them.
// A pickle is a program for a small stack machine. In Python it may fetch any function by its name and call it, which is
// why opening a downloaded .pth there can do anything. Here a name stands for one of a few functions of our own, or the
// file is refused by that name. https://github.com/python/cpython/blob/3.11/Lib/pickletools.py describes each operation.
import { type ByteReader, Unreadable } from "./file-bytes.ts"

/**
 * What a name in a pickle stands for. Python's numbers, strings, None, True and False become JavaScript's, lists and
 * tuples become arrays, dicts become Maps; what `call` returns is the caller's.
 */
export class Known {
  readonly name: string
  readonly call: ((args: readonly unknown[]) => unknown) | undefined

  constructor(name: string, call?: (args: readonly unknown[]) => unknown) {
    this.name = name
    this.call = call
  }
}

export interface Surroundings {
  /** @param name "torch._utils._rebuild_tensor_v2" @throws Unreadable for every name that is not expected */
  find(name: string): Known
  /** The object that the pickle refers to and that is stored elsewhere. */
  persistent(id: unknown): unknown
}

/**
 * Each operation makes at most one small object, so this bounds memory (0.3 GB when all are dicts) and time (2 s).
 * A tensor takes about 45: there may be 45,000 of them.
 */
const MAX_OPERATIONS = 2 ** 21
const MAX_STRING = 2 ** 20 // bytes

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** @throws Unreadable when the pickle is damaged, endless, or asks for what `surroundings` does not know */
export function readPickle(reader: ByteReader, { find, persistent }: Surroundings): unknown {
  const stack: unknown[] = []
  const marks: number[] = [] // heights of the stack
  const memo = new Map<number, unknown>()

  const pop = (): unknown => {
    if (stack.length <= (marks.at(-1) ?? 0)) throw damaged("an operation lacks an argument")
    return stack.pop()
  }
  const popTuple = (length: number): unknown[] => Array.from({ length }, pop).reverse()
  const popToMark = (): unknown[] => {
    const mark = marks.pop()
    if (mark === undefined) throw damaged("an operation lacks its mark")
    return stack.splice(mark)
  }
  /** What an operation adds to: it stays on the stack. */
  const top = (): unknown => {
    const value = pop()
    stack.push(value)
    return value
  }
  const string = (length: number): string => {
    if (length > MAX_STRING) throw damaged(`a string of ${length} bytes`)
    try {
      return utf8.decode(reader.take(length))
    } catch (cause) {
      if (cause instanceof Unreadable) throw cause
      throw damaged("a string is not UTF-8")
    }
  }
  const line = (): string => {
    let text = ""
    for (let byte = reader.byte(); byte !== 0x0a; byte = reader.byte()) {
      text += String.fromCharCode(byte)
      if (text.length > 1000) throw damaged("a name of more than 1000 letters")
    }
    return text
  }
  const recall = (at: number): unknown => {
    if (!memo.has(at)) throw damaged(`it asks for number ${at}, which it has not remembered`)
    return memo.get(at)
  }
  const append = (items: readonly unknown[]): void => {
    const list = top()
    if (!Array.isArray(list)) throw damaged("it appends to something that is no list")
    for (const item of items) list.push(item)
  }
  const setItems = (items: readonly unknown[]): void => {
    const dict = top()
    if (!(dict instanceof Map) || items.length % 2 !== 0) throw damaged("it sets items of something that is no dict")
    for (let k = 0; k < items.length; k += 2) dict.set(items[k], items[k + 1])
  }
  const call = (): unknown => {
    const args = pop()
    const callee = pop()
    if (!(callee instanceof Known) || !callee.call || !Array.isArray(args))
      throw damaged("it calls what is no function")
    return callee.call(args)
  }
  /** Sets attributes: the _metadata of an OrderedDict, the requires_grad of an old Parameter. We need none of them. */
  const build = (): void => {
    pop()
    const object = top()
    if (typeof object !== "object" || object === null || Array.isArray(object) || object instanceof Known)
      throw damaged("it sets attributes of something that has none")
  }

  for (let count = 0; count < MAX_OPERATIONS; count++) {
    const operation = reader.byte()
    switch (operation) {
      case 0x80: // PROTO
        if (reader.byte() > 5) throw damaged("a protocol above 5")
        break
      case 0x95: // FRAME, a hint for buffering
        reader.take(8)
        break
      case 0x2e: // STOP
        return pop()

      case 0x28: // MARK
        marks.push(stack.length)
        break
      case 0x30: // POP
        pop()
        break
      case 0x71: // BINPUT
        memo.set(reader.byte(), top())
        break
      case 0x72: // LONG_BINPUT
        memo.set(reader.take(4).readUInt32LE(), top())
        break
      case 0x94: // MEMOIZE
        memo.set(memo.size, top())
        break
      case 0x68: // BINGET
        stack.push(recall(reader.byte()))
        break
      case 0x6a: // LONG_BINGET
        stack.push(recall(reader.take(4).readUInt32LE()))
        break

      case 0x4e: // NONE
        stack.push(null)
        break
      case 0x88: // NEWTRUE
        stack.push(true)
        break
      case 0x89: // NEWFALSE
        stack.push(false)
        break
      case 0x4b: // BININT1
        stack.push(reader.byte())
        break
      case 0x4d: // BININT2
        stack.push(reader.take(2).readUInt16LE())
        break
      case 0x4a: // BININT
        stack.push(reader.take(4).readInt32LE())
        break
      case 0x8a: // LONG1
        stack.push(integer(reader.take(reader.byte())))
        break
      case 0x47: // BINFLOAT
        stack.push(reader.take(8).readDoubleBE())
        break
      case 0x55: // SHORT_BINSTRING, of Python 2
      case 0x8c: // SHORT_BINUNICODE
        stack.push(string(reader.byte()))
        break
      case 0x54: // BINSTRING, of Python 2
      case 0x58: // BINUNICODE
        stack.push(string(reader.take(4).readUInt32LE()))
        break
      case 0x8d: // BINUNICODE8
        stack.push(string(Number(reader.take(8).readBigUInt64LE())))
        break

      case 0x29: // EMPTY_TUPLE
      case 0x5d: // EMPTY_LIST
        stack.push([])
        break
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        stack.push(popTuple(operation - 0x84))
        break
      case 0x74: // TUPLE
        stack.push(popToMark())
        break
      case 0x61: // APPEND
        append([pop()])
        break
      case 0x65: // APPENDS
        append(popToMark())
        break
      case 0x7d: // EMPTY_DICT
        stack.push(new Map())
        break
      case 0x73: // SETITEM
        setItems(popTuple(2))
        break
      case 0x75: // SETITEMS
        setItems(popToMark())
        break

      case 0x63: // GLOBAL
        stack.push(find(`${line()}.${line()}`))
        break
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = popTuple(2)
        if (typeof module !== "string" || typeof name !== "string") throw damaged("a name that is no string")
        stack.push(find(`${module}.${name}`))
        break
      }
      case 0x52: // REDUCE
      case 0x81: // NEWOBJ
        stack.push(call())
        break
      case 0x62: // BUILD
        build()
        break
      case 0x51: // BINPERSID
        stack.push(persistent(pop()))
        break
      case 0x69: // INST: find() names what it asks for
        find(`${line()}.${line()}`)
        throw unknown(operation)
      default:
        throw unknown(operation)
    }
  }
  throw new Unreadable(`its pickle has more than ${MAX_OPERATIONS} operations, which no state dict needs`)
}

/** A little-endian two's complement integer: a number where it is exact, else a bigint. */
function integer(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0
  const value = BigInt.asIntN(8 * bytes.length, BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`))
  const exact = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER
  return exact ? Number(value) : value
}

const unknown = (operation: number) => damaged(`operation 0x${operation.toString(16)} is none that torch.save writes`)
const damaged = (what: string): Unreadable => new Unreadable(`it is damaged: in its pickle, ${what}`)
