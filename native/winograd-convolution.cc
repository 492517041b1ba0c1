// pixelwise::winograd_conv2d: a 3x3 convolution with stride 1 that keeps the size, by tiles of 2x2 outputs, with 16 multiplications for
// each where 36 are usual. Lavin and Gray 2015, https://arxiv.org/abs/1509.09308, F(2x2, 3x3)
//
//   Y = A' [(G g G') . (B' d B)] A      d: 4x4 inputs of a tile, g: the kernel, Y: its 2x2 outputs, ' transposed
//
// Over all tiles and channels the products are 16 matrix products. Both gradients are of the same form: that of the input is the
// convolution of the output's with the kernel turned round; that of the kernel is G' (sum (B' d B) . (A dY A')) G.
//
// Milliseconds on two Zen 4 cores with channels side by side, forward with kernels that were kept, and forward and backward, libtorch
// and here (best of 13):
//   4x64x128x128 -> 64      21.5 and 16.9, 74.2 and 46.9      4x256x16x16 -> 256     5.7 and 4.0, 17.8 and 12.1
//   4x64x128x128 -> 32      11.7 and 9.1, 40.0 and 26.1       4x512x16x16 -> 512     21.4 and 14.5, 68.1 and 44.2
//   4x64x64x64 -> 64        5.7 and 4.7, 19.0 and 13.0        4x512x8x8 -> 512       6.2 and 4.0, 19.6 and 13.8
//   4x128x32x32 -> 128      5.8 and 4.1, 18.2 and 12.0        4x1024x8x8 -> 1024     24.1 and 16.3, 85.5 and 58.1
// but 4x32x128x128 -> 32: 6.0 and 5.9, 19.5 and 17.4; 1x32x256x256 -> 32: 5.9 and 6.2, 18.8 and 17.5.
// Largest error of y, dx and dweight against float64 on these: 5e-7 to 9e-7 of the largest value; libtorch's 3e-7 to 3e-6.
//
// Where it is faster is said in src/nn/conv.ts.
//
// That is for float32 on the CPU with channels side by side (channels_last). Everything else runs as libtorch's conv2d.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "autocast.h"
#include "operators.h"
#include "processors.h"
#include "products.h"

namespace pixelwise {
namespace {

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t dilation) {
  return at::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/dilation, dilation);
}

#if HAS_VECTORS

// --- the transforms, of all channels of one tile or kernel ------------------------------------------------------------------
// Places in 4x4 are k = 4 row + column. `from` and `to` point to the channels of each place.

// B' d B
FOR_EACH_PROCESSOR void transform_inputs(const float* const* from, float* const* to, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 8) {
    Eight t[4][4];
    for (int j = 0; j < 4; ++j) {
      const Eight d0 = load(from[j] + c), d1 = load(from[4 + j] + c), d2 = load(from[8 + j] + c), d3 = load(from[12 + j] + c);
      t[0][j] = d0 - d2;
      t[1][j] = d1 + d2;
      t[2][j] = d2 - d1;
      t[3][j] = d1 - d3;
    }
    for (int i = 0; i < 4; ++i) {
      store(to[4 * i] + c, t[i][0] - t[i][2]);
      store(to[4 * i + 1] + c, t[i][1] + t[i][2]);
      store(to[4 * i + 2] + c, t[i][2] - t[i][1]);
      store(to[4 * i + 3] + c, t[i][1] - t[i][3]);
    }
  }
}

// A' m A; `to` has 2x2 places.
FOR_EACH_PROCESSOR void transform_outputs(const float* const* from, float* const* to, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 8) {
    Eight t[2][4];
    for (int j = 0; j < 4; ++j) {
      const Eight m0 = load(from[j] + c), m1 = load(from[4 + j] + c), m2 = load(from[8 + j] + c), m3 = load(from[12 + j] + c);
      t[0][j] = m0 + m1 + m2;
      t[1][j] = m1 - m2 - m3;
    }
    for (int i = 0; i < 2; ++i) {
      store(to[2 * i] + c, t[i][0] + t[i][1] + t[i][2]);
      store(to[2 * i + 1] + c, t[i][1] - t[i][2] - t[i][3]);
    }
  }
}

