// pixelwise::upsampled_cross_entropy: bilinear enlargement of the logits and the cross-entropy of each pixel, as one operator.
//
//   loss[n, y, x] = log(sum_k exp(v_k)) - v_t,  v = the logits enlarged to the size of the labels, t = label at n, y, x
//
// The enlarged logits are by far the largest tensor of a training step: K values for each pixel of the image. Here a row of
// them exists at a time, in cache; backward makes it again. Whatever weighs or chooses pixels (class weights, mining, focal
// loss) is made of the losses of the pixels, [N, H, W], by operators of libtorch.
//
// That is for float32 on the CPU, and logits in fewer bits become float32 first. Everything else runs as the operators of
// libtorch that it is made of.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "enlargement.h"
#include "processors.h"

namespace pixelwise {
namespace {

at::Tensor composed(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners) {
  const at::Tensor enlarged = at::upsample_bilinear2d(logits, {target.size(1), target.size(2)}, align_corners);
  return at::cross_entropy_loss(enlarged, target, {}, at::Reduction::None, ignore_index);
}

#if HAS_VECTORS

// --- loops over the pixels of a row ---------------------------------------------------------------------------------------

// Fills the classes up to whole eights: has no share in any softmax.
constexpr float kNoClass = -1e30f;

// The exponentials of a pixel's logits, above the largest of them; the largest, and their sum.
INLINED void exponentiate(const Row& row, int64_t x, float* exponentials, float& largest, float& sum) {
  Eight most = row.logits(x, 0);
  store(exponentials, most);
  for (int64_t e = 1; e < row.eights; ++e) {
    const Eight v = row.logits(x, e);
    store(exponentials + 8 * e, v);
    most = v > most ? v : most;
  }
  largest = largest_of(most);
  Eight total{};
  for (int64_t e = 0; e < row.eights; ++e) {
    const Eight v = exp_of(load(exponentials + 8 * e) - largest);
    store(exponentials + 8 * e, v);
    total += v;
  }
  sum = sum_of(total);
}

// Of each pixel that is not ignored: the sum, and what its own class lacks of the largest logit. `scratch` has 8 eights.
FOR_EACH_PROCESSOR void losses_of_row(const Row& row, const int64_t* label, int64_t ignore_index, float* sum, float* rest, float* scratch) {
  for (int64_t x = 0; x < row.width; ++x) {
    sum[x] = 1;
    rest[x] = 0;
    if (label[x] == ignore_index) continue;
    float largest;
    exponentiate(row, x, scratch, largest, sum[x]);
    rest[x] = largest - row.logits(x, label[x] / 8)[label[x] % 8];
  }
}

// Adds dy (softmax - one-hot) of each pixel to the two low pixels that it lies between, `to` [w, 8 eights]. Neighbours lie
// between the same two, whose sums stay in cache.
FOR_EACH_PROCESSOR void gradients_of_row(const Row& row, const int64_t* label, int64_t ignore_index, const float* dy, float* to, float* scratch) {
  const EightWhole lanes{0, 1, 2, 3, 4, 5, 6, 7};
  for (int64_t x = 0; x < row.width; ++x) {
    if (label[x] == ignore_index) continue;
    float largest, sum;
    exponentiate(row, x, scratch, largest, sum);
    const float factor = dy[x] / sum, left = 1.0f - row.weight[x], right = row.weight[x];
    float *first = to + 8 * row.first[x] * row.eights, *second = to + 8 * row.second[x] * row.eights;
    for (int64_t e = 0; e < row.eights; ++e) {
      // The class by comparison: a number written into eight would make the processor wait before it reads the eight.
      const EightWhole is_class = lanes == static_cast<int32_t>(label[x] - 8 * e);
      const Eight gradient = load(scratch + 8 * e) * factor - (is_class ? Eight{} + dy[x] : Eight{});
      store(first + 8 * e, load(first + 8 * e) + left * gradient);
      store(second + 8 * e, load(second + 8 * e) + right * gradient);
    }
  }
}

FOR_EACH_PROCESSOR void add_scaled(float* RESTRICT to, const float* RESTRICT from, float factor, int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] += factor * from[j];
}

// --- the operator ---------------------------------------------------------------------------------------------------------

struct UpsampledCrossEntropy : torch::autograd::Function<UpsampledCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                            bool align_corners) {
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const at::Tensor labels = target.contiguous();
    const at::Tensor sums = at::empty(target.sizes(), logits.options(), at::MemoryFormat::Contiguous), rest = at::empty_like(sums);
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    float *sums_data = sums.data_ptr<float>(), *rest_data = rest.data_ptr<float>();
    at::parallel_for(0, of.images * of.height, 1, [&](int64_t first, int64_t end) {
      std::vector<float> between(of.low_row), scratch(8 * of.eights);
      for (int64_t k = first; k < end; ++k) {
        const int64_t* label = labels_data + k * of.width;
        for (int64_t x = 0; x < of.width; ++x)
          TORCH_CHECK(label[x] == ignore_index || (label[x] >= 0 && label[x] < of.classes), "upsampled_cross_entropy: target has label ", label[x]);
        const Row row = of.row(k / of.height, k % of.height, between);
        losses_of_row(row, label, ignore_index, sums_data + k * of.width, rest_data + k * of.width, scratch.data());
      }
    });
    context->save_for_backward({logits, target});
    context->saved_data["ignore_index"] = ignore_index;
    context->saved_data["align_corners"] = align_corners;
    return sums.log_().add_(rest);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &logits = saved[0], &target = saved[1], none;
    const int64_t ignore_index = context->saved_data["ignore_index"].toInt();
    const bool align_corners = context->saved_data["align_corners"].toBool();
    if (at::GradMode::is_enabled()) {  // with createGraph: by operators that have a derivative themselves
      const auto made = torch::autograd::grad({composed(logits, target, ignore_index, align_corners)}, {logits}, {gradients[0]}, true, true);
      return {made[0], none, none, none};
    }
    const Enlargement of(logits, target.size(1), target.size(2), align_corners, kNoClass);
    const at::Tensor labels = target.contiguous(), dy = gradients[0].contiguous();
    // Bands of rows, each with sums of its own: one for each thread, where there are fewer images than threads.
    const int64_t bands = std::min<int64_t>(of.height, (at::get_num_threads() + of.images - 1) / of.images);
    const at::Tensor parts = at::zeros({of.images, bands, of.low_height, logits.size(3), 8 * of.eights}, logits.options());
    const float* dy_data = dy.data_ptr<float>();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    float* parts_data = parts.data_ptr<float>();
    at::parallel_for(0, of.images * bands, 1, [&](int64_t first, int64_t end) {
      std::vector<float> between(of.low_row), scratch(8 * of.eights), gradient(of.low_row);
      for (int64_t part = first; part < end; ++part) {
        const int64_t image = part / bands, band = part % bands;
        float* to = parts_data + part * of.low_height * of.low_row;
        for (int64_t y = of.height * band / bands; y < of.height * (band + 1) / bands; ++y) {
          const int64_t at = (image * of.height + y) * of.width;
          std::fill(gradient.begin(), gradient.end(), 0.0f);
          gradients_of_row(of.row(image, y, between), labels_data + at, ignore_index, dy_data + at, gradient.data(), scratch.data());
          add_scaled(to + of.down.first[y] * of.low_row, gradient.data(), 1.0f - of.down.weight[y], of.low_row);
          add_scaled(to + of.down.second[y] * of.low_row, gradient.data(), of.down.weight[y], of.low_row);
        }
      }
    });
    return {parts.sum(1).narrow(3, 0, of.classes).permute({0, 3, 1, 2}), none, none, none};
  }
};

