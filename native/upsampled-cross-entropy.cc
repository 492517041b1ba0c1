// pixelwise::upsampled_cross_entropy: bilinear enlargement of the logits and the cross-entropy of each pixel, as one operator.
//
//   loss[n, y, x] = log(sum_k exp(v_k)) - v_t,  v = the logits enlarged to the size of the labels, t = label at n, y, x
//
// The enlarged logits are by far the largest tensor of a training step: K values for each pixel of the image. Here a row of
// them exists at a time, in cache; backward makes it again. Whatever weighs or chooses pixels (class weights, mining, focal
// loss) is made of the losses of the pixels, [N, H, W], by operators of libtorch.
//
// That is for float32 on the CPU. Everything else runs as the operators of libtorch that it is made of.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "processors.h"

namespace pixelwise {
namespace {

// --- where an enlarged pixel comes from -----------------------------------------------------------------------------------

// One axis, as upsample_bilinear2d with align_corners=false: pixel X lies at s = max(0, (X + 0.5) small / large - 0.5), between
// first[X] = floor(s) and second[X], with weight[X] for the second.
struct Axis {
  std::vector<int32_t> first, second;
  std::vector<float> weight;

  Axis(int64_t small, int64_t large) : first(large), second(large), weight(large) {
    const float scale = static_cast<float>(small) / static_cast<float>(large);
    for (int64_t x = 0; x < large; ++x) {
      const float s = std::max(0.0f, scale * (static_cast<float>(x) + 0.5f) - 0.5f);
      first[x] = static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(s), small - 1));
      second[x] = first[x] + (first[x] < small - 1 ? 1 : 0);
      weight[x] = s - static_cast<float>(first[x]);
    }
  }
};

// --- loops over the pixels of a row ---------------------------------------------------------------------------------------

// exp(x) for x <= 0, to 2 units in the last place: e^x = 2^n e^r with |r| <= ln(2) / 2. Unlike std::exp it becomes vector
// instructions. The polynomial is that of Moshier's Cephes library, expf.c.
INLINED float exp_of(float x) {
  const float bounded = x < -87.0f ? -87.0f : x;
  const float n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the nearest whole number
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  const float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return e * power;
}

// out[j] = upper[j] + (lower[j] - upper[j]) down
FOR_EACH_PROCESSOR void between_rows(const float* RESTRICT upper, const float* RESTRICT lower, float down, float* RESTRICT out, int64_t count) {
  for (int64_t j = 0; j < count; ++j) out[j] = (1.0f - down) * upper[j] + down * lower[j];
}

// One class of a row of pixels; `largest` keeps the largest class so far.
FOR_EACH_PROCESSOR void enlarge(const float* RESTRICT row, const int32_t* RESTRICT first, const int32_t* RESTRICT second, const float* RESTRICT weight,
                                float* RESTRICT out, float* RESTRICT largest, int64_t width) {
  for (int64_t x = 0; x < width; ++x) {
    const float v = (1.0f - weight[x]) * row[first[x]] + weight[x] * row[second[x]];
    out[x] = v;
    largest[x] = v > largest[x] ? v : largest[x];
  }
}

// values = exp(values - largest), and their sum
FOR_EACH_PROCESSOR void exponentiate(float* RESTRICT values, const float* RESTRICT largest, float* RESTRICT sum, int64_t width) {
  for (int64_t x = 0; x < width; ++x) {
    const float e = exp_of(values[x] - largest[x]);
    values[x] = e;
    sum[x] += e;
  }
}

FOR_EACH_PROCESSOR void multiply(float* RESTRICT values, const float* RESTRICT factor, int64_t width) {
  for (int64_t x = 0; x < width; ++x) values[x] *= factor[x];
}

FOR_EACH_PROCESSOR void add_scaled(float* RESTRICT to, const float* RESTRICT from, float factor, int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] += factor * from[j];
}

