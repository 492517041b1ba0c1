// CUDA graphs: see cuda-graph.cc.
#pragma once

#include <napi.h>

namespace pixelwise {

// Adds the functions about CUDA graphs to the addon's exports; in a build without CUDA they refuse.
void export_cuda_graphs(Napi::Env env, Napi::Object exports);

}  // namespace pixelwise
