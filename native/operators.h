// What our operators have in common.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

namespace pixelwise {

inline bool wants_gradient(const at::Tensor& input) { return input.defined() && input.requires_grad(); }

inline bool is_float_on_cpu(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// Of a convolution with that many channels out: none, or one that our loops can read.
inline bool is_plain_bias(const c10::optional<at::Tensor>& bias, int64_t channels) {
  return !bias || (is_float_on_cpu(*bias) && bias->dim() == 1 && bias->size(0) == channels);
}

// The gradient in the memory order of its parameter.
inline at::Tensor laid_as(const at::Tensor& parameter, const at::Tensor& gradient) {
  return gradient.strides() == parameter.strides() ? gradient : at::empty_like(parameter).copy_(gradient);
}

// Whether a pixel's channels are neighbours in memory. Of one channel, or of one pixel, that is a matter of opinion: no.
inline bool is_side_by_side(const at::Tensor& x) {
  return x.suggest_memory_format() == at::MemoryFormat::ChannelsLast && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

inline at::Tensor side_by_side(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

inline c10::optional<at::Tensor> optional_of(const at::Tensor& x) { return x.defined() ? c10::optional<at::Tensor>(x) : c10::nullopt; }

// What backward() gives with createGraph: the gradients of y, which was made of `inputs` by operators that have a derivative
// themselves, undefined for those that want none and for the other arguments; in all `arguments`.
inline torch::autograd::variable_list differentiable_gradients(const at::Tensor& y, const at::Tensor& dy, const std::vector<at::Tensor>& inputs,
                                                               size_t arguments) {
  torch::autograd::variable_list wanted, gradients(arguments);
  for (const at::Tensor& input : inputs)
    if (wants_gradient(input)) wanted.push_back(input);
  const auto made = torch::autograd::grad({y}, wanted, {dy}, /*retain_graph=*/true, /*create_graph=*/true);
  size_t next = 0;
  for (size_t k = 0; k < inputs.size(); ++k)
    if (wants_gradient(inputs[k])) gradients[k] = made[next++];
  return gradients;
}

}  // namespace pixelwise
