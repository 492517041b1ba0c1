// Logits that are enlarged bilinearly, a row of pixels at a time: the enlarged ones never exist as a whole. The classes of a pixel
// stand side by side, filled up to whole eights.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "processors.h"

#if HAS_VECTORS

namespace pixelwise {

// One axis, as in upsample_bilinear2d: pixel X lies at s = max(0, (X + 0.5) small / large - 0.5), with align_corners at
// s = X (small - 1) / (large - 1), between first[X] = floor(s) and second[X], with weight[X] for the second.
struct Axis {
  std::vector<int32_t> first, second;
  std::vector<float> weight;

  Axis(int64_t small, int64_t large, bool align_corners) : first(large), second(large), weight(large) {
    const int64_t corners = align_corners ? 1 : 0;
    const float scale = large > corners ? static_cast<float>(small - corners) / static_cast<float>(large - corners) : 0.0f;
    const float half = align_corners ? 0.0f : 0.5f;
    for (int64_t x = 0; x < large; ++x) {
      const float s = std::max(0.0f, scale * (static_cast<float>(x) + half) - half);
      first[x] = static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(s), small - 1));
      second[x] = first[x] + (first[x] < small - 1 ? 1 : 0);
      weight[x] = s - static_cast<float>(first[x]);
    }
  }
};

// What a row of pixels is made of: the low row of pixels that it lies in, [w, 8 eights], and where in it each pixel lies.
struct Row {
  const float* between;
  const int32_t *first, *second;
  const float* weight;
  int64_t width, eights;

  inline __attribute__((always_inline)) Eight logits(int64_t x, int64_t e) const {
    return (1.0f - weight[x]) * load(between + 8 * (first[x] * eights + e)) + weight[x] * load(between + 8 * (second[x] * eights + e));
  }
};

FOR_EACH_PROCESSOR static void between_rows(const float* RESTRICT upper, const float* RESTRICT lower, float down, float* RESTRICT out, int64_t count) {
  for (int64_t j = 0; j < count; ++j) out[j] = (1.0f - down) * upper[j] + down * lower[j];
}

// The logits, [N, h, w, 8 eights], and how they become rows of pixels.
class Enlargement {
 public:
  // `filling` is the logit of the classes that fill the last eight.
  Enlargement(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners, float filling)
      : images(logits.size(0)),
        classes(logits.size(1)),
        eights((classes + 7) / 8),
        height(height),
        width(width),
        low_height(logits.size(2)),
        low_row(logits.size(3) * eights * 8),
        down(logits.size(2), height, align_corners),
        right(logits.size(3), width, align_corners),
        logits_(at::constant_pad_nd(logits.permute({0, 2, 3, 1}), {0, 8 * eights - classes}, filling).contiguous()) {}

  const int64_t images, classes, eights, height, width, low_height, low_row;
  const Axis down, right;

  // Row y of an image; `between` [w, 8 eights] is its memory.
  Row row(int64_t image, int64_t y, std::vector<float>& between) const {
    between_rows(low(image) + down.first[y] * low_row, low(image) + down.second[y] * low_row, down.weight[y], between.data(), low_row);
    return {between.data(), right.first.data(), right.second.data(), right.weight.data(), width, eights};
  }

  // The low pixels of an image, [h, w, 8 eights].
  const float* low(int64_t image) const { return logits_.data_ptr<float>() + image * low_height * low_row; }

 private:
  const at::Tensor logits_;
};

}  // namespace pixelwise

#endif
