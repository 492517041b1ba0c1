// Loops compiled for several processors at once.
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
