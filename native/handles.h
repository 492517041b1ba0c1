// JavaScript never holds a C++ pointer: it holds numbers that name slots of this table. A number that
// was never given out, or whose slot has been freed since, is recognised and becomes an exception,
// so nothing that JavaScript passes can reach freed memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace pixelwise {

template <typename T>
class HandleTable {
 public:
  explicit HandleTable(const char* what) : what_(what) {}

  double put(T value) {
    uint32_t index;
    if (free_.empty()) {
      if (slots_.size() >= kMaxSlots) throw std::runtime_error(std::string("too many live handles: ") + what_);
      index = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    Slot& slot = slots_[index];
    slot.value = std::move(value);
    slot.live = true;
    ++live_;
    return static_cast<double>(index) + static_cast<double>(slot.generation) * kMaxSlots;
  }

  // Null when it is not a live handle. The pointer holds until the next put().
  T* find_value(double handle) {
    Slot* slot = find(handle);
    return slot ? &slot->value : nullptr;
  }

  T& get(double handle) {
    T* value = find_value(handle);
    if (!value) throw std::invalid_argument(std::string("not a live ") + what_ + " handle");
    return *value;
  }

  // Freeing twice, or freeing what was never a handle, does nothing and says so.
  bool release(double handle) {
    Slot* slot = find(handle);
    if (!slot) return false;
    T dying = std::move(slot->value);  // destroyed last: its destructor may run arbitrary code
    slot->value = T();
    slot->live = false;
    --live_;
    // A slot whose generations are used up is retired, so that no handle is ever given out twice.
    if (++slot->generation < kMaxGenerations) free_.push_back(static_cast<uint32_t>(slot - slots_.data()));
    return true;
  }

  size_t live() const { return live_; }

 private:
  // slot + generation * 2^24 stays below 2^53, where doubles are exact integers.
  static constexpr uint32_t kMaxSlots = 1u << 24;
  static constexpr uint32_t kMaxGenerations = 1u << 29;

  struct Slot {
    T value;
    uint32_t generation = 0;
    bool live = false;
  };

  Slot* find(double handle) {
    if (!(handle >= 0 && handle <= 9007199254740991.0) || handle != std::floor(handle)) return nullptr;
    const auto bits = static_cast<uint64_t>(handle);
    const uint64_t index = bits % kMaxSlots;
    if (index >= slots_.size()) return nullptr;
    Slot& slot = slots_[index];
    return slot.live && slot.generation == bits / kMaxSlots ? &slot : nullptr;
  }

  const char* what_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
};

}  // namespace pixelwise