// The transpose of `enlarge`: neighbours come from the same two values, whose sums stay in registers meanwhile.
void reduce(const float* values, const Axis& axis, float* row, int64_t width) {
  for (int64_t x = 0; x < width;) {
    const int32_t first = axis.first[x], second = axis.second[x];
    float left = 0, right = 0;
    for (; x < width && axis.first[x] == first; ++x) {
      left += (1.0f - axis.weight[x]) * values[x];
      right += axis.weight[x] * values[x];
    }
    row[first] += left;
    row[second] += right;
  }
}

// --- the operator ---------------------------------------------------------------------------------------------------------

struct Sizes {
  Sizes(const at::Tensor& logits, const at::Tensor& target)
      : images(logits.size(0)), classes(logits.size(1)), rows(logits.size(2)), columns(logits.size(3)), height(target.size(1)), width(target.size(2)) {}

  const int64_t images, classes, rows, columns, height, width;
  int64_t planes() const { return classes * rows * columns; }
};

// The classes of one row of pixels after another, enlarged.
class Row {
 public:
  Row(const Sizes& sizes, const Axis& down, const Axis& right)
      : largest(sizes.width), sum(sizes.width), sizes_(sizes), down_(down), right_(right), values_(sizes.classes * sizes.width), between_(sizes.columns) {}

  std::vector<float> largest, sum;

  float* of_class(int64_t k) { return &values_[k * sizes_.width]; }

  // @param logits [K, h, w] of one image
  void enlarge_row(const float* logits, int64_t y) {
    std::fill(largest.begin(), largest.end(), -std::numeric_limits<float>::infinity());
    for (int64_t k = 0; k < sizes_.classes; ++k) {
      const float* plane = logits + k * sizes_.rows * sizes_.columns;
      between_rows(plane + down_.first[y] * sizes_.columns, plane + down_.second[y] * sizes_.columns, down_.weight[y], between_.data(), sizes_.columns);
      enlarge(between_.data(), right_.first.data(), right_.second.data(), right_.weight.data(), of_class(k), largest.data(), sizes_.width);
    }
  }

  // Of each class exp(v - largest), and the sum of these.
  void exponentiate_row() {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (int64_t k = 0; k < sizes_.classes; ++k) exponentiate(of_class(k), largest.data(), sum.data(), sizes_.width);
  }

 private:
  const Sizes sizes_;
  const Axis &down_, &right_;
  std::vector<float> values_, between_;  // [K, W], [w]
};

at::Tensor composed(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index) {
  const at::Tensor enlarged = at::upsample_bilinear2d(logits, {target.size(1), target.size(2)}, /*align_corners=*/false);
  return at::cross_entropy_loss(enlarged, target, {}, at::Reduction::None, ignore_index);
}

