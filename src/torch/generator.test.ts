// The same numbers as PyTorch for the same seed. Golden: /usr/bin/python3, torch 1.13 (CPU), values by tolist().
import { afterEach, expect, test } from "vitest"
import {
  aten,
  buildInfo,
  fromData,
  Generator,
  manualSeed,
  ones,
  rand,
  randint,
  randn,
  rngState,
  setRngState,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "./index.ts"

afterEach(() => manualSeed(0))

const float32 = (...values: number[]) => Float32Array.from(values)

test("torch.manual_seed(0) and then ...", () =>
  tidy(() => {
    const seeded = (make: () => Tensor) => {
      manualSeed(0)
      return make().data()
    }
    expect(seeded(() => randn([5]))).toEqual(
      float32(1.5409960746765137, -0.293428897857666, -2.1787893772125244, 0.5684312582015991, -1.0845223665237427),
    )
    expect(seeded(() => randn([20])).slice(0, 2)).toEqual(float32(-1.1258398294448853, -1.152360200881958)) // 16 and more: the vectorised path
    expect(seeded(() => rand([3]))).toEqual(float32(0.49625658988952637, 0.7682217955589294, 0.08847743272781372))
    expect([...seeded(() => randint(0, 10, [6]))]).toEqual([4n, 9n, 3n, 0n, 3n, 9n])
    expect([...seeded(() => aten.randperm_generator(6, { generator: null }))]).toEqual([2n, 5n, 3n, 0n, 1n, 4n])
    manualSeed(3)
    expect(aten.dropout(ones([8]), 0.5, true).toArray()).toEqual([2, 2, 0, 2, 0, 0, 2, 2])
  }))

test("a generator is a stream of its own", () =>
  tidy(() => {
    const draw = (generator: Generator) => [...randn([3], { generator }).data(), ...rand([2], { generator }).data()]
    const expected = [
      0.33669036626815796, 0.12880940735340118, 0.23446236550807953, 0.9407714605331421, 0.13318592309951782,
    ]
    const generator = new Generator(42)
    randn([100])
    expect(draw(generator)).toEqual(expected)
    expect(draw(generator)).not.toEqual(expected)
    expect(draw(new Generator(42))).toEqual(expected)
    expect([...rand([2], { generator: new Generator(2 ** 53 - 1) }).data()]).toEqual([
      0.9937993884086609, 0.5713063478469849,
    ])
    for (const seed of [-1, 0.5, 2 ** 53, Number.NaN, "1", null])
      expect(() => new Generator(seed as number)).toThrow(TypeError)
  }))

test("a saved state goes on with the same numbers", () =>
  tidy(() => {
    randn([7])
    const state = rngState()
    const expected = randn([20]).toArray()
    setRngState(state)
    expect(randn([20]).toArray()).toEqual(expected)
    expect(() => setRngState(tensor([1, 2]))).toThrow(Error)
    const bytes = state.data() as Uint8Array
    new DataView(bytes.buffer).setInt32(8, 624, true) // `left`: more words left to draw than there are
    expect(() => setRngState(fromData(bytes))).toThrow(/Invalid mt19937 state/)
    expect(() => setRngState(ones(state.shape, { dtype: "uint8" }))).toThrow(/Invalid mt19937 state/)
  }))

test("of a state that a run on a GPU saved the CPU takes its own part", () =>
  tidy(() => {
    const state = rngState()
    const expected = randn([20]).toArray()
    setRngState(aten.cat([state, zeros([16], { dtype: "uint8" })]))
    expect(randn([20]).toArray()).toEqual(expected)
    if (buildInfo().cudaDevices === 0) expect(() => rngState("cuda")).toThrow(/CUDA/)
  }))
