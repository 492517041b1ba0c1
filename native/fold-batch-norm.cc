// pixelwise::fold_batch_norm: weight and bias of the one convolution that does what a convolution and the batch-norm behind
// it do with running statistics. In float32 on the CPU a loop of its own: six operators of libtorch on these small tensors
// take 80 microseconds for each of a network's fifty such pairs, as long as what folding saves. And pixelwise::fold_key, by which
// one that was made before is known to be right still.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace pixelwise {
namespace {

// weight [Cout, Cin / groups, h, w], all others [Cout]. With s = gamma / sqrt(variance + eps): weight s, beta + (bias - mean) s.
std::tuple<at::Tensor, at::Tensor> fold_batch_norm(const at::Tensor& weight, const c10::optional<at::Tensor>& bias, const at::Tensor& gamma,
                                                   const at::Tensor& beta, const at::Tensor& mean, const at::Tensor& variance, double eps) {
  const at::NoGradGuard no_history;
  TORCH_CHECK(weight.dim() == 4, "weight has 4 axes");
  const int64_t channels = weight.size(0);
  bool is_plain = weight.is_cpu() && weight.scalar_type() == at::kFloat &&
                  (weight.is_contiguous() || weight.is_contiguous(at::MemoryFormat::ChannelsLast));  // a channel is a block in both
  for (const at::Tensor* vector : {&gamma, &beta, &mean, &variance, bias ? &*bias : &beta}) {
    TORCH_CHECK(vector->dim() == 1 && vector->size(0) == channels, "the batch-norm has the convolution's channels");
    is_plain = is_plain && vector->is_cpu() && vector->scalar_type() == at::kFloat && vector->is_contiguous();
  }
  if (!is_plain) {
    const at::Tensor scale = gamma / (variance + eps).sqrt();
    return {weight * scale.view({-1, 1, 1, 1}), at::addcmul(beta, bias ? mean - *bias : mean, scale, -1)};
  }
  const at::Tensor folded_weight = at::empty_like(weight), folded_bias = at::empty_like(beta);
  const float *from = weight.data_ptr<float>(), *b = bias ? bias->data_ptr<float>() : nullptr;
  const float *g = gamma.data_ptr<float>(), *shift = beta.data_ptr<float>(), *m = mean.data_ptr<float>(), *v = variance.data_ptr<float>();
  float *to = folded_weight.data_ptr<float>(), *to_bias = folded_bias.data_ptr<float>();
  const int64_t block = channels > 0 ? weight.numel() / channels : 0;
  at::parallel_for(0, channels, std::max<int64_t>(1, at::internal::GRAIN_SIZE / std::max<int64_t>(1, block)), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const double scale = g[c] / std::sqrt(v[c] + eps);
      to_bias[c] = static_cast<float>(shift[c] + ((b ? b[c] : 0.0) - m[c]) * scale);
      const auto factor = static_cast<float>(scale);
      for (int64_t k = c * block; k < (c + 1) * block; ++k) to[k] = from[k] * factor;
    }
  });
  return {folded_weight, folded_bias};
}

// --- what was folded --------------------------------------------------------------------------------------------------------

void mix(uint64_t& key, uint64_t value) {  // FNV-1a, by whole words
  key = (key ^ value) * 0x100000001b3;
  key ^= key >> 29;
}

// Another whole number, below 2^53, when one of them has changed. Operators that change a tensor count its version up, so a large
// weight is not read. Batch-norm's vectors are, since libtorch's batch_norm changes the running ones without saying so; on a GPU,
// which would have to be waited for, the count of its batches says it. There _foreach operators and replayed graphs, so training
// steps, count nothing: Module.train() forgets what was folded.
int64_t fold_key(const at::Tensor& weight, const c10::optional<at::Tensor>& bias, const at::Tensor& gamma, const at::Tensor& beta, const at::Tensor& mean,
                 const at::Tensor& variance, const at::Tensor& batches, double eps) {
  uint64_t key = 0xcbf29ce484222325, bits;
  std::memcpy(&bits, &eps, sizeof bits);
  mix(key, bits);
  const auto mix_version = [&](const at::Tensor& tensor) {
    mix(key, reinterpret_cast<uintptr_t>(tensor.data_ptr()));
    mix(key, static_cast<uint64_t>(tensor._version()));
    for (const int64_t stride : tensor.strides()) mix(key, static_cast<uint64_t>(stride));
  };
  for (const at::Tensor* versioned : {&weight, bias ? &*bias : &weight, &batches}) mix_version(*versioned);
  for (const at::Tensor* vector : {&gamma, &beta, &mean, &variance}) {
    if (!vector->is_cpu()) {
      mix_version(*vector);
      continue;
    }
    const at::Tensor values = vector->contiguous();
    const auto* bytes = static_cast<const char*>(values.data_ptr());
    const size_t count = values.nbytes();
    for (size_t k = 0; k < count; k += sizeof bits) {
      bits = 0;
      std::memcpy(&bits, bytes + k, std::min(sizeof bits, count - k));
      mix(key, bits);
    }
  }
  return static_cast<int64_t>(key >> 11);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("fold_batch_norm(Tensor weight, Tensor? bias, Tensor gamma, Tensor beta, Tensor mean, Tensor variance, float eps) -> (Tensor, Tensor)",
              fold_batch_norm);
  library.def("fold_key(Tensor weight, Tensor? bias, Tensor gamma, Tensor beta, Tensor mean, Tensor variance, Tensor batches, float eps) -> int", fold_key);
}

}  // namespace
}  // namespace pixelwise