struct UpsampledCrossEntropy : torch::autograd::Function<UpsampledCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index) {
    const Sizes of(logits, target);
    const Axis down(of.rows, of.height), right(of.columns, of.width);
    const at::Tensor from = logits.contiguous(), labels = target.contiguous();
    const at::Tensor sums = at::empty(target.sizes(), logits.options(), at::MemoryFormat::Contiguous), rest = at::zeros_like(sums);
    const float* from_data = from.data_ptr<float>();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    float *sums_data = sums.data_ptr<float>(), *rest_data = rest.data_ptr<float>();
    at::parallel_for(0, of.images * of.height, 1, [&](int64_t first, int64_t end) {
      Row row(of, down, right);
      for (int64_t k = first; k < end; ++k) {
        row.enlarge_row(from_data + k / of.height * of.planes(), k % of.height);
        const int64_t* label = labels_data + k * of.width;
        float *its_sum = sums_data + k * of.width, *its_rest = rest_data + k * of.width;
        for (int64_t x = 0; x < of.width; ++x) {
          if (label[x] == ignore_index) continue;
          TORCH_CHECK(label[x] >= 0 && label[x] < of.classes, "upsampled_cross_entropy: target has label ", label[x]);
          its_rest[x] = row.largest[x] - row.of_class(label[x])[x];
        }
        row.exponentiate_row();
        for (int64_t x = 0; x < of.width; ++x) its_sum[x] = label[x] == ignore_index ? 1.0f : row.sum[x];
      }
    });
    context->save_for_backward({logits, target});
    context->saved_data["ignore_index"] = ignore_index;
    return sums.log_().add_(rest);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &logits = saved[0], &target = saved[1], none;
    const int64_t ignore_index = context->saved_data["ignore_index"].toInt();
    if (at::GradMode::is_enabled()) {  // with createGraph: by operators that have a derivative themselves
      const auto made = torch::autograd::grad({composed(logits, target, ignore_index)}, {logits}, {gradients[0]}, true, true);
      return {made[0], none, none};
    }
    const Sizes of(logits, target);
    const Axis down(of.rows, of.height), right(of.columns, of.width);
    const at::Tensor from = logits.contiguous(), labels = target.contiguous(), dy = gradients[0].contiguous();
    // Bands of rows, each with sums of its own: one for each thread, where there are fewer images than threads.
    const int64_t bands = std::min<int64_t>(of.height, (at::get_num_threads() + of.images - 1) / of.images);
    const at::Tensor parts = at::zeros({of.images, bands, of.classes, of.rows, of.columns}, logits.options());
    const float *from_data = from.data_ptr<float>(), *dy_data = dy.data_ptr<float>();
    const int64_t* labels_data = labels.data_ptr<int64_t>();
    float* parts_data = parts.data_ptr<float>();
    at::parallel_for(0, of.images * bands, 1, [&](int64_t first, int64_t end) {
      Row row(of, down, right);
      std::vector<float> factor(of.width), reduced(of.columns);
      for (int64_t part = first; part < end; ++part) {
        const int64_t image = part / bands, band = part % bands;
        float* to = parts_data + part * of.planes();
        for (int64_t y = of.height * band / bands; y < of.height * (band + 1) / bands; ++y) {
          const int64_t at = (image * of.height + y) * of.width;
          const int64_t* label = labels_data + at;
          row.enlarge_row(from_data + image * of.planes(), y);
          row.exponentiate_row();
          for (int64_t x = 0; x < of.width; ++x) factor[x] = label[x] == ignore_index ? 0.0f : dy_data[at + x] / row.sum[x];
          for (int64_t k = 0; k < of.classes; ++k) multiply(row.of_class(k), factor.data(), of.width);  // dy softmax(v)
          for (int64_t x = 0; x < of.width; ++x)
            if (label[x] != ignore_index) row.of_class(label[x])[x] -= dy_data[at + x];
          for (int64_t k = 0; k < of.classes; ++k) {
            std::fill(reduced.begin(), reduced.end(), 0.0f);
            reduce(row.of_class(k), right, reduced.data(), of.width);
            float* plane = to + k * of.rows * of.columns;
            add_scaled(plane + down.first[y] * of.columns, reduced.data(), 1.0f - down.weight[y], of.columns);
            add_scaled(plane + down.second[y] * of.columns, reduced.data(), down.weight[y], of.columns);
          }
        }
      }
    });
    return {parts.sum(1), none, none};
  }
};

at::Tensor upsampled_cross_entropy(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index) {
  TORCH_CHECK(logits.dim() == 4 && target.dim() == 3 && logits.size(0) == target.size(0) && target.scalar_type() == at::kLong,
              "upsampled_cross_entropy: expected logits [N, K, h, w] and int64 target [N, H, W], got ", logits.sizes(), " and ", target.scalar_type(), " ",
              target.sizes());
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const bool is_ours = logits.is_cpu() && target.is_cpu() && logits.scalar_type() == at::kFloat && logits.numel() > 0 && target.numel() > 0 &&
                       logits.size(3) < most && target.size(1) < most && target.size(2) < most;
  return is_ours ? UpsampledCrossEntropy::apply(logits, target, ignore_index) : composed(logits, target, ignore_index);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("upsampled_cross_entropy(Tensor logits, Tensor target, int ignore_index) -> Tensor", upsampled_cross_entropy);
}

}  // namespace
}  // namespace pixelwise
