// Matrix products of our operators, shared among libtorch's threads.
//
// Debian's OpenBLAS has threads of its own, which wait for work by turning in a loop. OpenMP's do so too, and where both are for
// the same cores one keeps the other from working. So here it is OpenMP's threads that share the work, each with an OpenBLAS of one
// thread. MKL is OpenMP's guest and does that by itself.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <algorithm>

namespace pixelwise {

// As long as one lives, OpenBLAS uses the thread that calls it only.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas();
  ~SingleThreadedBlas();
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;
};

// How many threads OpenBLAS uses for the products of libtorch's operators, which would take all cores whatever libtorch was told.
// OPENBLAS_NUM_THREADS stands.
void set_blas_threads(int count);

// The processor whose instructions OpenBLAS uses ("Haswell"); null where libtorch has another BLAS.
const char* openblas_kernels();

// Whether the processor has AVX-512, which oneDNN then uses, and OpenBLAS does not: because it is older than the processor, or was told so
// by OPENBLAS_CORETYPE. oneDNN's convolutions are then faster than products.
bool products_are_narrow();

// Calls body(k) for `count` things that take products, on all threads; within another in_parallel(), on this one.
template <typename Body>
void in_parallel(int64_t count, const Body& body) {
  if (at::in_parallel_region()) {
    for (int64_t k = 0; k < count; ++k) body(k);
    return;
  }
  const SingleThreadedBlas each;
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_history;
    for (int64_t k = begin; k < end; ++k) body(k);
  });
}

// A matrix in memory, its rows `step` numbers apart; transposed: what is multiplied is the matrix with rows and columns exchanged.
struct Factor {
  const float* values;
  int64_t step;
  bool transposed = false;

  Factor row(int64_t k) const { return {values + k * (transposed ? 1 : step), step, transposed}; }
  Factor column(int64_t k) const { return {values + k * (transposed ? step : 1), step, transposed}; }
};

// A matrix that is written, its rows `step` numbers apart.
struct Product {
  float* values;
  int64_t step;
};

// c [m, n] = a [m, k] b [k, n], or c + a b, on this thread: call it within in_parallel().
void multiply(const Factor& a, const Factor& b, const Product& c, int64_t m, int64_t n, int64_t k, bool add = false);

// c [m, n] = a [m, k] b [k, n] on all threads. Each calls then(first row, end, first column, end) when it has written these.
template <typename Then>
void share_product(const Factor& a, const Factor& b, const Product& c, int64_t m, int64_t n, int64_t k, const Then& then) {
  constexpr int64_t kWorthSharing = 1 << 18;  // multiplications; fewer are done before another thread has woken up
  const bool by_rows = m >= n;
  const int64_t size = by_rows ? m : n, parts = std::clamp<int64_t>(m * n * k / kWorthSharing, 1, std::min<int64_t>(at::get_num_threads(), size));
  in_parallel(parts, [&](int64_t part) {
    RECORD_FUNCTION("pixelwise::product", c10::ArrayRef<const c10::IValue>());
    const int64_t begin = size * part / parts, end = size * (part + 1) / parts;
    if (by_rows) {
      multiply(a.row(begin), b, {c.values + begin * c.step, c.step}, end - begin, n, k);
      then(begin, end, 0, n);
    } else {
      multiply(a, b.column(begin), {c.values + begin, c.step}, m, end - begin, k);
      then(0, m, begin, end);
    }
  });
}

inline void share_product(const Factor& a, const Factor& b, const Product& c, int64_t m, int64_t n, int64_t k) {
  share_product(a, b, c, m, n, k, [](int64_t, int64_t, int64_t, int64_t) {});
}

}  // namespace pixelwise
