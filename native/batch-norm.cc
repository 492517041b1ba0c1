// pixelwise::batch_norm_clamp: batch normalisation and the ReLU or ReLU6 behind it, as one operator.
// Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167
//
//   y = min(max((x - mean) weight / sqrt(variance + eps) + bias, low), high)
//
// In training most of its time goes to memory, so it is read as seldom as can be: x once for the statistics and once to
// write y; x and dy once for the sums of the gradient and once to write dx. What the clamp let pass is computed again from
// x, so y is not kept. libtorch 1.13 reads x three times, and once more for the clamp, which keeps its own copy.
//
// That is for float32 and bfloat16 with channels side by side (channels_last) on the CPU; weights and statistics are float32,
// and bfloat16 is computed in float32 and rounded once. Everything else runs as the operators of libtorch that it is made of.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "operators.h"
#include "processors.h"

namespace pixelwise {
namespace {

// --- loops over rows of `width` columns -----------------------------------------------------------------------------------

constexpr int64_t kBlock = 64;  // rows that are summed in float; the blocks' sums are added up in double
constexpr int64_t kWidth = 64;  // columns at least, so that the loops over them are worth their beginning and end

// What a column needs: (x - center) scale + offset is normalised.
struct Columns {
  const float* center;
  const float* scale;
  const float* offset;
};

struct Range {
  float low, high;
};

// A NaN stays one, as in relu and hardtanh.
INLINED float clamp(float y, Range range) { return y < range.low ? range.low : y > range.high ? range.high : y; }
// Zero at the bounds too.
INLINED float passed(float gradient, float y, Range range) { return y <= range.low || y >= range.high ? 0.0f : gradient; }

// bfloat16 is the upper half of a float32.
FOR_EACH_PROCESSOR void widen(const uint16_t* RESTRICT from, float* RESTRICT to, int64_t count) {
  for (int64_t k = 0; k < count; ++k) {
    const uint32_t bits = static_cast<uint32_t>(from[k]) << 16;
    std::memcpy(to + k, &bits, sizeof bits);
  }
}

// To the nearest, of two equally near the even one.
FOR_EACH_PROCESSOR void shorten(const float* RESTRICT from, uint16_t* RESTRICT to, int64_t count) {
  for (int64_t k = 0; k < count; ++k) {
    uint32_t bits;
    std::memcpy(&bits, from + k, sizeof bits);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    to[k] = static_cast<uint16_t>(is_nan ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

// The mean of each column and the sum of its squared deviations, block by block, after `before` rows that are in them already.
// `scratch` is three rows long.
// Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances
FOR_EACH_PROCESSOR void moments_of_columns(const float* RESTRICT x, int64_t before, int64_t rows, int64_t width, double* RESTRICT mean,
                                           double* RESTRICT squares, float* RESTRICT scratch) {
  float* RESTRICT shift = scratch;
  float* RESTRICT sum = scratch + width;
  float* RESTRICT sum2 = scratch + 2 * width;
  if (before == 0 && rows > 0)
    for (int64_t c = 0; c < width; ++c) mean[c] = x[c];
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t block = std::min(kBlock, rows - row);
    for (int64_t c = 0; c < width; ++c) {
      shift[c] = static_cast<float>(mean[c]);  // near the mean: then small numbers are summed
      sum[c] = sum2[c] = 0;
    }
    int64_t r = 0;
    for (; r + 4 <= block; r += 4) {
      const float* RESTRICT x0 = x + (row + r) * width;
      const float* RESTRICT x1 = x0 + width;
      const float* RESTRICT x2 = x1 + width;
      const float* RESTRICT x3 = x2 + width;
      for (int64_t c = 0; c < width; ++c) {
        const float d0 = x0[c] - shift[c], d1 = x1[c] - shift[c], d2 = x2[c] - shift[c], d3 = x3[c] - shift[c];
        sum[c] += (d0 + d1) + (d2 + d3);
        sum2[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
      }
    }
    for (; r < block; ++r) {
      const float* RESTRICT x0 = x + (row + r) * width;
      for (int64_t c = 0; c < width; ++c) {
        const float d = x0[c] - shift[c];
        sum[c] += d;
        sum2[c] += d * d;
      }
    }
    const auto n = static_cast<double>(before + row);
    const double share = static_cast<double>(block) / (n + static_cast<double>(block));
    for (int64_t c = 0; c < width; ++c) {
      const double above = sum[c] / static_cast<double>(block);  // the block's mean, above the shift
      const double step = above + (shift[c] - mean[c]);
      squares[c] += (sum2[c] - above * sum[c]) + step * step * n * share;
      mean[c] += step * share;
    }
  }
}

FOR_EACH_PROCESSOR void normalize(const float* RESTRICT x, float* RESTRICT y, int64_t rows, int64_t width, Columns columns, Range range) {
  const float* RESTRICT center = columns.center;
  const float* RESTRICT scale = columns.scale;
  const float* RESTRICT offset = columns.offset;
  for (int64_t row = 0; row < rows; ++row, x += width, y += width)
    for (int64_t c = 0; c < width; ++c) y[c] = clamp((x[c] - center[c]) * scale[c] + offset[c], range);
}

// Adds up, for each column, what of dy the clamp let pass, and that times (x - center). `scratch` is two rows long.
FOR_EACH_PROCESSOR void add_gradients(const float* RESTRICT x, const float* RESTRICT dy, int64_t rows, int64_t width, Columns columns, Range range,
                                      double* RESTRICT total, double* RESTRICT weighted, float* RESTRICT scratch) {
  float* RESTRICT sum = scratch;
  float* RESTRICT sum2 = scratch + width;
  const float* RESTRICT center = columns.center;
  const float* RESTRICT scale = columns.scale;
  const float* RESTRICT offset = columns.offset;
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t block = std::min(kBlock, rows - row);
    for (int64_t c = 0; c < width; ++c) sum[c] = sum2[c] = 0;
    int64_t r = 0;
    for (; r + 2 <= block; r += 2) {
      const float* RESTRICT x0 = x + (row + r) * width;
      const float* RESTRICT x1 = x0 + width;
      const float* RESTRICT dy0 = dy + (row + r) * width;
      const float* RESTRICT dy1 = dy0 + width;
      for (int64_t c = 0; c < width; ++c) {
        const float d0 = x0[c] - center[c], d1 = x1[c] - center[c];
        const float g0 = passed(dy0[c], d0 * scale[c] + offset[c], range), g1 = passed(dy1[c], d1 * scale[c] + offset[c], range);
        sum[c] += g0 + g1;
        sum2[c] += g0 * d0 + g1 * d1;
      }
    }
    for (; r < block; ++r) {
      const float* RESTRICT x0 = x + (row + r) * width;
      const float* RESTRICT dy0 = dy + (row + r) * width;
      for (int64_t c = 0; c < width; ++c) {
        const float d = x0[c] - center[c];
        const float g = passed(dy0[c], d * scale[c] + offset[c], range);
        sum[c] += g;
        sum2[c] += g * d;
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      total[c] += sum[c];
      weighted[c] += sum2[c];
    }
  }
}

// dx = scale passed(dy) + slope (x - center) + constant
FOR_EACH_PROCESSOR void backpropagate(const float* RESTRICT x, const float* RESTRICT dy, float* RESTRICT dx, int64_t rows, int64_t width,
                                      Columns columns, Range range, const float* RESTRICT slope, const float* RESTRICT constant) {
  const float* RESTRICT center = columns.center;
  const float* RESTRICT scale = columns.scale;
  const float* RESTRICT offset = columns.offset;
  for (int64_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    for (int64_t c = 0; c < width; ++c) {
      const float d = x[c] - center[c];
      dx[c] = passed(dy[c], d * scale[c] + offset[c], range) * scale[c] + (d * slope[c] + constant[c]);
    }
  }
}

// --- how the memory is cut ------------------------------------------------------------------------------------------------

// [N, C, H, W] with channels side by side is a table: a row for each pixel, a column for each channel. Of few channels
// several pixels make one row; the pixels that are left over make a shorter one.
struct Table {
  explicit Table(const at::Tensor& x) : channels(x.size(1)), pixels(x.numel() / channels) {}

  const int64_t channels, pixels;
  const int64_t repeats = (kWidth + channels - 1) / channels;  // pixels in a row
  const int64_t width = repeats * channels, rows = pixels / repeats;
  const int64_t rest = pixels % repeats * channels;  // values in the shorter row
  // One for each thread: sums depend on the number of threads, and on nothing else.
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), rows * width / at::internal::GRAIN_SIZE));

  int64_t begin(int64_t part) const { return rows * part / parts; }
  int64_t rows_of(int64_t part) const { return begin(part + 1) - begin(part); }

  template <typename Body>
  void for_each_part(const Body& body) const {
    at::parallel_for(0, parts, 1, [&](int64_t from, int64_t to) {
      for (int64_t part = from; part < to; ++part) body(part);
    });
  }

  // A value for each channel as one for each column.
  template <typename Value>
  std::vector<float> columns(Value value) const {
    std::vector<float> all(width);
    for (int64_t c = 0; c < width; ++c) all[c] = static_cast<float>(value(c % channels));
    return all;
  }
};

// Values as float32, or bfloat16 that is read and written as if it were: a block of rows at a time, in cache.
class Values {
 public:
  explicit Values(const at::Tensor& tensor)
      : floats_(tensor.scalar_type() == at::kFloat ? tensor.data_ptr<float>() : nullptr),
        halves_(floats_ ? nullptr : reinterpret_cast<uint16_t*>(tensor.data_ptr<at::BFloat16>())) {}

