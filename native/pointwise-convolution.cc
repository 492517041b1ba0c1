// pixelwise::pointwise_conv2d: a convolution with a 1x1 kernel, which is a matrix product where channels lie side by side.
//
//   y [N H W, Cout] = x [N H W, Cin] weight' [Cin, Cout]      dx = dy weight      dweight = dy' x
//
// libtorch 1.13 prepares oneDNN's kernels anew in each call.
//
// That is for float32 on the CPU with channels side by side (channels_last). Everything else runs as libtorch's conv2d.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "autocast.h"
#include "operators.h"
#include "products.h"

namespace pixelwise {
namespace {

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) { return at::conv2d(x, weight, bias); }

// [N, C, H, W] with channels side by side as [N H W, C], and [Cout, Cin, 1, 1] as [Cout, Cin]: views.
at::Tensor rows_of(const at::Tensor& x) { return x.permute({0, 2, 3, 1}).view({-1, x.size(1)}); }
at::Tensor matrix_of(const at::Tensor& weight) { return weight.view({weight.size(0), weight.size(1)}); }

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
  const at::Tensor y = at::empty({x.size(0), weight.size(0), x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  multiply(rows_of(y), rows_of(x), matrix_of(weight).t());
  return bias ? y.add_(bias->view({1, -1, 1, 1})) : y;
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
      multiply(rows_of(dx), rows_of(dy), matrix_of(weight));
    }
    if (wants_gradient(weight)) {
      dweight = at::empty_like(weight);
      multiply(matrix_of(dweight), rows_of(dy).t(), rows_of(x));
    }
    if (wants_gradient(bias)) dbias = dy.sum(at::IntArrayRef{0, 2, 3});
    return {dx, dweight, dbias};
  }
};

at::Tensor pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(2) == 1 && weight.size(3) == 1 && weight.size(1) == x.size(1),
              "pointwise_conv2d: expected x [N, C, H, W] and weight [Cout, C, 1, 1], got ", x.sizes(), " and ", weight.sizes());
  const bool is_ours = !is_autocasting() && is_float_on_cpu(x) && is_float_on_cpu(weight) && x.numel() > 0 && weight.numel() > 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast) &&
                       (!bias || (is_float_on_cpu(*bias) && bias->dim() == 1 && bias->size(0) == weight.size(0)));
  return is_ours ? PointwiseConv2d::apply(x, weight, bias) : composed(x, weight, bias);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("pointwise_conv2d(Tensor x, Tensor weight, Tensor? bias) -> Tensor", pointwise_conv2d);
}

}  // namespace
}  // namespace pixelwise
