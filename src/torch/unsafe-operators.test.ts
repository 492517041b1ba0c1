// Calls that ended the process before they were guarded (signals by libtorch 1.13), and their harmless neighbours.
import { expect, test } from "vitest"
import { aten, call, findOperator, fromData, OpError, ones, randn, type Tensor, tensor, tidy, zeros } from "./index.ts"

const image = () => randn([2, 4, 6, 6])
const minimum = () => fromData(BigInt64Array.of(-(2n ** 63n), 6n))
const int32 = (...values: number[]) => tensor(values, { dtype: "int32" })

const refused: [why: string, run: () => unknown, message: RegExp][] = [
  [
    "SIGFPE: 2^32 groups become 0",
    () => aten.conv2d(image(), randn([4, 4, 3, 3]), { groups: 2 ** 32 }),
    /groups must be from 1/,
  ],
  ["no groups", () => aten.group_norm(image(), 0), /num_groups must be from 1/],
  ["no groups of channels", () => aten.channel_shuffle(image(), 0), /groups must be from 1/],
  ["SIGFPE: the square of 2^32 becomes 0", () => aten.pixel_shuffle(image(), 2 ** 32), /upscale_factor must be/],
  [
    "SIGSEGV: 6 * 0.5 gives no 9 pixels",
    () => aten.upsample_bilinear2d(image(), [9, 9], false, { scalesH: 1.5, scalesW: 0.5 }),
    /axis of 6 times 0.5 gives no 9/,
  ],
  ["the same by one number", () => call("aten::upsample_bilinear2d", image(), 9, false, 0.5), /gives no 9/],
  [
    "SIGSEGV: no statistics",
    () => aten.native_batch_norm(image(), null, null, null, null, false, 0.1, 1e-5),
    /needs running_mean/,
  ],
  [
    "SIGFPE: no elements",
    () => aten.native_batch_norm(zeros([0, 3]), null, null, null, null, true, 0.1, 1e-5),
    /has no elements/,
  ],
  ["bad_alloc behind the allocator's back", () => call("aten::hsplit.int", zeros([0]), 2 ** 31 - 1), /would give/],
  ["SIGSEGV: an int[4] of none", () => aten.reflection_pad2d(image(), []), /expected 4 entries, got 0/],
  [
    "SIGSEGV: an int[2] of none",
    () => aten.max_unpool2d(image(), zeros([2, 4, 6, 6], { dtype: "int64" }), []),
    /expected 2 entries, got 0/,
  ],
  [
    "SIGFPE: -2^63 / -1",
    () => aten.floor_divide(minimum(), tensor([-1], { dtype: "int64" })),
    /too large for its dtype/,
  ],
  ["SIGFPE: -2^63 modulo -1", () => aten.fmod_Scalar(minimum(), -1), /too large for its dtype/],
  [
    "SIGFPE: 2^53 - 1 is the int32 -1",
    () => call("aten::div.Scalar_mode", int32(-(2 ** 31)), 2 ** 53 - 1, "floor"),
    /too large/,
  ],
  ["SIGSEGV in LAPACK", () => call("aten::linalg_svd", randn([3, 3]).to({ dtype: "complex64" })), /complex/],
  ["reads behind its tensor", () => aten.median_dim(ones([1]).expand([40]), 0), /axis 0 is expanded\. Call contiguous/],
  [
    "out of memory behind the allocator's back",
    () => call("aten::unbind.int", zeros([2 ** 24, 0])),
    /would give 16777216 tensors/,
  ],
  ["the same", () => call("aten::split.Tensor", zeros([2 ** 24, 0]), 1), /would give/],
  ["hours over an empty tensor", () => zeros([2 ** 40, 0]), /axes that multiply to more/],
  [
    "hours over an empty tensor",
    () => call("aten::adaptive_avg_pool3d", randn([1, 3, 4, 4]), [2 ** 31, 0, 3]),
    /axes that multiply/,
  ],
  [
    "SIGSEGV: one spacing for three axes",
    () => call("aten::gradient.scalarrayint", randn([2, 4, 5]), [2], null),
    /spacing has 1 entries for 3 axes/,
  ],
  ["a million axes", () => call("aten::combinations", zeros([0]), 1e6), /r must be from 0 to 64/],
]
test.each(refused)("refused: %s", (_, run, message) =>
  tidy(() => {
    expect(run).toThrow(message)
    expect(run).toThrow(OpError)
  }),
)

