// pixelwise::sgd_: a step of stochastic gradient descent for one parameter, as one operator.
// Sutskever et al. 2013, http://proceedings.mlr.press/v28/sutskever13.html
//
//   g = factor (gradient + decay w);  b = momentum b + (1 - dampening) g (the first b is g);  w = w - rate b
//   with Nesterov:                                                                           w = w - rate (g + momentum b)
//
// Of libtorch's operators that takes four, which read and write eleven numbers for each of the parameter's where five do. For
// float32 on the CPU; for anything else there are those four (optim/sgd.ts).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "operators.h"
#include "processors.h"

namespace pixelwise {
namespace {

struct Factors {
  float factor, decay, kept, taken, momentum, rate;
};

FOR_EACH_PROCESSOR void move(float* RESTRICT w, const float* RESTRICT g, int64_t count, Factors by) {
  for (int64_t k = 0; k < count; ++k) w[k] -= by.rate * (by.factor * (g[k] + by.decay * w[k]));
}

FOR_EACH_PROCESSOR void move_with_momentum(float* RESTRICT w, const float* RESTRICT g, float* RESTRICT b, int64_t count, Factors by) {
  for (int64_t k = 0; k < count; ++k) {
    b[k] = by.kept * b[k] + by.taken * (by.factor * (g[k] + by.decay * w[k]));
    w[k] -= by.rate * b[k];
  }
}

FOR_EACH_PROCESSOR void move_ahead(float* RESTRICT w, const float* RESTRICT g, float* RESTRICT b, int64_t count, Factors by) {
  for (int64_t k = 0; k < count; ++k) {
    const float gradient = by.factor * (g[k] + by.decay * w[k]);
    b[k] = by.kept * b[k] + by.taken * gradient;
    w[k] -= by.rate * (gradient + by.momentum * b[k]);
  }
}

// parameter, gradient and, with momentum, buffer of one shape; the buffer before the `first` step may hold zeros only.
void sgd_(const at::Tensor& parameter, const at::Tensor& gradient, const c10::optional<at::Tensor>& buffer, bool first, double rate, double momentum,
          double dampening, bool nesterov, double decay, double factor) {
  const at::NoGradGuard no_history;
  for (const at::Tensor* tensor : {&parameter, &gradient, buffer ? &*buffer : &parameter}) {
    TORCH_CHECK(is_float_on_cpu(*tensor) && tensor->sizes() == parameter.sizes(), "sgd_: expected float32 on the CPU, all of one shape, got ",
                tensor->scalar_type(), " ", tensor->sizes());
  }
  TORCH_CHECK(parameter.is_non_overlapping_and_dense() && (!buffer || buffer->strides() == parameter.strides()),
              "sgd_: expected the buffer in the parameter's memory order");
  const at::Tensor laid = laid_as(parameter, gradient);
  const Factors by{static_cast<float>(factor),
                   static_cast<float>(decay),
                   first ? 0.0f : static_cast<float>(momentum),
                   first ? 1.0f : static_cast<float>(1 - dampening),
                   static_cast<float>(momentum),
                   static_cast<float>(rate)};
  float *w = parameter.data_ptr<float>(), *b = buffer ? buffer->data_ptr<float>() : nullptr;
  const float* g = laid.data_ptr<float>();
  at::parallel_for(0, parameter.numel(), at::internal::GRAIN_SIZE, [&](int64_t begin, int64_t end) {
    if (b == nullptr) move(w + begin, g + begin, end - begin, by);
    else if (nesterov) move_ahead(w + begin, g + begin, b + begin, end - begin, by);
    else move_with_momentum(w + begin, g + begin, b + begin, end - begin, by);
  });
  parameter.unsafeGetTensorImpl()->bump_version();
  if (buffer) buffer->unsafeGetTensorImpl()->bump_version();
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("sgd_(Tensor(a!) parameter, Tensor gradient, Tensor(b!)? buffer, bool first, float rate, float momentum, float dampening, bool nesterov, "
              "float decay, float factor) -> ()",
              sgd_);
}

}  // namespace
}  // namespace pixelwise
