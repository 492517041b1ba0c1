// pixelwise::pointwise_conv2d: a convolution with a 1x1 kernel, which is a matrix product where channels lie side by side.
//
//   y [N H W, Cout] = x [N H W, Cin] weight' [Cin, Cout]      dx = dy weight      dweight = dy' x
//
// Milliseconds on two Zen 4 cores that have nothing else to do, forward, and forward and backward, libtorch (oneDNN) and here (best of 9):
//   4x960x1x1 -> 240   0.09 and 0.02, 0.28 and 0.07      4x960x12x16 -> 160    1.27 and 1.21, 3.94 and 3.98
//   4x72x48x64 -> 24   0.35 and 0.33, 1.07 and 1.07      4x1024x16x16 -> 256   2.75 and 2.80, 8.67 and 8.83
//   4x256x32x32 -> 64  0.82 and 0.72, 2.53 and 2.51      4x64x96x128 -> 16     1.30 and 0.72, 3.25 and 3.76
// So it is LR-ASPP's inference that gains (MobileNetV3, 256x256: 13.3 and 12.0), and training on a machine that does something else
// too, where oneDNN's threads wait for one another more often: with one other process busy a step of LR-ASPP takes 512 and 393 (medians
// of 9), and 127 and 124 without. src/nn/conv.ts says where it is used.
//
// That is for float32 on the CPU with channels side by side (channels_last). Everything else runs as libtorch's conv2d.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "autocast.h"
#include "operators.h"
#include "processors.h"
#include "products.h"

namespace pixelwise {
namespace {

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) { return at::conv2d(x, weight, bias); }

// x [N, C, H, W] with channels side by side as the matrix [N H W, C], and weight [Cout, Cin, 1, 1] as [Cout, Cin].
Factor factor_of(const at::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }
Factor transposed(Factor of) { return {of.values, of.step, true}; }
Product product_of(const at::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }
int64_t pixels_of(const at::Tensor& x) { return x.size(0) * x.size(2) * x.size(3); }

FOR_EACH_PROCESSOR void add_to_row(float* RESTRICT row, const float* RESTRICT added, int64_t count) {
  for (int64_t c = 0; c < count; ++c) row[c] += added[c];
}

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
  const int64_t inputs = weight.size(1), outputs = weight.size(0);
  const at::Tensor y = at::empty({x.size(0), outputs, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  const at::Tensor offsets = bias ? bias->contiguous() : at::Tensor();
  float* rows = y.data_ptr<float>();
  const float* added = bias ? offsets.data_ptr<float>() : nullptr;
  share_product(factor_of(x), transposed(factor_of(weight)), product_of(y), pixels_of(x), outputs, inputs,
                [=](int64_t row, int64_t end, int64_t first, int64_t last) {
                  if (added == nullptr) return;
                  for (; row < end; ++row) add_to_row(rows + row * outputs + first, added + first, last - first);
                });
  return y;
}

struct PointwiseConv2d : torch::autograd::Function<PointwiseConv2d> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    return convolve(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    if (at::GradMode::is_enabled()) return differentiable_gradients(composed(x, weight, optional_of(bias)), gradients[0], {x, weight, bias}, 3);
    const at::Tensor dy = side_by_side(gradients[0]);
    at::Tensor dx, dweight, dbias;
    if (wants_gradient(x)) {
      dx = at::empty_like(x);
      share_product(factor_of(dy), factor_of(weight), product_of(dx), pixels_of(x), x.size(1), dy.size(1));
    }
    if (wants_gradient(weight)) {
      dweight = at::empty_like(weight);
      share_product(transposed(factor_of(dy)), factor_of(x), product_of(dweight), dy.size(1), x.size(1), pixels_of(x));
    }
    if (wants_gradient(bias)) dbias = dy.sum(at::IntArrayRef{0, 2, 3});
    return {dx, dweight, dbias};
  }
};

at::Tensor pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(2) == 1 && weight.size(3) == 1 && weight.size(1) == x.size(1),
              "pointwise_conv2d: expected x [N, C, H, W] and weight [Cout, C, 1, 1], got ", x.sizes(), " and ", weight.sizes());
  const bool is_ours = !is_autocasting() && is_float_on_cpu(x) && is_float_on_cpu(weight) && x.numel() > 0 && weight.numel() > 0 &&
                       x.is_contiguous(at::MemoryFormat::ChannelsLast) && (weight.is_contiguous() || weight.is_contiguous(at::MemoryFormat::ChannelsLast)) &&
                       is_plain_bias(bias, weight.size(0));
  return is_ours ? PointwiseConv2d::apply(x, weight, bias) : composed(x, weight, bias);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("pointwise_conv2d(Tensor x, Tensor weight, Tensor? bias) -> Tensor", pointwise_conv2d);
}

}  // namespace
}  // namespace pixelwise
