// Mixed precision: libtorch's autocast, entered and left, and what this processor has for bfloat16.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DispatchKey.h>
#include <c10/core/ScalarType.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <vector>

namespace pixelwise {

// Of this thread. While it is on, convolutions and matrix products take their arguments in `dtype`.
class Autocast {
 public:
  // Float means off.
  void enter(c10::DeviceType device, c10::ScalarType dtype);
  // Back to what was before the last enter(); outside all of them the copies of weights in another precision are forgotten.
  void leave();

 private:
  struct Before {
    c10::DeviceType device;
    bool enabled;
    c10::ScalarType dtype;
  };
  std::vector<Before> before_;
};

// Whether libtorch casts what convolutions are given to fewer bits. It knows its own operators by name, not ours.
inline bool is_autocasting() { return !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU); }

// The processor's instructions for products of bfloat16: "amx_bf16", "avx512_bf16", "bf16" (ARM), or null where it has none.
const char* bfloat16_instructions();

}  // namespace pixelwise
