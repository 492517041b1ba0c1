// pixelwise::atrous_conv2d: a 3x3 convolution with dilation, without the taps that see nothing but padding.
// Chen et al. 2017, DeepLabV3, section 3.3.1, https://arxiv.org/abs/1706.05587: at a rate as large as the map only the middle tap
// is left.
//
//   rate 12 on a map of 16x16: each tap sees only part of the map, so of 9 x 256 products 2.25 x 256 are not with zeros
//        .---------.
//        |o   o   o|   y[window of a tap] += x[window moved by it] W[tap], one matrix product for each tap
//        |o   o   o|
//        |o   o   o|
//        '---------'
//
// libtorch 1.13 (oneDNN 2.6) computes all of it where the dilation is large: it falls back to unfolding the input. Milliseconds
// on two Zen 4 cores, forward and backward, contiguous / channels side by side, libtorch and here (best of 9):
//   4x2048x16x16 -> 256, rate 12: 89 / 102 and 58 / 47; rate 24: 156 / 130 and 23 / 22
//   2x2048x32x32 -> 256, rate 12: 267 / 222 and 230 / 178; rate 24: 354 / 256 and 127 / 85; rate 36: 351 / 226 and 40 / 36
//   1x512x65x65 -> 256, rate 12: 144 / 137 and 139 / 122; rate 36: 177 / 133 and 84 / 65
// Small rates stay libtorch's: 4x2048x16x16, rate 4, takes it 114 / 115.
//
// That is for float32 on the CPU. Everything else runs as libtorch's conv2d.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "autocast.h"
#include "operators.h"
#include "products.h"

namespace pixelwise {
namespace {

// --- what each tap sees ---------------------------------------------------------------------------------------------------

// Along one axis: outputs `to` .. `to` + `count` - 1 are reached from inputs `from` on.
struct Window {
  int64_t tap, to, from, count;
};

// Of the three taps those that see something of `size` pixels.
std::vector<Window> windows_of(int64_t size, int64_t dilation) {
  std::vector<Window> all;
  for (int64_t tap = 0; tap < 3; ++tap) {
    const int64_t shift = (tap - 1) * dilation, count = size - std::abs(shift);
    if (count > 0) all.push_back({tap, std::max<int64_t>(0, -shift), std::max<int64_t>(0, shift), count});
  }
  return all;
}

// The share of a kernel's products that are not with padding, along one axis.
double seen_of(int64_t size, int64_t dilation) {
  double seen = 0;
  for (const Window& window : windows_of(size, dilation)) seen += static_cast<double>(window.count);
  return seen / static_cast<double>(3 * size);
}

// Calls body(rows, columns) for each tap that sees something, the middle one, which sees everything, first.
template <typename Body>
void for_each_tap(int64_t height, int64_t width, int64_t dilation, const Body& body) {
  const Window middle_rows{1, 0, 0, height}, middle_columns{1, 0, 0, width};
  body(middle_rows, middle_columns);
  for (const Window& rows : windows_of(height, dilation))
    for (const Window& columns : windows_of(width, dilation))
      if (rows.tap != 1 || columns.tap != 1) body(rows, columns);
}

// Part of x [N, H, W, C], as a view.
at::Tensor part(const at::Tensor& x, int64_t row, const Window& rows, int64_t column, const Window& columns) {
  return x.narrow(1, row, rows.count).narrow(2, column, columns.count);
}
at::Tensor inputs(const at::Tensor& x, const Window& rows, const Window& columns) { return part(x, rows.from, rows, columns.from, columns); }
at::Tensor outputs(const at::Tensor& y, const Window& rows, const Window& columns) { return part(y, rows.to, rows, columns.to, columns); }

// [N, h, w, C] as the matrix [N h w, C]; of a part, a copy.
at::Tensor matrix(const at::Tensor& x) { return x.reshape({-1, x.size(3)}); }

Factor factor_of(const at::Tensor& matrix) {
  const bool transposed = matrix.size(1) > 1 && matrix.stride(1) != 1;
  return {matrix.data_ptr<float>(), std::max(matrix.stride(transposed ? 1 : 0), matrix.size(transposed ? 0 : 1)), transposed};
}

// a [M, K] b [K, N], into `y` where there is one.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::Tensor y = {}) {
  if (!y.defined()) y = at::empty({a.size(0), b.size(1)}, a.options());
  share_product(factor_of(a), factor_of(b), {y.data_ptr<float>(), y.size(1)}, a.size(0), b.size(1), a.size(1));
  return y;
}

// [N, C, H, W] as [N, H, W, C], in memory too.
at::Tensor by_pixels(const at::Tensor& x) { return x.permute({0, 2, 3, 1}).contiguous(); }

// [N, H, W, C] as [N, C, H, W], in the memory format of `like`.
at::Tensor by_channels(const at::Tensor& x, const at::Tensor& like) { return x.permute({0, 3, 1, 2}).contiguous(like.suggest_memory_format()); }

// --- the operator ---------------------------------------------------------------------------------------------------------

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t dilation) {
  return at::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/dilation, dilation);
}

