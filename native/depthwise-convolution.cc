// pixelwise::depthwise_conv2d: a convolution that filters each channel by itself, as between MobileNet's 1x1 convolutions.
// Howard et al. 2017, https://arxiv.org/abs/1704.04861
//
// It does few sums a value, so it should take little longer than reading its input. libtorch 1.13 has no kernel for its
// gradients when it is dilated (as at output stride 16): 8x336x16x16 with dilation 2 takes 12 ms backward on two Zen 3
// cores, here 2.6.
//
// Ours is for float32 with channels side by side (channels_last) on the CPU, and for bfloat16 it computes in float32;
// everything else runs as libtorch's conv2d.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "operators.h"
#include "processors.h"

namespace pixelwise {
namespace {

// `padding` is top, bottom, left, right.
at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                    at::IntArrayRef dilation) {
  const bool is_even = padding[0] == padding[1] && padding[2] == padding[3];
  const at::Tensor padded = is_even ? x : at::constant_pad_nd(x, {padding[2], padding[3], padding[0], padding[1]});
  const std::vector<int64_t> rest = is_even ? std::vector<int64_t>{padding[0], padding[2]} : std::vector<int64_t>{0, 0};
  return at::conv2d(padded, weight, bias, stride, rest, dilation, x.size(1));
}

#if HAS_VECTORS

// --- which pixels meet ----------------------------------------------------------------------------------------------------

// One axis of a convolution: output o sees input o * stride - padding + tap * dilation.
struct Axis {
  int64_t input, output, kernel, stride, padding, dilation;

  int64_t source(int64_t o, int64_t tap) const { return o * stride - padding + tap * dilation; }
};

// A tap of the kernel that reaches a pixel, and the pixel on the other side of it; offsets in values.
struct Reach {
  int64_t source, tap;
};

// For each pixel of one side of an axis, what reaches it from the other.
struct Reaches {
  std::vector<int64_t> begin;  // pixel p has all[begin[p]] .. all[begin[p + 1] - 1]
  std::vector<Reach> all;

  // What an output is made of; or, `reversed`, which outputs an input went into.
  Reaches(const Axis& axis, bool reversed, int64_t source_step, int64_t tap_step) : begin{0} {
    std::vector<std::vector<Reach>> of(reversed ? axis.input : axis.output);
    for (int64_t o = 0; o < axis.output; ++o) {
      for (int64_t tap = 0; tap < axis.kernel; ++tap) {
        const int64_t i = axis.source(o, tap);
        if (i < 0 || i >= axis.input) continue;
        of[reversed ? i : o].push_back({(reversed ? o : i) * source_step, tap * tap_step});
      }
    }
    for (const auto& list : of) {
      all.insert(all.end(), list.begin(), list.end());
      begin.push_back(static_cast<int64_t>(all.size()));
    }
  }
};

// --- loops over channels --------------------------------------------------------------------------------------------------

// The pixels that reach one: some rows, and in each of them some columns.
struct Patch {
  const Reach *rows, *rows_end, *columns, *columns_end;
};

// 8 Blocks channels of one pixel: the sum of what reaches it times its tap.
template <int Blocks>
INLINED void gather_channels(float* to, const float* from, const float* taps, const Patch& patch, const float* bias) {
  Eight sum[Blocks];
  for (int b = 0; b < Blocks; ++b) sum[b] = load(bias + 8 * b);
  for (const Reach* row = patch.rows; row != patch.rows_end; ++row) {
    for (const Reach* column = patch.columns; column != patch.columns_end; ++column) {
      const float* x = from + row->source + column->source;
      const float* w = taps + row->tap + column->tap;
      for (int b = 0; b < Blocks; ++b) sum[b] += load(x + 8 * b) * load(w + 8 * b);
    }
  }
  for (int b = 0; b < Blocks; ++b) store(to + 8 * b, sum[b]);
}

INLINED void gather_channel(float* to, const float* from, const float* taps, const Patch& patch, const float* bias) {
  float sum = *bias;
  for (const Reach* row = patch.rows; row != patch.rows_end; ++row)
    for (const Reach* column = patch.columns; column != patch.columns_end; ++column)
      sum += from[row->source + column->source] * taps[row->tap + column->tap];
  *to = sum;
}

// One row of pixels. `bias` [C]
FOR_EACH_PROCESSOR void gather_row(float* to, const float* from, const float* taps, const Reach* rows, const Reach* rows_end, const int64_t* begin,
                                   const Reach* columns, int64_t width, int64_t channels, const float* bias) {
  for (int64_t x = 0; x < width; ++x, to += channels) {
    const Patch patch{rows, rows_end, columns + begin[x], columns + begin[x + 1]};
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) gather_channels<4>(to + c, from + c, taps + c, patch, bias + c);
    for (; c + 16 <= channels; c += 16) gather_channels<2>(to + c, from + c, taps + c, patch, bias + c);
    for (; c + 8 <= channels; c += 8) gather_channels<1>(to + c, from + c, taps + c, patch, bias + c);
    for (; c < channels; ++c) gather_channel(to + c, from + c, taps + c, patch, bias + c);
  }
}

