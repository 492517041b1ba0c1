// Whether libtorch casts what convolutions are given to fewer bits. It knows its own operators by name, not ours.
#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace pixelwise {

inline bool is_autocasting() { return !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU); }

}  // namespace pixelwise
