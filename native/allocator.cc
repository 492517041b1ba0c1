// A caching CPU allocator. Two reasons:
// 1. Speed. glibc returns large blocks to the system on free, so every training step pays the page
//    faults of its activations again (118 to 1354 ms a step, measured on two cores). Kept blocks cost nothing.
// 2. Honesty. It counts live bytes (our leak tests read them), and refuses what the machine cannot hold,
//    where Linux would promise the memory first and kill the process later.
#include "allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

namespace pixelwise {
namespace {

constexpr size_t kHeader = 64;  // keeps the 64-byte alignment that vector code expects

struct Header {
  size_t bytes;  // whole block, header included
};

size_t physical_bytes() {
#ifdef _WIN32
  MEMORYSTATUSEX status{sizeof(status)};
  return GlobalMemoryStatusEx(&status) ? static_cast<size_t>(status.ullTotalPhys) : SIZE_MAX;
#else
  size_t bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  size_t group = 0;  // a container's own limit, where there is one ("max" does not parse and stays 0)
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> group && group > 0) bytes = std::min(bytes, group);
  return bytes;
#endif
}

// What could be taken now without another process being killed for it.
size_t available_bytes() {
#ifdef __linux__
  std::ifstream info("/proc/meminfo");
  std::string name;
  size_t kib = 0;
  for (std::string unit; info >> name >> kib >> unit;)
    if (name == "MemAvailable:") return kib * 1024;
#endif
  return SIZE_MAX;
}

// Sizes are rounded up to eighths of a power of two, so that nearly equal requests share blocks (at most 12.5 % waste).
size_t round_up(size_t bytes) {
  if (bytes <= 4096) return (bytes + 255) / 256 * 256;
  size_t power = 4096;
  while (power < bytes) power <<= 1;
  const size_t step = power / 16;
  return (bytes + step - 1) / step * step;
}

class CachingAllocator final : public c10::Allocator {
 public:
  // libtorch made this method non-const in 2.x; the two overloads serve both.
  c10::DataPtr allocate(size_t bytes) { return make(bytes); }
  c10::DataPtr allocate(size_t bytes) const { return const_cast<CachingAllocator*>(this)->make(bytes); }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const { std::copy_n(static_cast<const char*>(from), count, static_cast<char*>(to)); }

  MemoryStats stats() {
    std::lock_guard<std::mutex> lock(mutex_);
    return {live_, cached_, peak_, limit_};
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    peak_ = live_;
  }

  void release_cached() {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_cache();
  }

 private:
  c10::DataPtr make(size_t bytes) {
    const c10::Device cpu(c10::kCPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    TORCH_CHECK(bytes <= limit_, "out of memory: one tensor of ", gib(bytes), " GiB was asked for, this machine has ", gib(limit_), " GiB");
    void* data = take(round_up(bytes + kHeader));
    return {data, data, &release, cpu};
  }

  void* take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& blocks = free_[size];
    char* block = nullptr;
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
      cached_ -= size;
    } else {
      if (!fits(cached_ + size)) drop_cache();
      TORCH_CHECK(fits(size), "out of memory: ", gib(size), " GiB more were asked for, tensors hold ", gib(live_), " GiB, this machine has ", gib(limit_), " GiB");
      block = from_system(size);
    }
    reinterpret_cast<Header*>(block)->bytes = size;
    live_ += size;
    peak_ = std::max(peak_, live_);
    return block + kHeader;
  }

  char* from_system(size_t size) {
    try {
      return static_cast<char*>(c10::alloc_cpu(size));
    } catch (const c10::Error&) {
      if (cached_ == 0) throw;
      drop_cache();
      return static_cast<char*>(c10::alloc_cpu(size));
    }
  }

  // Asking the system takes 30 us, so only blocks that take milliseconds to fill are worth the question.
  bool fits(size_t more) const { return live_ + more <= limit_ && (more < (64u << 20) || more <= available_bytes()); }

  static void release(void* data);

  void put_back(char* block) {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = reinterpret_cast<Header*>(block)->bytes;
    live_ -= size;
    // Whole images of many sizes would otherwise fill the memory with blocks that never fit again.
    if (cached_ + size > limit_ / 4) drop_cache();
    free_[size].push_back(block);
    cached_ += size;
  }

  void drop_cache() {
    for (auto& [size, blocks] : free_)
      for (char* block : blocks) c10::free_cpu(block);
    free_.clear();
    cached_ = 0;
  }

  static double gib(size_t bytes) { return static_cast<double>(bytes / (1 << 20)) / 1024.0; }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<char*>> free_;
  size_t live_ = 0, cached_ = 0, peak_ = 0;
  const size_t limit_ = physical_bytes();
};

// Never destroyed: tensors in libtorch's own statics outlive every destructor that could be written here.
CachingAllocator& allocator() {
  static auto* instance = new CachingAllocator;
  return *instance;
}

void CachingAllocator::release(void* data) {
  if (data) allocator().put_back(static_cast<char*>(data) - kHeader);
}

}  // namespace

void install_allocator() { c10::SetCPUAllocator(&allocator(), /*priority=*/100); }
MemoryStats memory_stats() { return allocator().stats(); }
void reset_peak() { allocator().reset_peak(); }
void release_cached() { allocator().release_cached(); }

}  // namespace pixelwise
