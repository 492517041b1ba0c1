// The softmax of logits that are enlarged in passing, and the way back from its gradient: what losses of enlarged logits are made of.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "enlargement.h"
#include "processors.h"

namespace pixelwise {

inline void check_sizes(const char* name, const at::Tensor& logits, const at::Tensor& target) {
  TORCH_CHECK(logits.dim() == 4 && target.dim() == 3 && logits.size(0) == target.size(0) && target.scalar_type() == at::kLong, name,
              ": expected logits [N, K, h, w] and int64 target [N, H, W], got ", logits.sizes(), " and ", target.scalar_type(), " ", target.sizes());
}

#if HAS_VECTORS

// Fills the classes up to whole eights: has no share in any softmax.
constexpr float kNoClass = -1e30f;

INLINED EightWhole is_lane(int64_t lane) {
  const EightWhole lanes{0, 1, 2, 3, 4, 5, 6, 7};
  return lanes == static_cast<int32_t>(lane);
}

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

// Adds the gradient of an eight of pixel x's logits to those of the two low pixels that it lies between, `to` [w, 8 eights]. Neighbours
// lie between the same two, whose sums stay in cache.
INLINED void add_gradient(const Row& row, int64_t x, int64_t e, Eight gradient, float* to) {
  float *first = to + 8 * (row.first[x] * row.eights + e), *second = to + 8 * (row.second[x] * row.eights + e);
  store(first, load(first) + (1.0f - row.weight[x]) * gradient);
  store(second, load(second) + row.weight[x] * gradient);
}

FOR_EACH_PROCESSOR static void add_scaled(float* RESTRICT to, const float* RESTRICT from, float factor, int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] += factor * from[j];
}

// Calls body(row, k, scratch) for each row of pixels k = image height + y; `scratch` has `size` numbers. In several threads.
template <typename Body>
void for_each_row(const Enlargement& of, int64_t size, const Body& body) {
  at::parallel_for(0, of.images * of.height, 1, [&](int64_t first, int64_t end) {
    std::vector<float> between(of.low_row), scratch(size);
    for (int64_t k = first; k < end; ++k) body(of.row(k / of.height, k % of.height, between), k, scratch.data());
  });
}

// The gradient of the logits, [N, K, h, w]: body(row, k, to, scratch) adds that of a row's pixels to `to`, see add_gradient.
template <typename Body>
at::Tensor gradient_of_rows(const Enlargement& of, const at::Tensor& logits, const Body& body) {
  // Bands of rows, each with sums of its own: one for each thread, where there are fewer images than threads.
  const int64_t bands = std::min<int64_t>(of.height, (at::get_num_threads() + of.images - 1) / of.images);
  const at::Tensor parts = at::zeros({of.images, bands, of.low_height, logits.size(3), 8 * of.eights}, logits.options());
  float* parts_data = parts.data_ptr<float>();
  at::parallel_for(0, of.images * bands, 1, [&](int64_t first, int64_t end) {
    std::vector<float> between(of.low_row), scratch(8 * of.eights), gradient(of.low_row);
    for (int64_t part = first; part < end; ++part) {
      const int64_t image = part / bands, band = part % bands;
      float* to = parts_data + part * of.low_height * of.low_row;
      for (int64_t y = of.height * band / bands; y < of.height * (band + 1) / bands; ++y) {
        std::fill(gradient.begin(), gradient.end(), 0.0f);
        body(of.row(image, y, between), image * of.height + y, gradient.data(), scratch.data());
        add_scaled(to + of.down.first[y] * of.low_row, gradient.data(), 1.0f - of.down.weight[y], of.low_row);
        add_scaled(to + of.down.second[y] * of.low_row, gradient.data(), of.down.weight[y], of.low_row);
      }
    }
  });
  return parts.sum(1).narrow(3, 0, of.classes).permute({0, 3, 1, 2});
}

inline void check_labels(const char* name, const int64_t* label, int64_t count, int64_t classes, int64_t ignore_index) {
  for (int64_t x = 0; x < count; ++x)
    TORCH_CHECK(label[x] == ignore_index || (label[x] >= 0 && label[x] < classes), name, ": target has label ", label[x]);
}

// Whether these can be enlarged in passing.
inline bool can_enlarge(const at::Tensor& logits, const at::Tensor& target) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  return logits.is_cpu() && target.is_cpu() && logits.scalar_type() == at::kFloat && logits.numel() > 0 && target.numel() > 0 &&
         logits.size(3) < most && target.size(1) < most && target.size(2) < most;
}

#endif

}  // namespace pixelwise
