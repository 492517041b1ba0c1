#include "autocast.h"

#include <ATen/autocast_mode.h>
#include <torch/version.h>

#include <stdexcept>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace pixelwise {
namespace {

// Until 2.4 each device had functions of its own.
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
bool is_enabled(c10::DeviceType device) { return at::autocast::is_autocast_enabled(device); }
c10::ScalarType dtype_of(c10::DeviceType device) { return at::autocast::get_autocast_dtype(device); }
void set(c10::DeviceType device, bool enabled, c10::ScalarType dtype) {
  at::autocast::set_autocast_enabled(device, enabled);
  at::autocast::set_autocast_dtype(device, dtype);
}
#else
bool is_enabled(c10::DeviceType device) { return device == at::kCPU ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled(); }
c10::ScalarType dtype_of(c10::DeviceType device) {
  return device == at::kCPU ? at::autocast::get_autocast_cpu_dtype() : at::autocast::get_autocast_gpu_dtype();
}
void set(c10::DeviceType device, bool enabled, c10::ScalarType dtype) {
  if (device == at::kCPU) {
    at::autocast::set_cpu_enabled(enabled);
    at::autocast::set_autocast_cpu_dtype(dtype);
  } else {
    at::autocast::set_enabled(enabled);
    at::autocast::set_autocast_gpu_dtype(dtype);
  }
}
#endif

}  // namespace

void Autocast::enter(c10::DeviceType device, c10::ScalarType dtype) {
  before_.push_back({device, is_enabled(device), dtype_of(device)});
  at::autocast::increment_nesting();
  const bool enabled = dtype != at::kFloat;
  set(device, enabled, enabled ? dtype : before_.back().dtype);
}

void Autocast::leave() {
  if (before_.empty()) throw std::invalid_argument("autocast was not entered");
  const Before before = before_.back();
  before_.pop_back();
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  set(before.device, before.enabled, before.dtype);
}

const char* bfloat16_instructions() {
#if defined(__x86_64__) && defined(__GNUC__)
  unsigned int a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1)) return "amx_bf16";
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1)) return "avx512_bf16";
#elif defined(__aarch64__) && defined(__linux__) && defined(HWCAP2_BF16)
  if (getauxval(AT_HWCAP2) & HWCAP2_BF16) return "bf16";
#endif
  return nullptr;
}

}  // namespace pixelwise
