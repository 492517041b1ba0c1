// Creation, arithmetic, dtypes and elements. Expected values without a note are worked by hand.
import { describe, expect, test } from "vitest"
import {
  arange,
  aten,
  type DType,
  fromData,
  full,
  isFloating,
  OpError,
  ones,
  rand,
  randint,
  randn,
  ShapeError,
  slice,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "./index.ts"

const all: DType[] = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]

/** Each test frees what it made. */
const it = (name: string, fn: () => void) => test(name, () => tidy(fn))

describe("creation", () => {
  it("tensor() takes nested arrays, one number, and empty axes", () => {
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).signature,
    ).toBe("float32[2, 3]")
    expect(tensor(5).signature).toBe("float32[]")
    expect(tensor([]).signature).toBe("float32[0]")
    expect(tensor([[], []]).signature).toBe("float32[2, 0]")
    expect(tensor([[[1]], [[2]]]).toArray()).toEqual([[[1]], [[2]]])
    expect(tensor([1, 2], { dtype: "int64" }).toArray()).toEqual([1, 2])
    expect(tensor([0, 2], { dtype: "bool" }).toArray()).toEqual([0, 1])
  })

  it("tensor() refuses ragged rows and what is no number, in words", () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(ShapeError)
    expect(() => tensor([[1], 2])).toThrow(ShapeError)
    expect(() => tensor([1, [2]])).toThrow(ShapeError)
    for (const wrong of ["1", null, undefined, true, 1n, {}, ["x"], [null]]) {
      expect(() => tensor(wrong as never)).toThrow(/expected numbers|number/)
    }
  })

  it("factories give float32 unless told otherwise", () => {
    for (const made of [zeros([2]), ones([2]), full([2], 7), arange(2), rand([2]), randn([2])]) {
      expect(made.signature).toBe("float32[2]")
    }
    expect(full([2], 7, { dtype: "int64" }).toArray()).toEqual([7, 7])
    expect(full([], 2.5).item()).toBe(2.5)
    expect(arange(5).toArray()).toEqual([0, 1, 2, 3, 4])
    expect(arange(1, { start: -1, step: 0.5 }).toArray()).toEqual([-1, -0.5, 0, 0.5])
    expect(arange(3, { dtype: "int64" }).signature).toBe("int64[3]")
    expect(zeros([]).shape).toEqual([])
    expect(zeros([2], { requiresGrad: true }).requiresGrad).toBe(true)
    const dice = randint(1, 7, [1000])
    expect(dice.dtype).toBe("int64")
    expect([dice.min().item(), dice.max().item()]).toEqual([1, 6])
  })

  it("sizes that cannot be are errors", () => {
    for (const shape of [[-1], [1.5], [Number.NaN], [2 ** 53], ["2"], [null], 5, null, "ab"]) {
      expect(() => zeros(shape as number[])).toThrow(OpError)
    }
    expect(() => zeros([2 ** 31, 2 ** 31, 2 ** 31])).toThrow(OpError)
    expect(() => zeros([2 ** 50])).toThrow(/out of memory/)
  })
})

