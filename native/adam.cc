// pixelwise::adam_: a step of Adam for one parameter, as one operator.
// Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
//
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
//
// Of libtorch's operators that takes ten, each of which reads and writes everything: for the small parameters that most are, the
// way to an operator takes longer than its work. For float32 on the CPU; for anything else there are those ten (optim/adam.ts).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "operators.h"
#include "processors.h"

namespace pixelwise {
namespace {

struct Factors {
  float beta1, rest1, beta2, rest2, root, eps, rate;
};

FOR_EACH_PROCESSOR void move(float* RESTRICT w, const float* RESTRICT g, float* RESTRICT m, float* RESTRICT v, int64_t count, Factors by) {
  for (int64_t k = 0; k < count; ++k) {
    m[k] = m[k] * by.beta1 + g[k] * by.rest1;
    v[k] = v[k] * by.beta2 + g[k] * g[k] * by.rest2;
    w[k] -= by.rate * m[k] / (std::sqrt(v[k]) * by.root + by.eps);
  }
}

// parameter, gradient, mean and square of one shape; step [] int64, the steps before this one.
void adam_(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& step, const at::Tensor& mean, const at::Tensor& square,
           double rate, double beta1, double beta2, double eps) {
  const at::NoGradGuard no_history;
  for (const at::Tensor* tensor : {&parameter, &gradient, &mean, &square}) {
    TORCH_CHECK(is_float_on_cpu(*tensor) && tensor->sizes() == parameter.sizes(),
                "adam_: expected float32 on the CPU, all of one shape, got ", tensor->scalar_type(), " ", tensor->sizes());
  }
  TORCH_CHECK(step.is_cpu() && step.scalar_type() == at::kLong && step.numel() == 1, "adam_: expected one int64 as step");
  TORCH_CHECK(parameter.is_non_overlapping_and_dense() && mean.strides() == parameter.strides() && square.strides() == parameter.strides(),
              "adam_: expected mean and square in the parameter's memory order");
  const auto t = static_cast<double>(++*step.data_ptr<int64_t>());
  const at::Tensor g = laid_as(parameter, gradient);
  const Factors by{static_cast<float>(beta1),
                   static_cast<float>(1 - beta1),
                   static_cast<float>(beta2),
                   static_cast<float>(1 - beta2),
                   static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t))),
                   static_cast<float>(eps),
                   static_cast<float>(rate / (1 - std::pow(beta1, t)))};
  float *w = parameter.data_ptr<float>(), *m = mean.data_ptr<float>(), *v = square.data_ptr<float>();
  const float* from = g.data_ptr<float>();
  at::parallel_for(0, parameter.numel(), at::internal::GRAIN_SIZE,
                   [&](int64_t begin, int64_t end) { move(w + begin, from + begin, m + begin, v + begin, end - begin, by); });
  for (const at::Tensor* changed : {&parameter, &step, &mean, &square}) changed->unsafeGetTensorImpl()->bump_version();
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("adam_(Tensor(a!) parameter, Tensor gradient, Tensor(b!) step, Tensor(c!) mean, Tensor(d!) square, float rate, float beta1, float beta2, "
              "float eps) -> ()",
              adam_);
}

}  // namespace
}  // namespace pixelwise
