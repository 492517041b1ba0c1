#include "products.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

// Of the BLAS that libtorch uses, where it has them. libtorch's own way to a product takes microseconds, as long as a small one.
#if defined(__GNUC__) && !defined(_WIN32)
#define WEAK __attribute__((weak))
extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const float* alpha, const float* a, const int* lda,
            const float* b, const int* ldb, const float* beta, float* c, const int* ldc) WEAK;
void openblas_set_num_threads(int count) WEAK;
int openblas_get_num_threads() WEAK;
int openblas_get_parallel() WEAK;
char* openblas_get_corename() WEAK;
}
#endif

namespace pixelwise {
namespace {

// Whether there is an OpenBLAS with threads of its own. One that uses OpenMP's (2) starts none within at::parallel_for, and its number
// of threads is OpenMP's.
bool has_threads() {
#if defined(WEAK)
  return openblas_set_num_threads != nullptr && openblas_get_num_threads != nullptr && openblas_get_parallel != nullptr && openblas_get_parallel() == 1;
#else
  return false;
#endif
}

void set_threads(int count) {
#if defined(WEAK)
  openblas_set_num_threads(count);
#else
  (void)count;
#endif
}

int threads() {
#if defined(WEAK)
  return openblas_get_num_threads();
#else
  return 1;
#endif
}

// The number is the whole process's, and libtorch may run in several of JavaScript's threads.
std::mutex mutex;
int depth = 0;   // how many SingleThreadedBlas there are
int before = 1;  // what the first of them found

at::Tensor tensor_of(const Factor& of, int64_t rows, int64_t columns) {
  const std::vector<int64_t> strides = of.transposed ? std::vector<int64_t>{1, of.step} : std::vector<int64_t>{of.step, 1};
  return at::from_blob(const_cast<float*>(of.values), {rows, columns}, strides, at::kFloat);
}

}  // namespace

const char* openblas_kernels() {
#if defined(WEAK)
  if (openblas_get_corename != nullptr) return openblas_get_corename();
#endif
  return nullptr;
}

bool products_are_narrow() {
#if defined(__x86_64__) && defined(__GNUC__)
  const char* kernels = openblas_kernels();
  if (kernels == nullptr) return false;
  const bool is_wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!is_wide) return false;
  std::string name = kernels;  // a build for one processor writes it in capitals
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) { return std::tolower(letter); });
  for (const char* wide : {"skylakex", "cooperlake", "sapphirerapids"}) {
    if (name == wide) return false;
  }
  return true;
#else
  return false;
#endif
}

SingleThreadedBlas::SingleThreadedBlas() {
  if (!has_threads()) return;
  const std::lock_guard<std::mutex> lock(mutex);
  if (depth++ > 0) return;
  before = threads();
  set_threads(1);
}

SingleThreadedBlas::~SingleThreadedBlas() {
  if (!has_threads()) return;
  const std::lock_guard<std::mutex> lock(mutex);
  if (--depth == 0) set_threads(before);
}

void set_blas_threads(int count) {
  if (!has_threads() || std::getenv("OPENBLAS_NUM_THREADS") != nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex);
  before = count;
  if (depth == 0) set_threads(count);
}

void multiply(const Factor& a, const Factor& b, const Product& c, int64_t m, int64_t n, int64_t k, bool add) {
#if defined(WEAK)
  const bool is_small = std::max({m, n, k, a.step, b.step, c.step}) <= std::numeric_limits<int>::max();
  if (sgemm_ != nullptr && is_small) {
    // BLAS counts columns first, so to it each matrix is transposed, and c' = b' a'.
    const auto letter = [](const Factor& of) { return of.transposed ? "T" : "N"; };
    const int rows = static_cast<int>(m), columns = static_cast<int>(n), depth = static_cast<int>(k);
    const int a_step = static_cast<int>(a.step), b_step = static_cast<int>(b.step), c_step = static_cast<int>(c.step);
    const float one = 1, beta = add ? 1 : 0;
    sgemm_(letter(b), letter(a), &columns, &rows, &depth, &one, b.values, &b_step, a.values, &a_step, &beta, c.values, &c_step);
    return;
  }
#endif
  at::Tensor sum = at::from_blob(c.values, {m, n}, {c.step, 1}, at::kFloat);
  at::addmm_out(sum, sum, tensor_of(a, m, k), tensor_of(b, k, n), /*beta=*/add ? 1 : 0);
}

}  // namespace pixelwise