template <int Blocks>
INLINED void add_channels(double* total, const float* x, const float* dy, int64_t count, int64_t x_step, int64_t dy_step) {
  Eight sum[Blocks];
  for (int b = 0; b < Blocks; ++b) sum[b] = Eight{};
  for (int64_t p = 0; p < count; ++p, x += x_step, dy += dy_step)
    for (int b = 0; b < Blocks; ++b) sum[b] += load(x + 8 * b) * load(dy + 8 * b);
  for (int b = 0; b < Blocks; ++b)
    for (int k = 0; k < 8; ++k) total[8 * b + k] += sum[b][k];
}

// total[c] += the sum over `count` pixels of x[c] dy[c].
FOR_EACH_PROCESSOR void add_products(double* total, const float* x, const float* dy, int64_t count, int64_t x_step, int64_t channels) {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) add_channels<4>(total + c, x + c, dy + c, count, x_step, channels);
  for (; c + 8 <= channels; c += 8) add_channels<1>(total + c, x + c, dy + c, count, x_step, channels);
  for (; c < channels; ++c) {
    float sum = 0;
    for (int64_t p = 0; p < count; ++p) sum += x[p * x_step + c] * dy[p * channels + c];
    total[c] += sum;
  }
}

// --- the three sums -------------------------------------------------------------------------------------------------------

struct Geometry {
  int64_t images, channels;
  Axis rows, columns;

  int64_t taps() const { return rows.kernel * columns.kernel; }
};

int64_t grain(int64_t work_of_one) { return std::max<int64_t>(1, at::internal::GRAIN_SIZE / std::max<int64_t>(1, work_of_one)); }

// y from x; or, `reversed`, dx from dy. `taps` [taps, C].
void gather(float* to, const float* from, const float* taps, const float* bias, const Geometry& of, bool reversed) {
  const int64_t height = reversed ? of.rows.input : of.rows.output, width = reversed ? of.columns.input : of.columns.output;
  const int64_t other_height = reversed ? of.rows.output : of.rows.input, other_width = reversed ? of.columns.output : of.columns.input;
  const Reaches rows(of.rows, reversed, other_width * of.channels, of.columns.kernel * of.channels);
  const Reaches columns(of.columns, reversed, of.channels, of.channels);
  at::parallel_for(0, of.images * height, grain(width * of.channels * of.taps()), [&](int64_t first, int64_t end) {
    for (int64_t k = first; k < end; ++k) {
      const int64_t image = k / height, row = k % height;
      gather_row(to + k * width * of.channels, from + image * other_height * other_width * of.channels, taps, rows.all.data() + rows.begin[row],
                 rows.all.data() + rows.begin[row + 1], columns.begin.data(), columns.all.data(), width, of.channels, bias);
    }
  });
}

// [taps, C] from x and dy.
at::Tensor gradient_of_taps(const float* x, const float* dy, const Geometry& of) {
  const int64_t all = of.images * of.rows.output, size = of.taps() * of.channels;
  // One for each thread: sums depend on the number of threads, and on nothing else.
  const int64_t parts = std::clamp<int64_t>(all / grain(of.columns.output * size), 1, at::get_num_threads());
  std::vector<double> totals(parts * size);
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t end) {
    for (int64_t part = first; part < end; ++part) {
      for (int64_t k = all * part / parts; k < all * (part + 1) / parts; ++k) {
        const int64_t image = k / of.rows.output, row = k % of.rows.output;
        for (int64_t down = 0; down < of.rows.kernel; ++down) {
          const int64_t source = of.rows.source(row, down);
          if (source < 0 || source >= of.rows.input) continue;
          const float* x_row = x + (image * of.rows.input + source) * of.columns.input * of.channels;
          for (int64_t right = 0; right < of.columns.kernel; ++right) {
            // The outputs whose input for this tap lies in the image: one run.
            const Axis& axis = of.columns;
            int64_t from = 0, to = axis.output;
            while (from < to && axis.source(from, right) < 0) ++from;
            while (to > from && axis.source(to - 1, right) >= axis.input) --to;
            if (from == to) continue;
            add_products(&totals[part * size + (down * axis.kernel + right) * of.channels], x_row + axis.source(from, right) * of.channels,
                         dy + (k * axis.output + from) * of.channels, to - from, axis.stride * of.channels, of.channels);
          }
        }
      }
    }
  });
  const at::Tensor result = at::empty({of.taps(), of.channels}, at::kFloat);
  float* values = result.data_ptr<float>();
  for (int64_t k = 0; k < size; ++k) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += totals[part * size + k];
    values[k] = static_cast<float>(sum);
  }
  return result;
}

