// Matrix products of our operators, shared among libtorch's threads.
//
// Debian's OpenBLAS has threads of its own, which wait for work by turning in a loop. OpenMP's do so too, and where both are for
// the same cores one keeps the other from working. So here it is OpenMP's threads that share the work, each with an OpenBLAS of one
// thread. MKL is OpenMP's guest and does that by itself.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace pixelwise {

// As long as it lives, OpenBLAS uses the thread that calls it only.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas();
  ~SingleThreadedBlas();
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  const int before_;
};

// How many threads OpenBLAS uses for the products of libtorch's operators, which would take all cores whatever libtorch was told.
// OPENBLAS_NUM_THREADS stands.
void set_blas_threads(int count);

// Calls body(k) for `count` things that take products, on all threads.
template <typename Body>
void in_parallel(int64_t count, const Body& body) {
  const SingleThreadedBlas each;
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_history;
    for (int64_t k = begin; k < end; ++k) body(k);
  });
}

// y [M, N] = a [M, K] b [K, N], of float32 on the CPU.
inline void multiply(const at::Tensor& y, const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kWorthSharing = 1 << 18;  // multiplications; fewer are done before another thread has woken up
  const int64_t m = y.size(0), n = y.size(1), work = m * n * a.size(1);
  const int axis = m >= n ? 0 : 1;
  const int64_t size = y.size(axis), parts = std::clamp<int64_t>(work / kWorthSharing, 1, std::min<int64_t>(at::get_num_threads(), size));
  in_parallel(parts, [&](int64_t part) {
    const int64_t begin = size * part / parts, count = size * (part + 1) / parts - begin;
    at::Tensor made = y.narrow(axis, begin, count);
    at::mm_out(made, axis == 0 ? a.narrow(0, begin, count) : a, axis == 1 ? b.narrow(1, begin, count) : b);
  });
}

inline at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor y = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(y, a, b);
  return y;
}

}  // namespace pixelwise
