// Processes that train together: see process-group.cc.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

namespace pixelwise {

// Adds the functions about process groups to the addon's exports; in a build without gloo they refuse.
void export_process_groups(Napi::Env env, Napi::Object exports);

// Replaces a tensor's numbers by their sums over all processes of a group, and waits until they are there.
void sum_over_group(at::Tensor tensor, int64_t group);

}  // namespace pixelwise
