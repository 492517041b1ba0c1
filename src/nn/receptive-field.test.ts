// Receptive fields against impulse footprints: where the gradient of one output pixel is not zero. Weights and images
// are positive, so that nothing cancels, in float64, so that nothing underflows.
import { describe, expect, test } from "vitest"
import {
  aten,
  atrousConv2d,
  call,
  depthwiseConv2d,
  manualSeed,
  pointwiseConv2d,
  rand,
  record,
  type Tensor,
  tidy,
  winogradConv2d,
} from "../torch/index.ts"
import { interpolate } from "./functional.ts"
import { receptiveField, receptiveWindow, type Span } from "./receptive-field.ts"

type Net = (x: Tensor) => Tensor

const positive = (shape: number[]): Tensor => rand(shape, { dtype: "float64" }).add(0.5)

interface Options {
  stride?: number
  padding?: number
  dilation?: number
}
const conv = (x: Tensor, kernel: number | [number, number], options: Options = {}): Tensor =>
  aten.conv2d(x, positive([2, x.size(1), ...[kernel, kernel].flat().slice(0, 2)]), options)

const recordOf = (net: Net, [h, w]: readonly [number, number]) => {
  using image = positive([1, 2, h, w])
  return record(() => net(image), { inputs: [image] })
}

/** First and last row and column with a gradient. A maximum passes it to one pixel only, so several images take part. */
function footprint(net: Net, [h, w]: readonly [number, number], [y, x]: readonly [number, number], images = 1) {
  return tidy(() => {
    const touched = Array.from({ length: images }, () => {
      const image = positive([1, 2, h, w]).requiresGrad_()
      net(image).select(3, x).select(2, y).sum().backward()
      return image.grad!.ne(0).any() && image.grad!.abs().sum({ dim: [0, 1] })
    }).reduce((a, b) => a.add(b))
    const span = (dim: number): Span => {
      const seen = touched.sum({ dim }).toArray() as number[]
      return [seen.findIndex((v) => v > 0), seen.findLastIndex((v) => v > 0)]
    }
    return { rows: span(1), columns: span(0) }
  })
}

const isInside = ([first, last]: Span, size: number): boolean => first >= 0 && last < size

/** Every 12th of two diagonals, corners included. Where a window reaches beyond the image, the footprint is a part of it. */
function expectExact(net: Net, size: readonly [number, number], images = 1): void {
  manualSeed(5)
  const recording = recordOf(net, size)
  const [height, width] = recording.outputs[0]!.shape.slice(-2) as [number, number]
  let exact = 0
  for (let k = 0; k <= 12; k++) {
    const pixel = [Math.round((k * (height - 1)) / 12), Math.round(((12 - k) * (width - 1)) / 12)] as const
    const window = receptiveWindow(recording, pixel) ?? { rows: [-1, -1], columns: [-1, -1] } // sees nothing
    const seen = footprint(net, size, pixel, images)
    if (isInside(window.rows, size[0]) && isInside(window.columns, size[1])) {
      exact++
      expect({ pixel, ...seen }).toEqual({ pixel, ...window })
    } else if (seen.rows[0] >= 0) {
      for (const side of ["rows", "columns"] as const) {
        expect(seen[side][0], `${pixel} ${side}`).toBeGreaterThanOrEqual(window[side][0])
        expect(seen[side][1], `${pixel} ${side}`).toBeLessThanOrEqual(window[side][1])
      }
    }
  }
  expect(exact).toBeGreaterThan(2)
}

const nets: Record<
  string,
  { net: Net; size: readonly [number, number]; field: readonly [number, number]; images?: number }
