// pixelwise::upsampled_argmax: bilinear enlargement of the logits and the class with the largest at each pixel, as one operator.
//
// Evaluation wants the labels alone; the enlarged logits are K values for each pixel of the image. And most of them need not be
// computed at all: an enlarged pixel lies between four low ones, as a mean of them with shares that add up to 1, so that a
// class that is largest at all four is largest at the pixel too, in exact numbers and in rounded ones.
//
// That is for float32 on the CPU. Everything else runs as the operators of libtorch that it is made of.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "enlargement.h"
#include "processors.h"

namespace pixelwise {
namespace {

// max takes a third of argmax's time, and gives the first of equals too.
at::Tensor composed(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners) {
  const bool is_large = logits.size(2) == height && logits.size(3) == width;
  const at::Tensor enlarged = is_large ? logits : at::upsample_bilinear2d(logits, {height, width}, align_corners);
  return std::get<1>(enlarged.max(1)).to(at::kByte);
}

#if HAS_VECTORS

constexpr float kNoClass = -1e30f;

// Label of a low pixel some of whose logits are no numbers, infinite or below what fills the eights.
constexpr int32_t kOdd = -1;

// The class of a pixel, value by value. A NaN counts as larger than all numbers; of equals it is the first.
template <typename Logit>
INLINED int32_t plain_argmax(int64_t classes, const Logit& logit) {
  int32_t label = 0;
  float most = logit(0);
  for (int64_t c = 1; c < classes; ++c) {
    const float v = logit(c);
    if (!(v > most || (std::isnan(v) && !std::isnan(most)))) continue;
    most = v;
    label = static_cast<int32_t>(c);
  }
  return label;
}

FOR_EACH_PROCESSOR void labels_of_low(const float* logits, int64_t pixels, int64_t classes, int64_t eights, int32_t* label) {
  for (int64_t p = 0; p < pixels; ++p, logits += 8 * eights) {
    bool is_plain = true;
    for (int64_t c = 0; c < classes; ++c) is_plain &= logits[c] > kNoClass && logits[c] <= std::numeric_limits<float>::max();
    label[p] = is_plain ? plain_argmax(classes, [&](int64_t c) { return logits[c]; }) : kOdd;
  }
}

// Of a pixel between plain ones.
INLINED int32_t argmax(const Row& row, int64_t x) {
  const EightWhole lanes{0, 1, 2, 3, 4, 5, 6, 7};
  Eight most = row.logits(x, 0);
  EightWhole classes = lanes;
  for (int64_t e = 1; e < row.eights; ++e) {
    const Eight v = row.logits(x, e);
    const EightWhole is_more = v > most;
    most = is_more ? v : most;
    classes = is_more ? lanes + static_cast<int32_t>(8 * e) : classes;
  }
  const EightWhole is_largest = most == Eight{} + largest_of(most);
  int32_t label = std::numeric_limits<int32_t>::max();
  for (int k = 0; k < 8; ++k)
    if (is_largest[k]) label = std::min(label, classes[k]);
  return label;
}

// `upper` and `lower`: the labels of the two low rows that the row lies between.
FOR_EACH_PROCESSOR void labels_of_row(const Row& row, const int32_t* upper, const int32_t* lower, int64_t classes, uint8_t* out) {
  for (int64_t x = 0; x < row.width; ++x) {
    const int32_t first = row.first[x], second = row.second[x];
    const int32_t a = upper[first], b = upper[second], c = lower[first], d = lower[second];
    int32_t label = a;
    if (a == kOdd || b == kOdd || c == kOdd || d == kOdd) {
      label = plain_argmax(classes, [&](int64_t k) { return row.logits(x, k / 8)[k % 8]; });
    } else if (a != b || a != c || a != d) {
      label = argmax(row, x);
    }
    out[x] = static_cast<uint8_t>(label);
  }
}

at::Tensor by_rows(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners) {
  const Enlargement of(logits, height, width, align_corners, kNoClass);
  const int64_t low_width = logits.size(3);
  std::vector<int32_t> low(of.images * of.low_height * low_width);
  at::parallel_for(0, of.images * of.low_height, 1, [&](int64_t first, int64_t end) {
    labels_of_low(of.low(0) + first * of.low_row, (end - first) * low_width, of.classes, of.eights, low.data() + first * low_width);
  });
  const at::Tensor labels = at::empty({of.images, height, width}, logits.options().dtype(at::kByte), at::MemoryFormat::Contiguous);
  uint8_t* to = labels.data_ptr<uint8_t>();
  at::parallel_for(0, of.images * height, 1, [&](int64_t first, int64_t end) {
    std::vector<float> between(of.low_row);
    for (int64_t k = first; k < end; ++k) {
      const int64_t image = k / height, y = k % height;
      const int32_t* its = low.data() + image * of.low_height * low_width;
      labels_of_row(of.row(image, y, between), its + of.down.first[y] * low_width, its + of.down.second[y] * low_width, of.classes, to + k * width);
    }
  });
  return labels;
}

#endif

at::Tensor upsampled_argmax(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners) {
  TORCH_CHECK(logits.dim() == 4 && logits.size(1) >= 1 && logits.size(1) <= 256,
              "upsampled_argmax: expected logits [N, K, h, w] with K of 1 to 256 classes, got ", logits.sizes());
  TORCH_CHECK(height >= 1 && width >= 1, "upsampled_argmax: expected a size of at least one pixel, got ", height, " x ", width);
  const at::NoGradGuard no_history;
#if HAS_VECTORS
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const bool is_large = logits.size(2) == height && logits.size(3) == width;
  const bool is_ours = logits.is_cpu() && logits.scalar_type() == at::kFloat && logits.numel() > 0 && logits.size(3) < most && height < most && width < most;
  if (is_ours && !is_large) return by_rows(logits, height, width, align_corners);
#endif
  return composed(logits, height, width, align_corners);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("upsampled_argmax(Tensor logits, int height, int width, bool align_corners) -> Tensor", upsampled_argmax);
}

}  // namespace
}  // namespace pixelwise
