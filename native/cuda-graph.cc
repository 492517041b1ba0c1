// CUDA graphs, libtorch's own: what a stream was given between beginCapture and endCapture is launched again as a whole by replayGraph,
// on the same memory. They save the time in which the CPU launches one kernel after the other.
#include "cuda-graph.h"

#include "bridge.h"

#ifdef PIXELWISE_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace pixelwise {
namespace {

#ifdef PIXELWISE_CUDA

struct Capture {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream before;  // the stream that was current

  explicit Capture(c10::cuda::CUDAStream stream) : before(stream) {}
};

using Captures = HandleTable<std::shared_ptr<Capture>>;

// Of the one thread that trains: workers load images. Never destroyed: at the end of the process CUDA may be gone before it.
Captures& captures() {
  static Captures& table = *new Captures("CUDA graph");
  return table;
}

// (device) -> handle. From here on the stream only notes; whatever waits for the GPU throws.
Napi::Value begin_capture(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const at::Device device(string_at(info, 0));
    TORCH_CHECK(device.is_cuda(), "a CUDA graph is of a CUDA device, not of ", device);
    const c10::cuda::CUDAGuard guard(device);
    const auto capture = std::make_shared<Capture>(c10::cuda::getCurrentCUDAStream());
    c10::cuda::device_synchronize();  // what has been launched so far is no part of it
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool());  // the default stream cannot be captured
    try {
      capture->graph.capture_begin();
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(capture->before);
      throw;
    }
    return Napi::Number::New(info.Env(), captures().put(capture));
  });
}

// (handle). After an operator that cannot be captured it throws; then, too, the stream is the one from before.
Napi::Value end_capture(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const std::shared_ptr<Capture> capture = captures().get(number_at(info, 0));
    const c10::cuda::CUDAGuard guard(capture->before.device());
    try {
      capture->graph.capture_end();
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(capture->before);
      throw;
    }
    c10::cuda::setCurrentCUDAStream(capture->before);
    return info.Env().Undefined();
  });
}

Napi::Value replay_graph(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const std::shared_ptr<Capture> capture = captures().get(number_at(info, 0));
    const c10::cuda::CUDAGuard guard(capture->before.device());
    capture->graph.replay();
    return info.Env().Undefined();
  });
}

Napi::Value release_graph(const Info& info) {
  return guarded(info, [&](Bridge&) { return Napi::Boolean::New(info.Env(), captures().release(number_at(info, 0))); });
}

#else

Napi::Value refuse(const Info& info) {
  return guarded(info, [](Bridge&) -> Napi::Value { throw std::runtime_error("this build of the addon has no CUDA graphs: it was made without CUDA's headers"); });
}
constexpr auto begin_capture = refuse, end_capture = refuse, replay_graph = refuse, release_graph = refuse;

#endif

}  // namespace

void export_cuda_graphs(Napi::Env env, Napi::Object exports) {
  exports["beginCapture"] = Napi::Function::New(env, begin_capture, "beginCapture");
  exports["endCapture"] = Napi::Function::New(env, end_capture, "endCapture");
  exports["replayGraph"] = Napi::Function::New(env, replay_graph, "replayGraph");
  exports["releaseGraph"] = Napi::Function::New(env, release_graph, "releaseGraph");
}

}  // namespace pixelwise