test("a spacing for each axis is not refused", () =>
  tidy(() => {
    const rows = tensor([[1, 2, 4]])
    expect((call("aten::gradient.scalarrayint", rows, [0.5], 1) as Tensor[])[0]!.toArray()).toEqual([[2, 3, 4]])
  }))

test("operators that no guard makes safe are refused by name", () => {
  for (const [name, reason] of [
    ["aten::_batch_norm_impl_index", /internal to libtorch/],
    ["aten::convolution_backward", /autograd alone may call it/],
    ["aten::lstm.input", /does not check its list of weights/],
    ["aten::from_file", /reads and writes files/],
    ["aten::to_sparse", /only dense tensors/],
    ["quantized::add", /libtorch's own objects/],
    ["aten::set_.source_Tensor", /memory of another/],
  ] as const) {
    expect(() => findOperator(name)).toThrow(OpError)
    expect(() => findOperator(name)).toThrow(reason)
    expect(() => findOperator(name)).toThrow(`${name} cannot be called: `)
  }
})

test("what stands right beside a limit works", () =>
  tidy(() => {
    expect(aten.conv2d(image(), randn([4, 1, 3, 3]), { groups: 4, padding: 1 }).shape).toEqual([2, 4, 6, 6])
    expect(aten.conv2d(image(), randn([4, 4, 3, 3]), { padding: [1], stride: [2] }).shape).toEqual([2, 4, 3, 3]) // int[2]: one entry stands for two
    expect(aten.avg_pool2d(image(), 2, { stride: [] }).shape).toEqual([2, 4, 3, 3]) // an empty stride is the kernel's size
    expect(aten.upsample_bilinear2d(image(), [9, 9], false, { scalesH: 1.5, scalesW: 1.5 }).shape).toEqual([2, 4, 9, 9])
    expect(aten.upsample_bilinear2d(image(), [4, 4], false, { scalesH: 0.7, scalesW: 0.7 }).shape).toEqual([2, 4, 4, 4]) // floor(6 * 0.7)
    expect(aten.upsample_bilinear2d_vec(image(), null, false, [1.37, 0.3]).shape).toEqual([2, 4, 8, 1])
    expect(aten.floor_divide(int32(-7), int32(2)).item()).toBe(-4)
    expect(aten.floor_divide(int32(7), int32(-1)).item()).toBe(-7)
    expect(
      aten
        .floor_divide(minimum(), tensor([2], { dtype: "int64" }))
        .at(1)
        .item(),
    ).toBe(3)
    expect((call("aten::linalg_svd", randn([3, 2])) as Tensor[]).map((x) => x.shape)).toEqual([[3, 3], [2], [2, 2]])
    expect(aten.median_dim(ones([1, 3]).expand([2, 3]).contiguous(), 0)[0].toArray()).toEqual([1, 1, 1])
    expect((call("aten::unbind.int", zeros([1000, 0])) as Tensor[]).length).toBe(1000)
    expect(zeros([2 ** 29, 0]).shape).toEqual([2 ** 29, 0])
  }))

test("a list cannot change between the look and the call", () =>
  tidy(() => {
    let reads = 0
    const size = Object.defineProperty([9, 9], 1, { get: () => (reads++ === 0 ? 9 : 900) })
    expect(aten.upsample_bilinear2d(image(), size, false, { scalesH: 1.5, scalesW: 1.5 }).shape).toEqual([2, 4, 9, 9])
    expect(reads).toBe(1)
  }))