describe("elements", () => {
  it("every dtype goes in and comes out as its own kind of array", () => {
    const kinds = {
      float32: Float32Array,
      float64: Float64Array,
      float16: Uint16Array, // raw bits
      bfloat16: Uint16Array,
      int64: BigInt64Array,
      int32: Int32Array,
      int16: Int16Array,
      int8: Int8Array,
      uint8: Uint8Array,
      bool: Uint8Array,
    } as const
    for (const dtype of all) {
      const x = tensor([0, 1, 2], { dtype })
      expect(x.data()).toBeInstanceOf(kinds[dtype as keyof typeof kinds])
      expect(x.toArray()).toEqual(dtype === "bool" ? [0, 1, 1] : [0, 1, 2])
      expect(fromData(x.data(), [3], { dtype }).toArray()).toEqual(x.toArray())
      expect(isFloating(dtype)).toBe(dtype.includes("float"))
    }
    expect([...tensor([1, -2], { dtype: "float16" }).data()]).toEqual([0x3c00, 0xc000]) // IEEE 754 half
    expect([...tensor([1, -2], { dtype: "bfloat16" }).data()]).toEqual([0x3f80, 0xc000]) // upper half of float32
  })

  it("complex elements have no array of their own", () => {
    const z = tensor([1]).to({ dtype: "complex64" })
    expect(() => z.data()).toThrow(/complex64 elements cannot be read/)
    expect(() => z.toArray()).toThrow(TypeError)
    expect(`${z}`).toContain("complex64")
  })

  it("int64 is exact both ways, or an error", () => {
    const safe = Number.MAX_SAFE_INTEGER
    expect(full([1], safe, { dtype: "int64" }).item()).toBe(safe)
    expect(full([1], -safe, { dtype: "int64" }).toArray()).toEqual([-safe])
    const beyond = fromData(BigInt64Array.of(2n ** 53n + 1n, -(2n ** 63n)))
    expect([...beyond.data()]).toEqual([2n ** 53n + 1n, -(2n ** 63n)])
    expect(() => beyond.toArray()).toThrow(RangeError)
    expect(() => beyond.at(0).item()).toThrow(/9007199254740993 does not fit/)
    expect(() => aten.narrow(beyond, 0, 2 ** 53, 1)).toThrow(/expected an integer/)
    expect(() => beyond.narrow(0, 1n as unknown as number, 1)).toThrow(/expected an integer, got a bigint/)
    expect(() => beyond.add(1n as unknown as number)).toThrow(/expected a number, got a bigint/)
  })

  it("item() wants one element", () => {
    expect(tensor([[3]]).item()).toBe(3)
    expect(tensor(1, { dtype: "bool" }).item()).toBe(1)
    expect(tensor(0.5, { dtype: "bfloat16" }).item()).toBe(0.5)
    expect(() => tensor([1, 2]).item()).toThrow(new ShapeError("item() wants a tensor of one element, got float32[2]."))
    expect(() => zeros([0]).item()).toThrow(ShapeError)
  })

  it("data() and readInto() copy row by row, whatever the strides", () => {
    const x = arange(6).reshape([2, 3])
    expect([...x.transpose(0, 1).data()]).toEqual([0, 3, 1, 4, 2, 5])
    expect([...tensor([1, 2]).unsqueeze(1).expand([2, 3]).data()]).toEqual([1, 1, 1, 2, 2, 2])
    expect([...x.at("...", slice(undefined, undefined, 2)).data()]).toEqual([0, 2, 3, 5])
    const copy = x.data()
    copy[0] = 99
    expect(x.at(0, 0).item()).toBe(0)
    const into = new Float32Array(8)
    x.readInto(into.subarray(1, 7))
    expect([...into]).toEqual([0, 0, 1, 2, 3, 4, 5, 0])
    expect(() => x.readInto(new Float32Array(5))).toThrow(/20 bytes, the tensor 24/)
    expect([...randn([2], { requiresGrad: true }).data()].length).toBe(2)
  })

  it("fromData() copies any typed array: offsets, shared and Node's buffers, clamped bytes", () => {
    const source = Float32Array.of(0, 1, 2, 3)
    const x = fromData(source.subarray(1, 3))
    source.fill(9)
    expect(x.toArray()).toEqual([1, 2])

    const shared = new Float32Array(new SharedArrayBuffer(16), 4, 2)
    shared.set([5, 6])
    expect(fromData(shared).toArray()).toEqual([5, 6])
    x.readInto(shared)
    expect([...shared]).toEqual([1, 2])

    const buffer = Buffer.from([7, 1, 2, 3]).subarray(1) // an offset into Node's pool
    expect(fromData(buffer).signature).toBe("uint8[3]")
    expect(fromData(buffer).toArray()).toEqual([1, 2, 3])
    expect(fromData(Uint8ClampedArray.of(300)).toArray()).toEqual([255])
    expect(fromData(new Float32Array(0), [0, 3]).shape).toEqual([0, 3])
    expect(fromData(Uint8Array.of(0, 2, 255), [3], { dtype: "bool" }).toArray()).toEqual([0, 1, 1])
  })

  it("fromData() refuses what does not fit", () => {
    const six = new Float32Array(6)
    expect(() => fromData(six, [5])).toThrow(/24 bytes, the shape needs 20/)
    expect(() => fromData(six, [2 ** 32, 2 ** 32])).toThrow(/shape needs/)
    expect(() => fromData(six, [-2, -3])).toThrow(/at least 0/)
    expect(() => fromData(six, [6], { dtype: "float65" as DType })).toThrow(/unknown dtype "float65"; expected one of/)
    expect(() => fromData([1, 2] as never)).toThrow(TypeError)
    expect(() => fromData(new DataView(new ArrayBuffer(8)) as never, [2], { dtype: "float32" })).toThrow(TypeError)
    const gone = new Float32Array(2)
    structuredClone(gone.buffer, { transfer: [gone.buffer] })
    expect(() => fromData(gone, [2])).toThrow(/0 bytes/)
  })
})