  bool are_floats() const { return floats_ != nullptr; }

  // `count` values from `at` on; `buffer` is where bfloat16 becomes float32.
  const float* read(int64_t at, int64_t count, std::vector<float>& buffer) const {
    if (floats_) return floats_ + at;
    buffer.resize(count);
    widen(halves_ + at, buffer.data(), count);
    return buffer.data();
  }

  // Where to write them, before done().
  float* write(int64_t at, int64_t count, std::vector<float>& buffer) const {
    if (floats_) return floats_ + at;
    buffer.resize(count);
    return buffer.data();
  }
  void done(int64_t at, int64_t count, const std::vector<float>& buffer) const {
    if (!floats_) shorten(buffer.data(), halves_ + at, count);
  }

 private:
  float* const floats_;
  uint16_t* const halves_;
};

// Calls body(first value, rows) for rows from `begin` on: all at once, or of bfloat16 in blocks that stay in cache.
template <typename Body>
void for_each_block(const Values& x, int64_t begin, int64_t rows, int64_t width, const Body& body) {
  const int64_t most = x.are_floats() ? rows : std::clamp<int64_t>(8192 / width, 4, kBlock);
  for (int64_t row = 0; row < rows; row += most) body((begin + row) * width, std::min(most, rows - row));
}

// What forward and backward must have in common to the last bit. `moments` [2, C] double: mean and variance.
struct Normalization {
  std::vector<float> center, scale, offset;