at::Tensor sum_of_taps(const at::Tensor& x, const at::Tensor& weight, int64_t dilation) {
  const at::Tensor pixels = by_pixels(x), taps = weight.permute({2, 3, 1, 0}).contiguous();  // [3, 3, Cin, Cout]
  at::Tensor y;
  for_each_tap(x.size(2), x.size(3), dilation, [&](const Window& rows, const Window& columns) {
    const at::Tensor seen = inputs(pixels, rows, columns);
    const at::Tensor made = product(matrix(seen), taps[rows.tap][columns.tap]).view({x.size(0), rows.count, columns.count, weight.size(0)});
    if (y.defined()) outputs(y, rows, columns).add_(made);
    else y = made;
  });
  return by_channels(y, x);
}

// oneDNN's forward leaves the padding out by itself, where channels are side by side or a row is short.
bool forward_is_libtorchs(const at::Tensor& x) { return is_side_by_side(x) || x.size(3) <= 16; }

struct AtrousConv2d : torch::autograd::Function<AtrousConv2d> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                            int64_t dilation) {
    context->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    context->saved_data["dilation"] = dilation;
    if (forward_is_libtorchs(x)) return composed(x, weight, bias, dilation);
    const at::Tensor y = sum_of_taps(x, weight, dilation);
    return bias ? y.add_(bias->view({1, -1, 1, 1})) : y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const int64_t dilation = context->saved_data["dilation"].toInt();
    const at::Tensor none;
    if (at::GradMode::is_enabled()) return differentiable_gradients(composed(x, weight, optional_of(bias), dilation), gradients[0], {x, weight, bias}, 4);
    const at::Tensor dy = by_pixels(gradients[0]);
    at::Tensor dpixels, dtaps;  // [N, H, W, Cin], [3, 3, Cout, Cin]
    const at::Tensor pixels = wants_gradient(weight) ? by_pixels(x) : none;
    const at::Tensor taps = wants_gradient(x) ? weight.permute({2, 3, 0, 1}).contiguous() : none;
    if (wants_gradient(weight)) dtaps = at::zeros({3, 3, weight.size(0), weight.size(1)}, weight.options());
    for_each_tap(x.size(2), x.size(3), dilation, [&](const Window& rows, const Window& columns) {
      const at::Tensor dmade = matrix(outputs(dy, rows, columns));  // [N h w, Cout]
      if (wants_gradient(weight)) {
        product(dmade.t(), matrix(inputs(pixels, rows, columns)), dtaps[rows.tap][columns.tap]);
      }
      if (!wants_gradient(x)) return;
      const at::Tensor dseen = product(dmade, taps[rows.tap][columns.tap]).view({x.size(0), rows.count, columns.count, x.size(1)});
      if (dpixels.defined()) inputs(dpixels, rows, columns).add_(dseen);
      else dpixels = dseen;
    });
    const at::Tensor dx = wants_gradient(x) ? by_channels(dpixels, x) : none;
    const at::Tensor dweight = wants_gradient(weight) ? at::empty_like(weight).copy_(dtaps.permute({2, 3, 0, 1})) : none;
    const at::Tensor dbias = wants_gradient(bias) ? dy.sum(at::IntArrayRef{0, 1, 2}) : none;
    return {dx, dweight, dbias, none};
  }
};

at::Tensor atrous_conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t dilation) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 && weight.size(1) == x.size(1),
              "atrous_conv2d: expected x [N, C, H, W] and weight [Cout, C, 3, 3], got ", x.sizes(), " and ", weight.sizes());
  TORCH_CHECK(dilation >= 1 && dilation < (1 << 20), "atrous_conv2d: dilation ", dilation);
  const bool fits = !is_autocasting() && is_float_on_cpu(x) && is_float_on_cpu(weight) && x.numel() > 0 && weight.numel() > 0 &&
                    is_plain_bias(bias, weight.size(0));
  if (!fits) return composed(x, weight, bias, dilation);
  if (dilation >= std::max(x.size(2), x.size(3))) return at::conv2d(x, weight.narrow(2, 1, 1).narrow(3, 1, 1), bias);

  const bool learns = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() || (bias && bias->requires_grad()));
  const bool pays = dilation >= 12 || seen_of(x.size(2), dilation) * seen_of(x.size(3), dilation) <= 0.5;
  if (!pays || (!learns && forward_is_libtorchs(x))) return composed(x, weight, bias, dilation);
  return AtrousConv2d::apply(x, weight, bias, dilation);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("atrous_conv2d(Tensor x, Tensor weight, Tensor? bias, int dilation) -> Tensor", atrous_conv2d);
}

}  // namespace
}  // namespace pixelwise