> = {
  "3x3, then 5x5 of dilation 2 behind a stride of 2": {
    net: (x) => conv(conv(x, 3, { stride: 2, padding: 1 }), 5, { dilation: 2, padding: 4 }),
    size: [41, 38],
    field: [19, 19], // 3 + 2 * 2 * 4
  },
  "1x7 and 3x1": { net: (x) => conv(conv(x, [1, 7]), [3, 1]), size: [20, 24], field: [3, 7] },
  "our own convolutions": {
    net: (x) =>
      depthwiseConv2d(
        pointwiseConv2d(
          winogradConv2d(atrousConv2d(x, positive([2, 2, 3, 3]), null, 3), positive([2, 2, 3, 3]), null, 2),
          positive([2, 2, 1, 1]),
          null,
        ),
        positive([2, 1, 3, 3]),
        {
          padding: [0, 1, 2, 3],
          stride: [2, 1],
        },
      ),
    size: [30, 26],
    field: [13, 13], // 7 + 4 + 2
  },
  "padding by name": {
    net: (x) => call("aten::conv2d.padding", x, positive([2, 2, 4, 4]), null, 1, "same", 2) as Tensor,
    size: [20, 20],
    field: [7, 7],
  },
  "max-pooling 3 of stride 2, average pooling 2": {
    net: (x) => aten.avg_pool2d(aten.max_pool2d(conv(x, 3, { padding: 1 }), 3, { stride: 2, padding: 1 }), 2),
    size: [32, 32],
    field: [7, 7], // 3 + 2 + 2
    images: 12,
  },
  "skip past a strided path, enlarged bilinearly to an odd size": {
    net: (x) =>
      aten.cat([conv(x, 3, { padding: 1 }), interpolate(conv(x, 3, { stride: 2, padding: 1 }), [33, 37])], { dim: 1 }),
    size: [33, 37],
    field: [5, 5], // two coarse pixels, 2 apart, with 3 each
  },
  "enlarged by 2, bilinear, between aligned corners": {
    net: (x) =>
      conv(interpolate(conv(x, 3, { stride: 2, padding: 1 }), [39, 39], { alignCorners: true }), 3, { padding: 1 }),
    size: [40, 40],
    field: [7, 7],
  },
  "nearest by 3, and shrunk by nearest": {
    net: (x) =>
      interpolate(conv(interpolate(x, [48, 45], { mode: "nearest" }), 3, { padding: 1 }), [21, 22], {
        mode: "nearest",
      }),
    size: [16, 15],
    field: [2, 2],
  },
  "bicubic and antialiased": {
    net: (x) =>
      call("aten::_upsample_bilinear2d_aa", aten.upsample_bicubic2d(x, [24, 36], false), [8, 9], false) as Tensor,
    size: [12, 12],
    field: [6, 6],
  },
  "transposed 4x4 of stride 2": {
    net: (x) =>
      aten.conv_transpose2d_input(conv(x, 3, { stride: 2, padding: 1 }), positive([2, 1, 4, 4]), {
        stride: 2,
        padding: 1,
      }),
    size: [24, 24],
    field: [5, 5],
  },
  "transposed 3x3 of stride 2 and dilation 2": {
    net: (x) => aten.conv_transpose2d_input(x, positive([2, 1, 3, 3]), { stride: 2, padding: 1, dilation: 2 }),
    size: [13, 13], // every other output pixel sees nothing
    field: [3, 3],
  },
  "padded, cut and stepped over": {
    net: (x) => {
      const y = conv(aten.constant_pad_nd(x, [1, 4, 2, 3]), 3)
      return aten.slice_Tensor(y.narrow(2, 2, 15), { dim: -1, start: 1, step: 2 })
    },
    size: [18, 20],
    field: [3, 3],
  },
  "axes moved to the end and back, channels split, shuffled and stacked": {
    net: (x) => {
      const y = aten
        .layer_norm(conv(x, 3, { padding: 1 }).permute([0, 2, 3, 1]), [2])
        .mul(0)
        .add(1)
      const [a, b] = call("aten::chunk", conv(x, 3, { padding: 1 }), 2, 1) as [Tensor, Tensor]
      const z = aten.stack([a.mul(y.permute([0, 3, 1, 2]).narrow(1, 0, 1)), b], { dim: 2 })
      return aten.squeeze_dim(z.narrow(2, 1, 1), 2)
    },
    size: [9, 9],
    field: [3, 3],
  },
  "grouped channels seen as one more axis": {
    net: (x) => conv(x, 5, { padding: 2 }).view([1, 2, 1, 14, 14]).transpose(1, 2).reshape([1, 2, 14, 14]),
    size: [14, 14],
    field: [5, 5],
  },
  "joined along the height": {
    net: (x) => aten.cat([conv(x, 3, { padding: 1 }), conv(x, 5, { padding: 2 })], { dim: 2 }),
    size: [12, 12],
    field: [5, 5],
  },
  "pixels shuffled into a larger image": {
    net: (x) =>
      conv(aten.pixel_shuffle(aten.conv2d(aten.pixel_unshuffle(x, 2), positive([8, 8, 1, 1])), 2), 3, { padding: 1 }),
    size: [12, 12],
    field: [4, 4], // whole blocks of 2: pixel 1 of a block and 0 of the next see two blocks
  },
  "overwritten in place": {
    net: (x) => conv(x, 5, { padding: 2 }).copy_(conv(x, 3, { padding: 1 })),
    size: [12, 12],
    field: [3, 3],
  },
  "in place": {
    net: (x) => {
      const y = conv(x, 3, { padding: 1 })
      y.add_(conv(x, 5, { padding: 2 }))
      return aten.relu_(y)
    },
    size: [12, 12],
    field: [5, 5],
  },
}