// --- the operator ---------------------------------------------------------------------------------------------------------

struct DepthwiseConv2d : torch::autograd::Function<DepthwiseConv2d> {
  static Geometry geometry(const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
    const auto axis = [&](int64_t k) {
      const int64_t input = x.size(2 + k), kernel = weight.size(2 + k);
      const int64_t output = (input + padding[2 * k] + padding[2 * k + 1] - dilation[k] * (kernel - 1) - 1) / stride[k] + 1;
      return Axis{input, output, kernel, stride[k], padding[2 * k], dilation[k]};
    };
    return {x.size(0), x.size(1), axis(0), axis(1)};
  }

  // [C, 1, h, w] as [h w, C]
  static at::Tensor taps_of(const at::Tensor& weight) { return weight.reshape({weight.size(0), -1}).t().contiguous(); }

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
    const Geometry of = geometry(x, weight, stride, padding, dilation);
    const at::Tensor y = at::empty({of.images, of.channels, of.rows.output, of.columns.output}, x.options(), at::MemoryFormat::ChannelsLast);
    const at::Tensor taps = taps_of(weight);
    const at::Tensor offsets = bias ? bias->contiguous() : at::zeros({of.channels}, at::kFloat);
    gather(y.data_ptr<float>(), x.data_ptr<float>(), taps.data_ptr<float>(), offsets.data_ptr<float>(), of, false);
    context->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    context->saved_data["stride"] = stride.vec();
    context->saved_data["padding"] = padding.vec();
    context->saved_data["dilation"] = dilation.vec();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const auto stride = context->saved_data["stride"].toIntVector(), padding = context->saved_data["padding"].toIntVector(),
               dilation = context->saved_data["dilation"].toIntVector();
    const at::Tensor none;
    if (at::GradMode::is_enabled()) {
      const at::Tensor y = composed(x, weight, optional_of(bias), stride, padding, dilation);
      return differentiable_gradients(y, gradients[0], {x, weight, bias}, 6);
    }
    const Geometry of = geometry(x, weight, stride, padding, dilation);
    const at::Tensor dy = side_by_side(gradients[0]);
    at::Tensor dx, dweight, dbias;
    if (wants_gradient(x)) {
      dx = at::empty_like(x);
      const at::Tensor none_added = at::zeros({of.channels}, at::kFloat);
      gather(dx.data_ptr<float>(), dy.data_ptr<float>(), taps_of(weight).data_ptr<float>(), none_added.data_ptr<float>(), of, true);
    }
    if (wants_gradient(weight)) {
      dweight = at::empty_like(weight);
      dweight.copy_(gradient_of_taps(x.data_ptr<float>(), dy.data_ptr<float>(), of).t().reshape(weight.sizes()));
    }
    if (wants_gradient(bias)) dbias = dy.sum(at::IntArrayRef{0, 2, 3});
    return {dx, dweight, dbias, none, none, none};
  }
};

#endif

at::Tensor depthwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, at::IntArrayRef stride,
                            at::IntArrayRef padding, at::IntArrayRef dilation) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4, "depthwise_conv2d: expected x [N, C, H, W] and weight [C, 1, h, w], got ", x.sizes(), " and ", weight.sizes());
  TORCH_CHECK(stride.size() == 2 && padding.size() == 4 && dilation.size() == 2,
              "depthwise_conv2d: expected 2 numbers for the stride, 4 for the padding (top, bottom, left, right), 2 for the dilation");
  const int64_t channels = x.size(1);
  const auto fits = [](at::IntArrayRef list, int64_t least) { return std::all_of(list.begin(), list.end(), [&](int64_t n) { return n >= least && n < (1 << 20); }); };
  TORCH_CHECK(fits(stride, 1) && fits(dilation, 1) && fits(padding, 0), "depthwise_conv2d: stride ", stride, ", padding ", padding, ", dilation ", dilation);
#if HAS_VECTORS
  if (x.is_cpu() && x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kFloat)
    return depthwise_conv2d(x.to(at::kFloat), weight, bias, stride, padding, dilation).to(at::kBFloat16);
  bool is_ours = is_float_on_cpu(x) && is_float_on_cpu(weight) && channels > 1 && x.numel() > 0 && is_side_by_side(x) && weight.size(0) == channels && weight.size(1) == 1 && weight.numel() > 0 &&
                 is_plain_bias(bias, channels);
  for (int64_t k = 0; is_ours && k < 2; ++k)
    is_ours = x.size(2 + k) + padding[2 * k] + padding[2 * k + 1] > dilation[k] * (weight.size(2 + k) - 1);
  if (is_ours) return DepthwiseConv2d::apply(x, weight, bias, stride, padding, dilation);
#endif
  return composed(x, weight, bias, stride, padding, dilation);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("depthwise_conv2d(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[4] padding, int[2] dilation) -> Tensor", depthwise_conv2d);
}

}  // namespace
}  // namespace pixelwise