describe("arithmetic", () => {
  it("broadcasts as NumPy does", () => {
    const column = tensor([[1], [2]])
    const row = tensor([10, 20, 30])
    expect(column.add(row).toArray()).toEqual([
      [11, 21, 31],
      [12, 22, 32],
    ])
    expect(tensor(1).add(zeros([0, 3])).shape).toEqual([0, 3])
    expect(ones([4, 1, 3]).mul(ones([2, 1])).shape).toEqual([4, 2, 3])
    expect(() => ones([2]).add(ones([3]))).toThrow(
      /aten::add\.Tensor\(self: float32\[2\], other: float32\[3\].*size of tensor a \(2\) must match/s,
    )
  })

  it("a number follows the tensor: integers stay integers beside 2, become floats beside 2.5", () => {
    const results = (dtype: DType) =>
      [2, 2.5].map((number) => tensor([3], { dtype }).mul(number)).map((x) => `${x.dtype} ${x.item()}`)
    expect(results("float32")).toEqual(["float32 6", "float32 7.5"])
    expect(results("float16")).toEqual(["float16 6", "float16 7.5"])
    expect(results("int64")).toEqual(["int64 6", "float32 7.5"])
    expect(results("uint8")).toEqual(["uint8 6", "float32 7.5"])
    expect(results("bool")).toEqual(["int64 2", "float32 2.5"])
    expect(tensor([1], { dtype: "int64" }).add(Number.NaN).dtype).toBe("float32")
    expect(tensor([7], { dtype: "int64" }).div(2).item()).toBe(3.5)
  })

  it("computes", () => {
    const x = tensor([1, 4, 9])
    expect(x.sub(1).toArray()).toEqual([0, 3, 8])
    expect(x.sub(x, { alpha: 2 }).toArray()).toEqual([-1, -4, -9])
    expect(x.add(1, { alpha: 3 }).toArray()).toEqual([4, 7, 12])
    expect(x.sqrt().toArray()).toEqual([1, 2, 3])
    expect(x.pow(2).toArray()).toEqual([1, 16, 81])
    expect(
      tensor([2, 3])
        .pow(tensor([3, 2]))
        .toArray(),
    ).toEqual([8, 9])
    expect(x.div(tensor([1, 2, 3])).toArray()).toEqual([1, 2, 3])
    expect(x.neg().abs().log().exp().at(2).item()).toBeCloseTo(9, 5)
    expect(x.clamp({ min: 2, max: 5 }).toArray()).toEqual([2, 4, 5])
    expect(x.clamp({ max: 5 }).toArray()).toEqual([1, 4, 5])
    expect(
      tensor([
        [1, 2],
        [3, 4],
      ])
        .matmul(
          tensor([
            [0, 1],
            [1, 0],
          ]),
        )
        .toArray(),
    ).toEqual([
      [2, 1],
      [4, 3],
    ])
    expect(x.gt(4).toArray()).toEqual([0, 0, 1])
    expect(x.ge(4).dtype).toBe("bool")
    expect(x.eq(tensor([1, 0, 9])).toArray()).toEqual([1, 0, 1])
    expect([x.lt(4), x.le(4), x.ne(4)].map((b) => b.toArray())).toEqual([
      [1, 0, 0],
      [1, 1, 0],
      [1, 0, 1],
    ])
    expect([x.any().item(), x.gt(4).all().item()]).toEqual([1, 0])
  })

  it("reduces", () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ])
    expect(x.sum().item()).toBe(21)
    expect(x.sum({ dim: 0 }).toArray()).toEqual([5, 7, 9])
    expect(x.sum({ dim: [0, -1], keepdim: true }).toArray()).toEqual([[21]])
    expect(x.mean({ dim: 1 }).toArray()).toEqual([2, 5])
    expect(x.max().item()).toBe(6)
    expect(x.min({ dim: 1, keepdim: true }).toArray()).toEqual([[1], [4]])
    expect(x.argmax().item()).toBe(5)
    expect(x.argmax({ dim: 0 }).toArray()).toEqual([1, 1, 1])
    expect(x.gt(3).sum().signature).toBe("int64[]")
    expect(x.sum({ dtype: "float64" }).dtype).toBe("float64")
    expect(zeros([0]).sum().item()).toBe(0)
    expect(zeros([0]).mean().item()).toBeNaN()
    expect(() => zeros([0]).max()).toThrow(OpError)
  })

  it("in-place methods return the very object", () => {
    const x = tensor([1, 2])
    const results = [
      x.add_(1),
      x.add_(tensor([1, 1])),
      x.sub_(1),
      x.mul_(3),
      x.mul_(tensor([1, 2])),
      x.div_(2),
      x.copy_(tensor([5, 6])),
    ]
    for (const result of results) expect(result).toBe(x)
    expect(x.toArray()).toEqual([5, 6])
    expect(x.fill_(3).toArray()).toEqual([3, 3])
    expect(aten.relu_(x)).toBe(x)
    expect(x.zero_().toArray()).toEqual([0, 0])
  })

  it("several results come as one labelled tuple", () => {
    const [values, indices] = aten.max_dim(
      tensor([
        [3, 1],
        [2, 9],
      ]),
      1,
    )
    expect(values.toArray()).toEqual([3, 9])
    expect(indices.signature).toBe("int64[2]")
    const parts: Tensor[] = aten.chunk(arange(5), 2)
    expect(parts.map((part) => part.toArray())).toEqual([
      [0, 1, 2],
      [3, 4],
    ])
    const [output, mean] = aten.native_batch_norm(randn([2, 3, 4]), null, null, null, null, true, 0.1, 1e-5)
    expect([output.shape, mean.shape]).toEqual([[2, 3, 4], [3]])
  })
})