  Normalization(const Table& table, const at::Tensor& moments, const at::Tensor& weight, const at::Tensor& bias, double eps) {
    const double *mean = moments.data_ptr<double>(), *variance = mean + table.channels;
    const float *w = weight.data_ptr<float>(), *b = bias.data_ptr<float>();
    center = table.columns([&](int64_t c) { return mean[c]; });
    scale = table.columns([&](int64_t c) { return w[c] / std::sqrt(variance[c] + eps); });
    // A mean of 10000 is no exact float: what its rounding took away is given back here.
    offset = table.columns([&](int64_t c) { return b[c] - (mean[c] - center[c]) * scale[c]; });
  }

  Columns columns() const { return {center.data(), scale.data(), offset.data()}; }
};

// [2, C] double: mean and variance of each channel.
at::Tensor moments_of(const Values& x, const Table& table) {
  const int64_t channels = table.channels, width = table.width;
  std::vector<double> means(table.parts * width), squares(table.parts * width);
  table.for_each_part([&](int64_t part) {
    std::vector<float> scratch(3 * width), buffer;
    int64_t before = 0;
    for_each_block(x, table.begin(part), table.rows_of(part), width, [&](int64_t at, int64_t rows) {
      moments_of_columns(x.read(at, rows * width, buffer), before, rows, width, &means[part * width], &squares[part * width], scratch.data());
      before += rows;
    });
  });
  const at::Tensor result = at::zeros({2, channels}, at::kDouble);
  double *mean = result.data_ptr<double>(), *variance = mean + channels;
  double count = 0;
  const auto add = [&](int64_t c, double n, double its_mean, double its_squares) {
    const double step = its_mean - mean[c], share = n / (count + n);
    mean[c] += step * share;
    variance[c] += its_squares + step * step * count * share;
  };
  for (int64_t part = 0; part < table.parts; ++part) {
    const auto n = static_cast<double>(table.rows_of(part));
    if (n == 0) continue;
    for (int64_t k = part * width; k < (part + 1) * width; k += channels, count += n)
      for (int64_t c = 0; c < channels; ++c) add(c, n, means[k + c], squares[k + c]);
  }
  std::vector<float> buffer;
  const float* pixel = x.read(table.rows * width, table.rest, buffer);
  for (int64_t k = 0; k < table.rest; k += channels, ++count)
    for (int64_t c = 0; c < channels; ++c) add(c, 1, pixel[k + c], 0);
  for (int64_t c = 0; c < channels; ++c) variance[c] /= count;
  return result;
}

// (1 - momentum) old + momentum new; the variance is unbiased, as libtorch keeps it.
void move_running(const at::Tensor& running_mean, const at::Tensor& running_var, const at::Tensor& moments, double momentum, int64_t pixels) {
  const int64_t channels = moments.size(1);
  const double *mean = moments.data_ptr<double>(), *variance = mean + channels;
  float *to_mean = running_mean.data_ptr<float>(), *to_var = running_var.data_ptr<float>();
  const double unbiased = static_cast<double>(pixels) / static_cast<double>(pixels - 1);
  for (int64_t c = 0; c < channels; ++c) {
    to_mean[c] = static_cast<float>((1 - momentum) * to_mean[c] + momentum * mean[c]);
    to_var[c] = static_cast<float>((1 - momentum) * to_var[c] + momentum * unbiased * variance[c]);
  }
}

// --- the operator ---------------------------------------------------------------------------------------------------------

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const c10::optional<at::Tensor>& running_mean,
                    const c10::optional<at::Tensor>& running_var, bool training, double momentum, double eps, double low, double high) {
  at::Tensor y = at::batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, /*cudnn_enabled=*/true);
  if (low == -kInfinity && high == kInfinity) return y;
  if (low == 0 && high == kInfinity) return y.relu_();
  // hardtanh has no gradient in bfloat16 on libtorch 1.13's CPU.
  return y.scalar_type() == at::kBFloat16 ? at::hardtanh(y.to(at::kFloat), low, high).to(at::kBFloat16) : at::hardtanh_(y, low, high);
}