#endif

at::Tensor upsampled_cross_entropy(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index, bool align_corners) {
  TORCH_CHECK(logits.dim() == 4 && target.dim() == 3 && logits.size(0) == target.size(0) && target.scalar_type() == at::kLong,
              "upsampled_cross_entropy: expected logits [N, K, h, w] and int64 target [N, H, W], got ", logits.sizes(), " and ", target.scalar_type(), " ",
              target.sizes());
  // Losses are differences of logarithms: 8 bits are too few for them.
  if (logits.scalar_type() == at::kBFloat16 || logits.scalar_type() == at::kHalf)
    return upsampled_cross_entropy(logits.to(at::kFloat), target, ignore_index, align_corners);
#if HAS_VECTORS
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const bool is_ours = logits.is_cpu() && target.is_cpu() && logits.scalar_type() == at::kFloat && logits.numel() > 0 && target.numel() > 0 &&
                       logits.size(3) < most && target.size(1) < most && target.size(2) < most;
  if (is_ours) return UpsampledCrossEntropy::apply(logits, target, ignore_index, align_corners);
#endif
  return composed(logits, target, ignore_index, align_corners);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("upsampled_cross_entropy(Tensor logits, Tensor target, int ignore_index, bool align_corners) -> Tensor", upsampled_cross_entropy);
}

}  // namespace
}  // namespace pixelwise
