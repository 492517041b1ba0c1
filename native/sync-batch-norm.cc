// Batch-norm over the batches of several processes: libtorch's own batch-norm with statistics that are sums over all of them.
// What torch.nn.SyncBatchNorm does on CUDA, from operators that every device has.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "process-group.h"

namespace pixelwise {
namespace {

// Along the channels of x: [C] to [1, C, 1, 1].
at::Tensor along_channels(const at::Tensor& values, const at::Tensor& x) { return values.to(x.scalar_type()).view({1, -1, 1, 1}); }

// In fewer bits sums over pixels would be worth nothing, and small deviations from a mean would vanish.
at::Tensor in_full(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf ? x.to(at::kFloat) : x; }

struct SyncBatchNorm : torch::autograd::Function<SyncBatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& running_mean, const at::Tensor& running_var, double momentum, double eps, int64_t group) {
    const int64_t channels = x.size(1);
    const auto own = static_cast<double>(x.numel() / channels);
    const auto [own_mean, own_var] = at::batch_norm_update_stats(in_full(x), {}, {}, 0);  // the variance is the biased one
    const at::Tensor m = own_mean.to(at::kDouble), v = own_var.to(at::kDouble);
    // Of the values their number, sum, and sum of squares. In float64, so that mean squares may be subtracted.
    const at::Tensor sums = at::cat({m * own, (v + m * m) * own, at::full({1}, own, m.options())});
    sum_over_group(sums, group);
    const at::Tensor n = sums[2 * channels];
    const at::Tensor mean = sums.narrow(0, 0, channels) / n;
    const at::Tensor var = (sums.narrow(0, channels, channels) / n - mean * mean).clamp_min(0);
    running_mean.lerp_(mean.to(running_mean.scalar_type()), momentum);
    running_var.lerp_((var * (n / (n - 1))).to(running_var.scalar_type()), momentum);

    const at::Tensor used_mean = mean.to(running_mean.scalar_type()), used_var = var.to(running_var.scalar_type());
    context->save_for_backward({x, weight, used_mean, used_var, n});
    context->saved_data["eps"] = eps;
    context->saved_data["group"] = group;
    return std::get<0>(at::native_batch_norm(x, weight, bias, used_mean, used_var, /*training=*/false, 0, eps));
  }

  // dx = w s (dy - sum(dy) / n - (x - mean) s sum(dy (x - mean) s) / n) with s = 1 / sqrt(var + eps) and sums over all processes.
  // The gradients of weight and bias stay this process's own, as those of all parameters do.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "batch-norm over several processes has no second derivative");
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[1], &mean = saved[2], &var = saved[3], &n = saved[4], x = in_full(saved[0]);
    const double eps = context->saved_data["eps"].toDouble();
    const at::Tensor dy = in_full(gradients[0]).contiguous(x.suggest_memory_format());
    // With fixed statistics dx is w s dy alone.
    auto [dx, dweight, dbias] = at::native_batch_norm_backward(dy, x, weight, mean, var, {}, {}, /*train=*/false, eps, {true, true, true});
    const at::Tensor sums = at::stack({dbias.to(at::kDouble), dweight.to(at::kDouble)});
    sum_over_group(sums, context->saved_data["group"].toInt());
    const at::Tensor s = (var.to(at::kDouble) + eps).rsqrt();
    const at::Tensor scale = weight.to(at::kDouble) * s / n;
    const at::Tensor deviation = x - along_channels(mean, x);
    dx.addcmul_(deviation, along_channels(scale * s * sums[1], x), -1);
    dx.sub_(along_channels(scale * sums[0], x));
    const at::Tensor none;
    return {dx.to(saved[0].scalar_type()), dweight, dbias, none, none, none, none, none};
  }
};

at::Tensor sync_batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& running_mean,
                           const at::Tensor& running_var, double momentum, double eps, int64_t group) {
  TORCH_CHECK(x.dim() == 4 && x.numel() > 0 && x.is_floating_point(), "sync_batch_norm: expected some numbers [N, C, H, W], got ", x.scalar_type(), " ", x.sizes());
  for (const at::Tensor* vector : {&weight, &bias, &running_mean, &running_var})
    TORCH_CHECK(vector->dim() == 1 && vector->size(0) == x.size(1) && vector->is_floating_point(), "sync_batch_norm: expected one number for each of ", x.size(1),
                " channels, got ", vector->scalar_type(), " ", vector->sizes());
  return SyncBatchNorm::apply(x.contiguous(x.suggest_memory_format()), weight, bias, running_mean, running_var, momentum, eps, group);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("sync_batch_norm(Tensor x, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, "
              "float momentum, float eps, int group) -> Tensor", sync_batch_norm);
}

}  // namespace
}  // namespace pixelwise