describe.each(Object.entries(nets))("%s", (_, { net, size, field, images }) => {
  test("size", () => {
    manualSeed(5)
    expect(tidy(() => receptiveField(recordOf(net, size)))).toEqual({ size: field, wholeImage: false })
  })

  test("windows are the impulse footprints", () => tidy(() => expectExact(net, size, images)))
})

const whole: Record<string, { net: Net; field: [number, number] | null }> = {
  "global pooling": { net: (x) => aten.adaptive_avg_pool2d(conv(x, 3), [1, 1]), field: null },
  "mean over height and width": { net: (x) => conv(x, 3).mean({ dim: [2, 3], keepdim: true }), field: null },
  "a classifier": {
    net: (x) => aten.linear(aten.adaptive_avg_pool2d(x, [1, 1]).flatten({ startDim: 1 }), positive([5, 2])),
    field: null,
  },
  "a branch of ASPP": {
    net: (x) => {
      const pooled = interpolate(aten.adaptive_avg_pool2d(x, [1, 1]), [16, 16])
      return conv(aten.cat([conv(x, 3, { padding: 6, dilation: 6 }), pooled], { dim: 1 }), 1)
    },
    field: [13, 13],
  },
  "squeeze and excitation": {
    net: (x) => {
      const y = conv(x, 3, { padding: 1 })
      return y.mul(aten.sigmoid(aten.linear(y.mean({ dim: [2, 3] }), positive([2, 2])).view([1, 2, 1, 1])))
    },
    field: [3, 3],
  },
  "group norm": { net: (x) => aten.group_norm(conv(x, 3, { padding: 1 }), 1), field: [3, 3] },
  "softmax over width": { net: (x) => aten.softmax_int(conv(x, 3, { padding: 1 }), 3), field: [3, 3] },
  "attention between pixels": {
    net: (x) => {
      const tokens = x.flatten({ startDim: 2 }) // [N, C, H W]
      const weights = aten.softmax_int(tokens.transpose(1, 2).matmul(tokens), -1)
      return tokens.matmul(weights).view([1, 2, 16, 16])
    },
    field: null,
  },
  "written through a view": {
    net: (x) => {
      const y = aten.zeros_like(x)
      y.narrow(2, 0, 8).copy_(x.narrow(2, 8, 8))
      return y
    },
    field: null,
  },
}

test.each(Object.entries(whole))("the whole image: %s", (_, { net, field }) => {
  expect(tidy(() => receptiveField(recordOf(net, [16, 16])))).toEqual({ size: field, wholeImage: true })
})

test("maxima put back where they stood: all of a pooling's window decides where, which no gradient shows", () => {
  const net: Net = (x) => {
    const [maxima, positions] = aten.max_pool2d_with_indices(conv(x, 3, { padding: 1 }), 2)
    return conv(aten.max_unpool2d(maxima, positions, [15, 14]), 3, { padding: 1 })
  }
  const recording = tidy(() => recordOf(net, [15, 14]))
  expect(receptiveField(recording)).toEqual({ size: [6, 6], wholeImage: false }) // two windows of 2, and one on either side
  expect(receptiveWindow(recording, [6, 7])).toEqual({ rows: [3, 8], columns: [5, 10] })
})

test("what the input does not reach has no receptive field", () => {
  expect(tidy(() => receptiveField(recordOf((x) => aten.zeros_like(x), [4, 4])))).toEqual({
    size: null,
    wholeImage: false,
  })
})