// A dY A'; `from` has 2x2 places.
FOR_EACH_PROCESSOR void spread_outputs(const float* const* from, float* const* to, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 8) {
    Eight t[4][2];
    for (int j = 0; j < 2; ++j) {
      const Eight upper = load(from[j] + c), lower = load(from[2 + j] + c);
      t[0][j] = upper;
      t[1][j] = upper + lower;
      t[2][j] = upper - lower;
      t[3][j] = -lower;
    }
    for (int i = 0; i < 4; ++i) {
      store(to[4 * i] + c, t[i][0]);
      store(to[4 * i + 1] + c, t[i][0] + t[i][1]);
      store(to[4 * i + 2] + c, t[i][0] - t[i][1]);
      store(to[4 * i + 3] + c, -t[i][1]);
    }
  }
}

// G g G'; `from` has 3x3 places.
FOR_EACH_PROCESSOR void transform_kernel(const float* const* from, float* const* to, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 8) {
    Eight t[4][3];
    for (int j = 0; j < 3; ++j) {
      const Eight g0 = load(from[j] + c), g1 = load(from[3 + j] + c), g2 = load(from[6 + j] + c);
      const Eight outer = (g0 + g2) * 0.5f, inner = g1 * 0.5f;
      t[0][j] = g0;
      t[1][j] = outer + inner;
      t[2][j] = outer - inner;
      t[3][j] = g2;
    }
    for (int i = 0; i < 4; ++i) {
      const Eight outer = (t[i][0] + t[i][2]) * 0.5f, inner = t[i][1] * 0.5f;
      store(to[4 * i] + c, t[i][0]);
      store(to[4 * i + 1] + c, outer + inner);
      store(to[4 * i + 2] + c, outer - inner);
      store(to[4 * i + 3] + c, t[i][2]);
    }
  }
}

// G' u G; `to` has 3x3 places.
FOR_EACH_PROCESSOR void gather_kernel(const float* const* from, float* const* to, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 8) {
    Eight t[3][4];
    for (int j = 0; j < 4; ++j) {
      const Eight u0 = load(from[j] + c), u1 = load(from[4 + j] + c), u2 = load(from[8 + j] + c), u3 = load(from[12 + j] + c);
      const Eight sum = (u1 + u2) * 0.5f;
      t[0][j] = u0 + sum;
      t[1][j] = (u1 - u2) * 0.5f;
      t[2][j] = sum + u3;
    }
    for (int i = 0; i < 3; ++i) {
      const Eight sum = (t[i][1] + t[i][2]) * 0.5f;
      store(to[3 * i] + c, t[i][0] + sum);
      store(to[3 * i + 1] + c, (t[i][1] - t[i][2]) * 0.5f);
      store(to[3 * i + 2] + c, sum + t[i][3]);
    }
  }
}

// --- tiles ----------------------------------------------------------------------------------------------------------------

// With dilation d the pixels that meet are d apart: d x d grids, each cut into tiles of 2x2 of its pixels.
struct Tiles {
  Tiles(const at::Tensor& x, int64_t dilation)
      : height(x.size(2)), width(x.size(3)), dilation(dilation), down(halves(height)), right(halves(width)), count(x.size(0) * dilation * dilation * down * right) {}

  const int64_t height, width, dilation;
  const int64_t down, right;  // tiles of a grid
  const int64_t count;

  // Calls body(place, pixel) for `side` x `side` pixels of a tile, from `first` pixels of the grid before it on; pixel -1: outside.
  template <typename Body>
  void for_each_pixel(int64_t tile, int64_t side, int64_t first, const Body& body) const {
    const int64_t column = tile % right, row = tile / right % down, grid = tile / (right * down);
    const int64_t across = grid % dilation, along = grid / dilation % dilation, image = grid / (dilation * dilation);
    for (int64_t i = 0; i < side; ++i) {
      const int64_t y = along + dilation * (2 * row + i + first);
      for (int64_t j = 0; j < side; ++j) {
        const int64_t x = across + dilation * (2 * column + j + first);
        const bool is_inside = y >= 0 && y < height && x >= 0 && x < width;
        body(side * i + j, is_inside ? (image * height + y) * width + x : -1);
      }
    }
  }