struct BatchNormClamp : torch::autograd::Function<BatchNormClamp> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& running_mean, const at::Tensor& running_var, double momentum, double eps, double low, double high) {
    const Table table(x);
    const Values from(x);
    const at::Tensor moments = moments_of(from, table);
    move_running(running_mean, running_var, moments, momentum, table.pixels);
    const at::Tensor y = at::empty_like(x);
    const Values to(y);
    const Normalization of(table, moments, weight, bias, eps);
    const Range range{static_cast<float>(low), static_cast<float>(high)};
    const auto write = [&](int64_t at, int64_t rows, int64_t width, std::vector<float>& read, std::vector<float>& written) {
      normalize(from.read(at, rows * width, read), to.write(at, rows * width, written), rows, width, of.columns(), range);
      to.done(at, rows * width, written);
    };
    table.for_each_part([&](int64_t part) {
      std::vector<float> read, written;
      for_each_block(from, table.begin(part), table.rows_of(part), table.width,
                     [&](int64_t at, int64_t rows) { write(at, rows, table.width, read, written); });
    });
    std::vector<float> read, written;
    write(table.rows * table.width, 1, table.rest, read, written);
    context->save_for_backward({x, weight, bias, moments});
    context->saved_data["eps"] = eps;
    context->saved_data["low"] = low;
    context->saved_data["high"] = high;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &moments = saved[3];
    const double eps = context->saved_data["eps"].toDouble(), low = context->saved_data["low"].toDouble(), high = context->saved_data["high"].toDouble();
    const at::Tensor none;
    if (at::GradMode::is_enabled()) {
      const at::Tensor y = composed(x, weight, bias, {}, {}, true, 0, eps, low, high);
      return differentiable_gradients(y, gradients[0], {x, weight, bias}, 9);
    }
    const at::Tensor dy = side_by_side(gradients[0]);
    const at::Tensor dx = at::empty_like(x), dweight = at::empty_like(weight), dbias = at::empty_like(bias);
    propagate(x, dy, weight, bias, moments, eps, {static_cast<float>(low), static_cast<float>(high)}, dx, dweight, dbias);
    return {dx, dweight, dbias, none, none, none, none, none, none};
  }

  static void propagate(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& moments,
                        double eps, Range range, const at::Tensor& dx, const at::Tensor& dweight, const at::Tensor& dbias) {
    const Table table(x);
    const int64_t channels = table.channels, width = table.width, rest = table.rows * width;
    const Normalization of(table, moments, weight, bias, eps);
    const Values x_data(x), dy_data(dy), to(dx);

    // Of each column: the sum of dy, and of dy (x - center).
    std::vector<double> sums(table.parts * width), weighted(table.parts * width);
    table.for_each_part([&](int64_t part) {
      std::vector<float> scratch(2 * width), x_read, dy_read;
      for_each_block(x_data, table.begin(part), table.rows_of(part), width, [&](int64_t at, int64_t rows) {
        add_gradients(x_data.read(at, rows * width, x_read), dy_data.read(at, rows * width, dy_read), rows, width, of.columns(), range, &sums[part * width],
                      &weighted[part * width], scratch.data());
      });
    });
    if (table.rest > 0) {
      std::vector<float> scratch(2 * width), x_read, dy_read;
      add_gradients(x_data.read(rest, table.rest, x_read), dy_data.read(rest, table.rest, dy_read), 1, table.rest, of.columns(), range, sums.data(),
                    weighted.data(), scratch.data());
    }
    std::vector<double> sum(channels), along(channels);
    for (int64_t k = 0; k < table.parts * width; ++k) {
      sum[k % channels] += sums[k];
      along[k % channels] += weighted[k];
    }

    const double *mean = moments.data_ptr<double>(), *variance = mean + channels;
    const auto n = static_cast<double>(table.pixels);
    const auto below = [&](int64_t c) { return mean[c] - of.center[c]; };
    for (int64_t c = 0; c < channels; ++c) {
      along[c] -= below(c) * sum[c];  // of dy (x - mean)
      dweight.data_ptr<float>()[c] = static_cast<float>(along[c] / std::sqrt(variance[c] + eps));
      dbias.data_ptr<float>()[c] = static_cast<float>(sum[c]);
    }
    // dx = scale (dy - mean(dy) - (x - mean) mean(dy (x - mean)) / (variance + eps))
    const auto slope = table.columns([&](int64_t c) { return -of.scale[c] * along[c] / (n * (variance[c] + eps)); });
    const auto constant = table.columns([&](int64_t c) { return -of.scale[c] * sum[c] / n - below(c) * slope[c]; });
    const auto write = [&](int64_t at, int64_t rows, int64_t width, std::vector<float>& x_read, std::vector<float>& dy_read, std::vector<float>& written) {
      const int64_t count = rows * width;
      backpropagate(x_data.read(at, count, x_read), dy_data.read(at, count, dy_read), to.write(at, count, written), rows, width, of.columns(), range,
                    slope.data(), constant.data());
      to.done(at, count, written);
    };
    table.for_each_part([&](int64_t part) {
      std::vector<float> x_read, dy_read, written;
      for_each_block(x_data, table.begin(part), table.rows_of(part), width,
                     [&](int64_t at, int64_t rows) { write(at, rows, width, x_read, dy_read, written); });
    });
    std::vector<float> x_read, dy_read, written;
    write(rest, 1, table.rest, x_read, dy_read, written);
  }
};

at::Tensor batch_norm_clamp(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& running_mean,
                            const at::Tensor& running_var, bool training, double momentum, double eps, double low, double high) {
  const auto is_vector = [&](const at::Tensor& t) {
    return t.is_cpu() && t.scalar_type() == at::kFloat && t.dim() == 1 && t.size(0) == x.size(1) && t.is_contiguous();
  };
  const bool is_ours = training && x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.dim() == 4 && is_side_by_side(x) && x.numel() > x.size(1) && is_vector(weight) && is_vector(bias) &&
                       is_vector(running_mean) && is_vector(running_var);
  if (!is_ours) return composed(x, weight, bias, running_mean, running_var, training, momentum, eps, low, high);
  return BatchNormClamp::apply(x, weight, bias, running_mean, running_var, momentum, eps, low, high);
}

TORCH_LIBRARY_FRAGMENT(pixelwise, library) {
  library.def("batch_norm_clamp(Tensor x, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, bool training, "
              "float momentum, float eps, float low, float high) -> Tensor", batch_norm_clamp);
}

}  // namespace
}  // namespace pixelwise
