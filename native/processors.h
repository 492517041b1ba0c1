// Loops compiled for several processors at once, and eight numbers at a time.
#pragma once

// One function is compiled for several processors and the loader takes the best, so that no processor meets instructions it
// does not have. The loops run over channels and no compiler may fuse their roundings (-ffp-contract=off in CMakeLists.txt),
// so all versions, and the plain one of other processors and systems, give the same bits.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif
#ifndef FOR_EACH_PROCESSOR
#define FOR_EACH_PROCESSOR
#endif
#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline)) // or it would keep to the instructions of every processor
#else
#define INLINED static inline
#endif
#define RESTRICT __restrict

// Eight numbers in registers. A compiler left to itself keeps sums over channels in memory, which takes eight times as long.
// Not every compiler has such types: without them libtorch's operators do the work.
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define HAS_VECTORS 1
#include <cstdint>

namespace pixelwise {

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t EightWhole __attribute__((vector_size(32)));

INLINED Eight load(const float* from) { return *reinterpret_cast<const Eight*>(from); }
INLINED void store(float* to, Eight value) { *reinterpret_cast<Eight*>(to) = value; }

// Of eight numbers; a NaN may be passed over.
INLINED float largest_of(Eight v) {
  Eight other = __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v = v > other ? v : other;
  other = __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v = v > other ? v : other;
  other = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
  v = v > other ? v : other;
  return v[0];
}

INLINED float sum_of(Eight v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return v[0] + v[1];
}

// exp(x) for x <= 0, to 2 units in the last place: e^x = 2^n e^r with |r| <= ln(2) / 2. The polynomial is that of Moshier's
// Cephes library, expf.c. Below -87 it is 0: smaller numbers would be denormal, and these take a processor 150 times as long.
INLINED Eight exp_of(Eight x) {
  const Eight least = Eight{} - 87.0f;
  const EightWhole is_tiny = x < least;
  x = is_tiny ? least : x;
  const Eight n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the nearest whole number
  const Eight r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const Eight p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
  const EightWhole power = (__builtin_convertvector(n, EightWhole) + 127) << 23;
  const Eight e = (p * r * r + r + 1.0f) * (Eight)power;
  return is_tiny ? Eight{} : e;
}

}  // namespace pixelwise
#endif