describe("shape", () => {
  it("views share memory, copies do not", () => {
    const x = arange(6)
    const y = x.view([2, 3])
    y.at(1).fill_(0)
    expect(x.toArray()).toEqual([0, 1, 2, 0, 0, 0])
    x.clone().fill_(7)
    expect(x.at(0).item()).toBe(0)
    expect(x.to({ dtype: "float32" })).not.toBe(x) // a fresh handle even when nothing changes
    expect(x.alias()).not.toBe(x)
  })

  it("reshapes", () => {
    const x = arange(24).reshape([2, 3, 4])
    expect(x.reshape([4, -1]).shape).toEqual([4, 6])
    expect(x.permute([2, 0, 1]).shape).toEqual([4, 2, 3])
    expect(x.transpose(0, -1).shape).toEqual([4, 3, 2])
    expect(x.transpose(0, -1).strides).toEqual([1, 4, 12])
    expect(x.flatten().shape).toEqual([24])
    expect(x.flatten({ startDim: 1 }).shape).toEqual([2, 12])
    expect(x.unsqueeze(1).shape).toEqual([2, 1, 3, 4])
    expect(x.unsqueeze(0).unsqueeze(-1).squeeze().shape).toEqual([2, 3, 4])
    expect(x.unsqueeze(0).squeeze({ dim: 0 }).shape).toEqual([2, 3, 4])
    expect(x.size(-1)).toBe(4)
    expect([x.ndim, x.numel]).toEqual([3, 24])
    expect(() => x.size(3)).toThrow(ShapeError)
    expect(() => x.reshape([5, 5])).toThrow(/shape '\[5, 5\]' is invalid for input of size 24/)
    expect(() => x.transpose(0, 1).view([24])).toThrow(/view size is not compatible/)
    expect(x.reshape([2, 3, 2, 2]).contiguous({ memoryFormat: "channels_last" }).strides).toEqual([12, 1, 6, 3])
  })
})