 private:
  int64_t halves(int64_t size) const { return ((size + dilation - 1) / dilation + 1) / 2; }
};

// Tiles that are looked at together: few enough that what is made of them stays in cache, a core's own for up to 256 channels, and enough to
// keep the products busy. Twice as many of both were no faster (two Zen 4 cores). Where there are not so many for each thread, all of them: then threads share the steps instead of the tiles.
int64_t tiles_at_once(const Tiles& tiles, int64_t channels) {
  constexpr int64_t kCached = 1 << 18, kLeast = 64;  // values, tiles
  const int64_t threads = at::get_num_threads(), few = std::max(kLeast, kCached / (16 * channels));
  if (tiles.count < threads * few) return tiles.count;
  const int64_t parts = threads * ((tiles.count + threads * few - 1) / (threads * few));
  return (tiles.count + parts - 1) / parts;
}

at::Tensor buffer(int64_t count) { return at::empty({count}, at::kFloat); }

int64_t grain(int64_t channels) { return std::max<int64_t>(1, at::internal::GRAIN_SIZE / (16 * channels)); }

enum class Of { inputs, outputs };

// Fills `values` [16, count, C] with what the products take: of inputs B' d B, of outputs A dY A'. `x` [N, C, H, W]
void take(const at::Tensor& x, const Tiles& tiles, Of of, int64_t first, int64_t count, float* values) {
  const int64_t channels = x.size(1), step = count * channels;
  const float* pixels = x.data_ptr<float>();
  at::parallel_for(0, count, grain(channels), [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(channels);
    const float* from[16];
    float* into[16];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t k = 0; k < 16; ++k) into[k] = values + k * step + t * channels;
      const auto note = [&](int64_t place, int64_t pixel) { from[place] = pixel < 0 ? zeros.data() : pixels + pixel * channels; };
      if (of == Of::inputs) {
        tiles.for_each_pixel(first + t, 4, -1, note);
        transform_inputs(from, into, channels);
      } else {
        tiles.for_each_pixel(first + t, 2, 0, note);
        spread_outputs(from, into, channels);
      }
    }
  });
}

// Writes the outputs of tiles: A' m A of `values` [16, count, C].
void give(const float* values, const Tiles& tiles, int64_t first, int64_t count, const at::Tensor& y) {
  const int64_t channels = y.size(1), step = count * channels;
  float* pixels = y.data_ptr<float>();
  at::parallel_for(0, count, grain(channels), [&](int64_t begin, int64_t end) {
    std::vector<float> nowhere(channels);
    const float* of[16];
    float* into[4];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t k = 0; k < 16; ++k) of[k] = values + k * step + t * channels;
      tiles.for_each_pixel(first + t, 2, 0, [&](int64_t place, int64_t pixel) { into[place] = pixel < 0 ? nowhere.data() : pixels + pixel * channels; });
      transform_outputs(of, into, channels);
    }
  });
}

// --- kernels --------------------------------------------------------------------------------------------------------------

// [16, Cout, Cin] of weight [Cout, Cin, 3, 3] with channels side by side; `turned`: of the kernels turned round by half a turn.
at::Tensor kernels_of(const at::Tensor& weight, bool turned) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  const at::Tensor result = at::empty({16, outputs, inputs}, weight.options(), at::MemoryFormat::Contiguous);
  const float* taps = weight.data_ptr<float>();
  float* values = result.data_ptr<float>();
  at::parallel_for(0, outputs, grain(inputs), [&](int64_t begin, int64_t end) {
    const float* from[9];
    float* to[16];
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t k = 0; k < 9; ++k) from[k] = taps + (9 * o + (turned ? 8 - k : k)) * inputs;
      for (int64_t k = 0; k < 16; ++k) to[k] = values + (k * outputs + o) * inputs;
      transform_kernel(from, to, inputs);
    }
  });
  return result;
}

