// pixelwise::upsampled_cross_entropy: bilinear enlargement of the logits and the cross-entropy of each pixel, as one operator.
//
//   loss[n, y, x] = log(sum_k exp(v_k)) - (1 - e) v_t - e / K sum_k v_k
//   v = the logits enlarged to the size of the labels, t = label at n, y, x, e = smoothing of the labels
//
// The enlarged logits are by far the largest tensor of a training step: K values for each pixel of the image. Here a row of
// them exists at a time, in cache; backward makes it again. Whatever weighs or chooses pixels (class weights, mining, focal
// loss) is made of the losses of the pixels, [N, H, W], by operators of libtorch.
//
// That is for float32 on the CPU, and logits in fewer bits become float32 first. Everything else runs as the operators of
// libtorch that it is made of.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "operators.h"
#include "upsampled-softmax.h"

namespace pixelwise {
namespace {

at::Tensor composed(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners, double smoothing) {
  const at::Tensor enlarged = at::upsample_bilinear2d(logits, {target.size(1), target.size(2)}, align_corners);
  return at::cross_entropy_loss(enlarged, target, {}, at::Reduction::None, ignore_index, smoothing);
}

#if HAS_VECTORS

// --- loops over the pixels of a row ---------------------------------------------------------------------------------------

// How the truth is spread: `own` to the pixel's class, and `every` to each class.
struct Spread {
  Spread(int64_t classes, double smoothing) : own(static_cast<float>(1 - smoothing)), every(static_cast<float>(smoothing / static_cast<double>(classes))) {}

  const float own, every;
};

// Of each pixel that is not ignored: the sum of exponentials, and what the largest logit has above those of the truth.
FOR_EACH_PROCESSOR void losses_of_row(const Row& row, const int64_t* label, int64_t ignore_index, Spread truth, float* sum, float* rest, float* scratch) {
  for (int64_t x = 0; x < row.width; ++x) {
    sum[x] = 1;
    rest[x] = 0;
    if (label[x] == ignore_index) continue;
    float largest;
    exponentiate(row, x, scratch, largest, sum[x]);
    rest[x] = largest - truth.own * row.logits(x, label[x] / 8)[label[x] % 8];
    if (truth.every == 0) continue;
    float all = 0;
    for (int64_t e = 0; e < row.eights; ++e) {
      const Eight v = row.logits(x, e);
      all += sum_of(v > 0.5f * kNoClass ? v : Eight{});
    }
    rest[x] -= truth.every * all;
  }
}

// Adds dy (softmax - truth) of each pixel.
FOR_EACH_PROCESSOR void gradients_of_row(const Row& row, const int64_t* label, int64_t ignore_index, Spread truth, const float* dy, float* to, float* scratch) {
  for (int64_t x = 0; x < row.width; ++x) {
    if (label[x] == ignore_index) continue;
    float largest, sum;
    exponentiate(row, x, scratch, largest, sum);
    const float factor = dy[x] / sum, own = dy[x] * truth.own, every = dy[x] * truth.every;
    for (int64_t e = 0; e < row.eights; ++e) {
      // The class by comparison: a number written into eight would make the processor wait before it reads the eight.
      const Eight is_class = is_lane(label[x] - 8 * e) ? Eight{} + own : Eight{};
      add_gradient(row, x, e, load(scratch + 8 * e) * factor - is_class - every, to);
    }
  }
}

// --- the operator ---------------------------------------------------------------------------------------------------------

struct UpsampledCrossEntropy : torch::autograd::Function<UpsampledCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                            bool align_corners, double smoothing) {
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const Spread truth(of.classes, smoothing);
    const at::Tensor labels = target.contiguous();
    const at::Tensor sums = at::empty(target.sizes(), logits.options(), at::MemoryFormat::Contiguous), rest = at::empty_like(sums);
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    float *sums_data = sums.data_ptr<float>(), *rest_data = rest.data_ptr<float>();
    for_each_row(of, 8 * of.eights, [&](const Row& row, int64_t k, float* scratch) {
      const int64_t* label = labels_data + k * of.width;
      check_labels("upsampled_cross_entropy", label, of.width, of.classes, ignore_index);
      losses_of_row(row, label, ignore_index, truth, sums_data + k * of.width, rest_data + k * of.width, scratch);
    });
    context->save_for_backward({logits, target});
    context->saved_data["ignore_index"] = ignore_index;
    context->saved_data["align_corners"] = align_corners;
    context->saved_data["smoothing"] = smoothing;
    return sums.log_().add_(rest);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &logits = saved[0], &target = saved[1], none;
    const int64_t ignore_index = context->saved_data["ignore_index"].toInt();
    const bool align_corners = context->saved_data["align_corners"].toBool();
    const double smoothing = context->saved_data["smoothing"].toDouble();
    if (at::GradMode::is_enabled()) return differentiable_gradients(composed(logits, target, ignore_index, align_corners, smoothing), gradients[0], {logits}, 5);
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const Spread truth(of.classes, smoothing);
    const at::Tensor labels = target.contiguous(), dy = gradients[0].contiguous();
    const float* dy_data = dy.data_ptr<float>();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    const at::Tensor dx = gradient_of_rows(of, logits, [&](const Row& row, int64_t k, float* to, float* scratch) {
      gradients_of_row(row, labels_data + k * of.width, ignore_index, truth, dy_data + k * of.width, to, scratch);
    });
    return {dx, none, none, none, none};
  }
};

#endif

at::Tensor upsampled_cross_entropy(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners, double smoothing) {
  check_sizes("upsampled_cross_entropy", logits, target);
  TORCH_CHECK(smoothing >= 0 && smoothing <= 1, "upsampled_cross_entropy: smoothing is a share, got ", smoothing);
  // Losses are differences of logarithms: 8 bits are too few for them.
  if (logits.scalar_type() == at::kBFloat16 || logits.scalar_type() == at::kHalf)
    return upsampled_cross_entropy(logits.to(at::kFloat), target, ignore_index, align_corners, smoothing);
#if HAS_VECTORS
  if (can_enlarge(logits, target)) return UpsampledCrossEntropy::apply(logits, target, ignore_index, align_corners, smoothing);
#endif
  return composed(logits, target, ignore_index, align_corners, smoothing);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("upsampled_cross_entropy(Tensor logits, Tensor target, int ignore_index, bool align_corners, float smoothing=0) -> Tensor",
              upsampled_cross_entropy);
}

}  // namespace
}  // namespace pixelwise
