// pixelwise::upsampled_overlap: bilinear enlargement of the logits, their softmax p, and the sums over all pixels that the losses
// of regions (Dice, soft IoU, Tversky) are made of, as one operator.
//
//   both_k = sum(p_k where the label is k), predicted_k = sum(p_k), actual_k = sum(1 where the label is k)
//
// over the pixels that are not ignored. As in upsampled-cross-entropy.cc a row of enlarged logits exists at a time: composed of
// libtorch's operators this takes five tensors of K values a pixel. For float32 on the CPU, and logits in fewer bits become
// float32 first; everything else is composed.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <vector>

#include "operators.h"
#include "upsampled-softmax.h"

namespace pixelwise {
namespace {

// [3, K]
at::Tensor composed(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners) {
  const at::Tensor labels = target.unsqueeze(1), counted = labels.ne(ignore_index);
  const at::Tensor classes = at::arange(logits.size(1), target.options()).view({1, -1, 1, 1});
  const at::Tensor truth = labels.eq(classes).logical_and(counted);
  const at::Tensor enlarged = at::upsample_bilinear2d(logits, {target.size(1), target.size(2)}, align_corners);
  const at::Tensor probability = at::softmax(enlarged, 1) * counted;
  const std::vector<int64_t> pixels{0, 2, 3};
  return at::stack({(probability * truth).sum(pixels), probability.sum(pixels), truth.sum(pixels).to(probability.scalar_type())});
}

#if HAS_VECTORS

// Adds a row's sums to `sums` [3, 8 eights]. Those of one row are in float32: its pixels are few enough for that.
FOR_EACH_PROCESSOR void sums_of_row(const Row& row, const int64_t* label, int64_t ignore_index, double* sums, float* scratch, float* of_row) {
  const int64_t stride = 8 * row.eights;
  std::fill(of_row, of_row + 3 * stride, 0.0f);
  for (int64_t x = 0; x < row.width; ++x) {
    if (label[x] == ignore_index) continue;
    float largest, sum;
    exponentiate(row, x, scratch, largest, sum);
    const float factor = 1.0f / sum;
    for (int64_t e = 0; e < row.eights; ++e) {
      float* predicted = of_row + stride + 8 * e;
      store(predicted, load(predicted) + load(scratch + 8 * e) * factor);
    }
    of_row[label[x]] += scratch[label[x]] * factor;
    of_row[2 * stride + label[x]] += 1.0f;
  }
  for (int64_t j = 0; j < 3 * stride; ++j) sums[j] += static_cast<double>(of_row[j]);
}

// Adds the gradient of each pixel's logits: p_k (g_k - sum_j p_j g_j), where g_k = dpredicted_k, and dboth_k more for its own class.
FOR_EACH_PROCESSOR void gradients_of_row(const Row& row, const int64_t* label, int64_t ignore_index, const float* dboth, const float* dpredicted, float* to,
                                         float* scratch) {
  for (int64_t x = 0; x < row.width; ++x) {
    if (label[x] == ignore_index) continue;
    float largest, sum;
    exponentiate(row, x, scratch, largest, sum);
    const float factor = 1.0f / sum, own = dboth[label[x]];
    Eight mean{};
    for (int64_t e = 0; e < row.eights; ++e) mean += load(scratch + 8 * e) * load(dpredicted + 8 * e);
    const float of_all = (sum_of(mean) + scratch[label[x]] * own) * factor;
    for (int64_t e = 0; e < row.eights; ++e) {
      const Eight is_class = is_lane(label[x] - 8 * e) ? Eight{} + own : Eight{};
      add_gradient(row, x, e, load(scratch + 8 * e) * factor * (load(dpredicted + 8 * e) + is_class - of_all), to);
    }
  }
}

struct UpsampledOverlap : torch::autograd::Function<UpsampledOverlap> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                            bool align_corners) {
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const int64_t stride = 8 * of.eights;
    const at::Tensor labels = target.contiguous();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    // Of each row by itself, so that the sum does not depend on the number of threads.
    const at::Tensor of_rows = at::zeros({of.images * of.height, 3, stride}, logits.options().dtype(at::kDouble));
    double* sums = of_rows.data_ptr<double>();
    for_each_row(of, 4 * stride, [&](const Row& row, int64_t k, float* scratch) {
      const int64_t* label = labels_data + k * of.width;
      check_labels("upsampled_overlap", label, of.width, of.classes, ignore_index);
      sums_of_row(row, label, ignore_index, sums + k * 3 * stride, scratch, scratch + stride);
    });
    context->save_for_backward({logits, target});
    context->saved_data["ignore_index"] = ignore_index;
    context->saved_data["align_corners"] = align_corners;
    return of_rows.sum(0).narrow(1, 0, of.classes).to(at::kFloat);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &logits = saved[0], &target = saved[1], none;
    const int64_t ignore_index = context->saved_data["ignore_index"].toInt();
    const bool align_corners = context->saved_data["align_corners"].toBool();
    if (at::GradMode::is_enabled()) return differentiable_gradients(composed(logits, target, ignore_index, align_corners), gradients[0], {logits}, 4);
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const at::Tensor labels = target.contiguous(), dy = at::constant_pad_nd(gradients[0], {0, 8 * of.eights - of.classes}).contiguous();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    const float *dboth = dy.data_ptr<float>(), *dpredicted = dboth + 8 * of.eights;
    const at::Tensor dx = gradient_of_rows(of, logits, [&](const Row& row, int64_t k, float* to, float* scratch) {
      gradients_of_row(row, labels_data + k * of.width, ignore_index, dboth, dpredicted, to, scratch);
    });
    return {dx, none, none, none};
  }
};

#endif

at::Tensor upsampled_overlap(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners) {
  check_sizes("upsampled_overlap", logits, target);
  if (logits.scalar_type() == at::kBFloat16 || logits.scalar_type() == at::kHalf)
    return upsampled_overlap(logits.to(at::kFloat), target, ignore_index, align_corners);
#if HAS_VECTORS
  if (can_enlarge(logits, target)) return UpsampledOverlap::apply(logits, target, ignore_index, align_corners);
#endif
  return composed(logits, target, ignore_index, align_corners);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("upsampled_overlap(Tensor logits, Tensor target, int ignore_index, bool align_corners) -> Tensor", upsampled_overlap);
}

}  // namespace
}  // namespace pixelwise