// The gradient of the weight, from that of what kernels_of made of it.
at::Tensor gradient_of_kernels(const at::Tensor& gradient) {
  const int64_t outputs = gradient.size(1), inputs = gradient.size(2);
  const at::Tensor result = at::empty({outputs, inputs, 3, 3}, gradient.options(), at::MemoryFormat::ChannelsLast);
  const float* values = gradient.data_ptr<float>();
  float* taps = result.data_ptr<float>();
  at::parallel_for(0, outputs, grain(inputs), [&](int64_t begin, int64_t end) {
    const float* from[16];
    float* to[9];
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t k = 0; k < 16; ++k) from[k] = values + (k * outputs + o) * inputs;
      for (int64_t k = 0; k < 9; ++k) to[k] = taps + (9 * o + k) * inputs;
      gather_kernel(from, to, inputs);
    }
  });
  return result;
}

// --- the operator ---------------------------------------------------------------------------------------------------------

// [N, Cin, H, W] -> [N, Cout, H, W] with kernels [16, Cin, Cout], or transposed [16, Cout, Cin].
at::Tensor convolve(const at::Tensor& x, const at::Tensor& kernels, bool transposed, int64_t dilation) {
  const Tiles tiles(x, dilation);
  const int64_t inputs = x.size(1), outputs = kernels.size(transposed ? 1 : 2), at_once = tiles_at_once(tiles, inputs + outputs);
  const at::Tensor y = at::empty({x.size(0), outputs, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  in_parallel((tiles.count + at_once - 1) / at_once, [&](int64_t part) {
    const int64_t first = part * at_once, count = std::min(at_once, tiles.count - first);
    const at::Tensor room = buffer(16 * count * (inputs + outputs));
    float *taken = room.data_ptr<float>(), *made = taken + 16 * count * inputs;
    take(x, tiles, Of::inputs, first, count, taken);
    in_parallel(16, [&](int64_t k) {
      const Factor kernel{kernels.data_ptr<float>() + k * inputs * outputs, kernels.size(2), transposed};
      multiply({taken + k * count * inputs, inputs}, kernel, {made + k * count * outputs, outputs}, count, outputs, inputs);
    });
    give(made, tiles, first, count, y);
  });
  return y;
}

at::Tensor gradient_of_weight(const at::Tensor& x, const at::Tensor& dy, int64_t dilation) {
  const Tiles tiles(x, dilation);
  const int64_t inputs = x.size(1), outputs = dy.size(1), size = outputs * inputs;
  // Each part adds up a gradient of its own, which must stay in cache too: large ones are added up once, by all threads.
  constexpr int64_t kSmall = 1 << 18;
  int64_t at_once = tiles_at_once(tiles, inputs + outputs), parts = 1;
  if (16 * size <= kSmall) parts = std::min<int64_t>(at::get_num_threads(), (tiles.count + at_once - 1) / at_once);
  else at_once = std::min(tiles.count, std::max<int64_t>(1, (1 << 21) / (16 * (inputs + outputs))));
  const at::Tensor gradients = at::empty({parts, 16, outputs, inputs}, x.options(), at::MemoryFormat::Contiguous);
  in_parallel(parts, [&](int64_t part) {
    const int64_t begin = tiles.count * part / parts, end = tiles.count * (part + 1) / parts;
    const at::Tensor room = buffer(16 * at_once * (inputs + outputs));
    float* gradient = gradients.data_ptr<float>() + part * 16 * size;
    for (int64_t first = begin; first < end; first += at_once) {
      const int64_t count = std::min(at_once, end - first);
      float *taken = room.data_ptr<float>(), *spread = taken + 16 * count * inputs;
      take(x, tiles, Of::inputs, first, count, taken);
      take(dy, tiles, Of::outputs, first, count, spread);
      in_parallel(16, [&](int64_t k) {
        multiply({spread + k * count * outputs, outputs, true}, {taken + k * count * inputs, inputs}, {gradient + k * size, inputs}, outputs, inputs,
                 count, /*add=*/first > begin);
      });
    }
  });
  return gradient_of_kernels(parts == 1 ? gradients[0] : gradients.sum(0));
}

// With `kernels` [16, Cout, Cin].
at::Tensor convolve(const at::Tensor& x, const at::Tensor& kernels, const c10::optional<at::Tensor>& bias, int64_t dilation) {
  const at::Tensor y = convolve(x, kernels, /*transposed=*/true, dilation);
  return bias ? y.add_(bias->view({1, -1, 1, 1})) : y;
}

struct WinogradConv2d : torch::autograd::Function<WinogradConv2d> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                            int64_t dilation) {
    context->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    context->saved_data["dilation"] = dilation;
    return convolve(x, kernels_of(side_by_side(weight), false), bias, dilation);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const int64_t dilation = context->saved_data["dilation"].toInt();
    const at::Tensor none;
    if (at::GradMode::is_enabled()) return differentiable_gradients(composed(x, weight, optional_of(bias), dilation), gradients[0], {x, weight, bias}, 4);
    const at::Tensor dy = side_by_side(gradients[0]);
    const at::Tensor dx = wants_gradient(x) ? convolve(dy, kernels_of(side_by_side(weight), true), /*transposed=*/false, dilation) : none;
    const at::Tensor dweight = wants_gradient(weight) ? gradient_of_weight(x, dy, dilation) : none;
    const at::Tensor dbias = wants_gradient(bias) ? dy.sum(at::IntArrayRef{0, 2, 3}) : none;
    return {dx, dweight, dbias, none};
  }
};

