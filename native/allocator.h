// The CPU allocator that the bridge gives to libtorch.
#pragma once

#include <cstddef>

namespace pixelwise {

struct MemoryStats {
  size_t live_bytes;    // held by tensors now
  size_t cached_bytes;  // freed by tensors, kept for the next ones
  size_t peak_bytes;    // highest live_bytes since the last reset
  size_t limit_bytes;   // an allocation that would pass this is refused
};

void install_allocator();
MemoryStats memory_stats();
void reset_peak();
void release_cached();

}  // namespace pixelwise