#endif

// What convolutions make of `weight` [Cout, Cin, 3, 3], to be made once for several of them: [16, Cout, Cin], or nothing.
at::Tensor winograd_kernels(const at::Tensor& weight) {
  const at::NoGradGuard no_history;
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3, "winograd_kernels: expected weight [Cout, C, 3, 3], got ", weight.sizes());
#if HAS_VECTORS
  if (is_float_on_cpu(weight) && weight.numel() > 0 && weight.size(1) % 8 == 0) return kernels_of(side_by_side(weight), false);
#endif
  return at::empty({0}, weight.options());
}

// `kernels`: of winograd_kernels(weight), or none.
at::Tensor winograd_conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t dilation,
                           const c10::optional<at::Tensor>& kernels) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 && weight.size(1) == x.size(1),
              "winograd_conv2d: expected x [N, C, H, W] and weight [Cout, C, 3, 3], got ", x.sizes(), " and ", weight.sizes());
  TORCH_CHECK(dilation >= 1 && dilation < (1 << 20), "winograd_conv2d: dilation ", dilation);
#if HAS_VECTORS
  const bool is_ours = !is_autocasting() && is_float_on_cpu(x) && is_float_on_cpu(weight) && x.numel() > 0 && weight.numel() > 0 && x.size(1) % 8 == 0 && weight.size(0) % 8 == 0 &&
                       is_side_by_side(x) &&
                       is_plain_bias(bias, weight.size(0));
  const bool has_kernels = kernels && is_float_on_cpu(*kernels) && kernels->is_contiguous() && kernels->sizes() == at::IntArrayRef{16, weight.size(0), weight.size(1)};
  if (is_ours && has_kernels && !at::GradMode::is_enabled()) return convolve(x, *kernels, bias, dilation);
  if (is_ours) return WinogradConv2d::apply(x, weight, bias, dilation);
#endif
  return composed(x, weight, bias, dilation);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("winograd_conv2d(Tensor x, Tensor weight, Tensor? bias, int dilation, Tensor? kernels=None) -> Tensor", winograd_conv2d);
  library.def("winograd_kernels(Tensor weight) -> Tensor", winograd_kernels);
}

}  // namespace
}  // namespace pixelwise
