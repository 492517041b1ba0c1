// The addon: every operator through libtorch's dispatcher, and the few things that are not operators
// (backward, grad mode, threads, generators, data, memory). No operator has code of its own here; those that we add to
// libtorch's register themselves (batch-norm.cc, fold-batch-norm.cc).
//
// Rules of the border:
// - JavaScript sees numbers (handles), strings, arrays and typed arrays; never a pointer.
// - Whatever JavaScript passes is checked before libtorch sees it, and every C++ exception becomes an Error.
// - State belongs to one JavaScript environment (main thread or worker), so no locks are needed.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <napi.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <cstring>
#include <memory>

#include "allocator.h"
#include "bridge.h"
#include "cuda-graph.h"
#include "process-group.h"
#include "products.h"
#include "profiler.h"

namespace pixelwise {
namespace {

struct Bytes {
  char* data;
  size_t length;
};

size_t element_bytes(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array: case napi_uint8_array: case napi_uint8_clamped_array: return 1;
    case napi_int16_array: case napi_uint16_array: return 2;
    case napi_int32_array: case napi_uint32_array: case napi_float32_array: return 4;
    case napi_float64_array: case napi_bigint64_array: case napi_biguint64_array: return 8;
    default: return 0;  // Float16Array, which Node gives no type
  }
}

// By the plain C function, because Napi::TypedArray refuses views of a SharedArrayBuffer. A detached buffer has length 0.
Bytes bytes_at(const Info& info, size_t k) {
  auto type = static_cast<napi_typedarray_type>(-1);
  size_t elements = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(info.Env(), info[k], &type, &elements, &data, nullptr, nullptr) != napi_ok || element_bytes(type) == 0)
    throw std::invalid_argument("argument " + std::to_string(k) + " must be a typed array");
  return {static_cast<char*>(data), elements * element_bytes(type)};
}

std::vector<int64_t> shape_at(const Info& info, size_t k) {
  if (!info[k].IsArray()) throw std::invalid_argument("the shape must be an array");
  const auto array = info[k].As<Napi::Array>();
  if (array.Length() > 64) throw std::invalid_argument("a shape has at most 64 dimensions, got " + std::to_string(array.Length()));
  std::vector<int64_t> shape;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value size = array.Get(i);
    const double value = size.IsNumber() ? size.As<Napi::Number>().DoubleValue() : -1;
    if (!(value >= 0 && value <= 9007199254740991.0) || value != std::floor(value)) throw std::invalid_argument("sizes of a shape must be integers of at least 0");
    shape.push_back(static_cast<int64_t>(value));
  }
  return shape;
}

Napi::Array array_of(const Napi::Env& env, at::IntArrayRef values) {
  auto array = Napi::Array::New(env, values.size());
  for (size_t k = 0; k < values.size(); ++k) array.Set(static_cast<uint32_t>(k), static_cast<double>(values[k]));
  return array;
}

// --- operators ------------------------------------------------------------------------------------------

Napi::Value operator_names(const Info& info) {
  return guarded(info, [&](Bridge&) {
    auto names = Napi::Array::New(info.Env());
    for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) names.Set(names.Length(), c10::toString(name));
    return names;
  });
}

Napi::Object describe_type(const Napi::Env& env, const ValueType& type) {
  auto result = Napi::Object::New(env);
  result["kind"] = kind_name(type.kind);
  result["optional"] = type.optional;
  if (type.kind == Kind::List) {
    result["element"] = kind_name(type.element);
    result["elementOptional"] = type.element_optional;
    result["fixedSize"] = type.fixed_size;
  }
  return result;
}

// (name, overload) -> { id, name, schema, arguments, returns }. The id stays valid for the life of the environment.
Napi::Value find_operator(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const std::string name = string_at(info, 0), overload = string_at(info, 1);
    const auto found = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!found) throw std::invalid_argument("libtorch " TORCH_VERSION " has no operator " + name + (overload.empty() ? "" : "." + overload));
    bridge.operators.push_back(std::make_unique<Operator>(*found));
    const Operator& op = *bridge.operators.back();

    const Napi::Env env = info.Env();
    const c10::FunctionSchema& schema = found->schema();
    auto result = Napi::Object::New(env);
    result["id"] = static_cast<double>(bridge.operators.size() - 1);
    result["name"] = op.name;
    result["schema"] = c10::str(schema);
    auto arguments = Napi::Array::New(env);
    for (size_t k = 0; k < op.arguments.size(); ++k) {
      const c10::Argument& argument = schema.arguments()[k];
      auto described = describe_type(env, op.arguments[k]);
      described["name"] = argument.name();
      described["keywordOnly"] = argument.kwarg_only();
      if (argument.default_value()) described["default"] = c10::str(*argument.default_value());
      arguments.Set(arguments.Length(), described);
    }
    result["arguments"] = arguments;
    auto returns = Napi::Array::New(env);
    for (size_t k = 0; k < op.returns.size(); ++k) {
      auto described = describe_type(env, op.returns[k]);
      described["name"] = schema.returns()[k].name();
      described["writtenArgument"] = op.written_argument[k];
      returns.Set(returns.Length(), described);
    }
    result["returns"] = returns;
    return result;
  });
}

// (id, ...arguments) -> the value where the operator returns one, an array where it returns several.
// A return that is one of the arguments (add_) comes back as undefined: the caller has it already.
Napi::Value call(const Info& info) {
  return guarded(info, [&](Bridge& bridge) -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto id = integer_at(info, 0, 0, static_cast<int64_t>(bridge.operators.size()) - 1);
    const Operator& op = *bridge.operators[static_cast<size_t>(id)];
    Arguments values;
    for (size_t k = 1; k < info.Length(); ++k) values.push_back(info[k]);

    torch::jit::Stack stack;
    push_arguments(op, bridge.handles, values, env, stack);
    op.handle.callBoxed(&stack);

    Results results(bridge.handles, env);
    const auto value = [&](size_t k) { return op.written_argument[k] >= 0 ? env.Undefined() : results.to_js(stack[k], op.returns[k]); };
    if (stack.empty()) return env.Undefined();
    if (stack.size() == 1) return results.complete(value(0));
    auto array = Napi::Array::New(env, stack.size());
    for (size_t k = 0; k < stack.size(); ++k) array.Set(static_cast<uint32_t>(k), value(k));
    return results.complete(array);
  });
}

// --- tensors --------------------------------------------------------------------------------------------

// "float32[2, 3]"
std::string signature_of(const at::Tensor& tensor) {
  std::string text = dtype_name(tensor.scalar_type());
  char separator = '[';
  for (const int64_t size : tensor.sizes()) {
    text += separator == '[' ? "[" : ", ";
    text += std::to_string(size);
    separator = ',';
  }
  return text + (separator == '[' ? "[]" : "]");
}

Napi::Value signature(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::String::New(info.Env(), signature_of(tensor_at(info, 0, bridge))); });
}

// Frees a handle and returns its signature, for later errors about its use (one call instead of two: it is half the cost
// of a short-lived tensor). Null when it was not live.
Napi::Value release(const Info& info) {
  return guarded(info, [&](Bridge& bridge) -> Napi::Value {
    const at::Tensor* tensor = bridge.handles.tensors.find_value(number_at(info, 0));
    if (!tensor) return info.Env().Null();
    const std::string signature = signature_of(*tensor);
    bridge.handles.tensors.release(number_at(info, 0));
    return Napi::String::New(info.Env(), signature);
  });
}

Napi::Value live_tensors(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::Number::New(info.Env(), static_cast<double>(bridge.handles.tensors.live())); });
}

Napi::Value shape(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return array_of(info.Env(), tensor_at(info, 0, bridge).sizes()); });
}

Napi::Value strides(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return array_of(info.Env(), tensor_at(info, 0, bridge).strides()); });
}

Napi::Value dtype(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::String::New(info.Env(), dtype_name(tensor_at(info, 0, bridge).scalar_type())); });
}

Napi::Value device(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::String::New(info.Env(), tensor_at(info, 0, bridge).device().str()); });
}

Napi::Value requires_grad(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::Boolean::New(info.Env(), tensor_at(info, 0, bridge).requires_grad()); });
}

Napi::Value is_leaf(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::Boolean::New(info.Env(), tensor_at(info, 0, bridge).is_leaf()); });
}

Napi::Value gradient(const Info& info) {
  return guarded(info, [&](Bridge& bridge) -> Napi::Value {
    Results results(bridge.handles, info.Env());
    return results.complete(results.to_js(tensor_at(info, 0, bridge).grad(), {Kind::Tensor}));
  });
}

Napi::Value set_gradient(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    at::Tensor& tensor = tensor_at(info, 0, bridge);
    if (info[1].IsNull()) {
      tensor.mutable_grad() = at::Tensor();
      return info.Env().Undefined();
    }
    const at::Tensor& grad = tensor_at(info, 1, bridge);
    if (grad.sizes() != tensor.sizes() || grad.scalar_type() != tensor.scalar_type() || grad.device() != tensor.device())
      throw std::invalid_argument("a gradient has the shape, dtype and device of its tensor");
    tensor.mutable_grad() = grad;
    return info.Env().Undefined();
  });
}

// (bytes, shape, dtype) -> a new tensor on the CPU that owns a copy of the bytes.
Napi::Value from_data(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const std::vector<int64_t> sizes = shape_at(info, 1);
    const at::ScalarType scalar_type = dtype_from_name(string_at(info, 2));
    const Bytes bytes = bytes_at(info, 0);
    double expected = static_cast<double>(c10::elementSize(scalar_type));  // a double cannot overflow
    for (int64_t size : sizes) expected *= static_cast<double>(size);
    if (expected != static_cast<double>(bytes.length))
      throw std::invalid_argument("the data have " + std::to_string(bytes.length) + " bytes, the shape needs " + std::to_string(static_cast<long long>(std::min(expected, 9e15))));
    const at::Tensor tensor = at::empty(sizes, at::TensorOptions().dtype(scalar_type));
    auto* to = static_cast<char*>(tensor.data_ptr());
    if (scalar_type == at::kBool) {
      for (size_t k = 0; k < bytes.length; ++k) to[k] = bytes.data[k] != 0;  // any other byte in a bool is undefined behaviour
    } else if (bytes.length > 0) {
      std::memcpy(to, bytes.data, bytes.length);
    }
    return Napi::Number::New(info.Env(), bridge.handles.tensors.put(tensor));
  });
}

// (tensor, typed array): copies the tensor's elements, row by row, into the array.
Napi::Value read(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const at::Tensor tensor = tensor_at(info, 0, bridge).detach().cpu().contiguous();
    const Bytes bytes = bytes_at(info, 1);
    if (bytes.length != tensor.nbytes())
      throw std::invalid_argument("the array has " + std::to_string(bytes.length) + " bytes, the tensor " + std::to_string(tensor.nbytes()));
    if (bytes.length > 0) std::memcpy(bytes.data, tensor.data_ptr(), bytes.length);
    return info.Env().Undefined();
  });
}

// --- autograd -------------------------------------------------------------------------------------------

// (outputs, gradients or nulls, retainGraph, createGraph)
Napi::Value backward(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    torch::autograd::backward(tensors_at(info, 0, bridge), tensors_at(info, 1, bridge, true), bool_at(info, 2), bool_at(info, 3));
    return info.Env().Undefined();
  });
}

// (outputs, inputs, gradients or nulls, retainGraph, createGraph) -> gradients of the inputs, null where unused
Napi::Value gradients(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto grads = torch::autograd::grad(tensors_at(info, 0, bridge), tensors_at(info, 1, bridge), tensors_at(info, 2, bridge, true),
                                             bool_at(info, 3), bool_at(info, 4), /*allow_unused=*/true);
    Results results(bridge.handles, info.Env());
    return results.complete(results.to_js(c10::IValue(grads), {Kind::List}));
  });
}

Napi::Value grad_enabled(const Info& info) {
  return guarded(info, [&](Bridge&) { return Napi::Boolean::New(info.Env(), at::GradMode::is_enabled()); });
}

Napi::Value set_grad_enabled(const Info& info) {
  return guarded(info, [&](Bridge&) {
    at::GradMode::set_enabled(bool_at(info, 0));
    return info.Env().Undefined();
  });
}

// --- precision ------------------------------------------------------------------------------------------

// (device, dtype): until leaveAutocast(). "float32" is none.
Napi::Value enter_autocast(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const c10::DeviceType device = c10::Device(string_at(info, 0)).type();
    const at::ScalarType dtype = dtype_from_name(string_at(info, 1));
    const bool fits = device == at::kCPU ? dtype == at::kBFloat16 : device == at::kCUDA && (dtype == at::kBFloat16 || dtype == at::kHalf);
    if (!fits && dtype != at::kFloat) throw std::invalid_argument("autocast: expected bfloat16 on the CPU, bfloat16 or float16 on CUDA, or float32 for none");
    bridge.autocast.enter(device, dtype);
    return info.Env().Undefined();
  });
}

Napi::Value leave_autocast(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    bridge.autocast.leave();
    return info.Env().Undefined();
  });
}

// --- profile --------------------------------------------------------------------------------------------

Napi::Value start_profile(const Info& info) {
  return guarded(info, [&](Bridge&) {
    begin_profile();
    return info.Env().Undefined();
  });
}

Napi::Value profile_length(const Info& info) {
  return guarded(info, [&](Bridge&) { return Napi::Number::New(info.Env(), static_cast<double>(profiled_slices())); });
}

Napi::Value stop_profile(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const Napi::Env env = info.Env();
    const Profile profile = end_profile();
    const size_t count = profile.slices.size();
    const auto numbers = [&](auto value) {
      auto array = Napi::Float64Array::New(env, count);
      for (size_t k = 0; k < count; ++k) array[k] = static_cast<double>(value(profile.slices[k]));
      return array;
    };
    const auto texts = [&](const std::vector<std::string>& all) {
      auto array = Napi::Array::New(env, all.size());
      for (size_t k = 0; k < all.size(); ++k) array.Set(static_cast<uint32_t>(k), all[k]);
      return array;
    };
    using Slice = Profile::Slice;
    auto result = Napi::Object::New(env);
    result["names"] = texts(profile.names);
    result["shapes"] = texts(profile.shapes);
    result["thread"] = static_cast<double>(profile.thread);
    result["name"] = numbers([](const Slice& slice) { return slice.name; });
    result["shape"] = numbers([](const Slice& slice) { return slice.shapes; });
    result["threads"] = numbers([](const Slice& slice) { return slice.thread; });
    result["isBackward"] = numbers([](const Slice& slice) { return slice.is_backward; });
    result["sequence"] = numbers([](const Slice& slice) { return slice.sequence; });
    result["begin"] = numbers([](const Slice& slice) { return static_cast<double>(slice.begin) / 1000; });
    result["end"] = numbers([](const Slice& slice) { return static_cast<double>(slice.end) / 1000; });
    return result;
  });
}

// --- randomness -----------------------------------------------------------------------------------------

Napi::Value create_generator(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto seed = static_cast<uint64_t>(integer_at(info, 0, 0, 9007199254740991));
    return Napi::Number::New(info.Env(), bridge.handles.generators.put(at::make_generator<at::CPUGeneratorImpl>(seed)));
  });
}

Napi::Value release_generator(const Info& info) {
  return guarded(info, [&](Bridge& bridge) { return Napi::Boolean::New(info.Env(), bridge.handles.generators.release(number_at(info, 0))); });
}

Napi::Value manual_seed(const Info& info) {
  return guarded(info, [&](Bridge&) {
    at::manual_seed(static_cast<uint64_t>(integer_at(info, 0, 0, 9007199254740991)));
    return info.Env().Undefined();
  });
}

// The default generators that operators on a device draw from: the CPU's, and a GPU's own.
std::vector<at::Generator> default_generators(const std::string& name) {
  const at::Device device(name);
  std::vector<at::Generator> generators{at::globalContext().defaultGenerator(at::kCPU)};
  if (!device.is_cpu()) generators.push_back(at::globalContext().defaultGenerator(device));
  return generators;
}

// (device) -> their states one after the other, as a tensor of bytes on the CPU.
Napi::Value rng_state(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    std::vector<at::Tensor> states;
    for (at::Generator& generator : default_generators(string_at(info, 0))) {
      std::lock_guard<std::mutex> lock(generator.mutex());
      states.push_back(generator.get_state());
    }
    return Napi::Number::New(info.Env(), bridge.handles.tensors.put(at::cat(states)));
  });
}

// (state, device): a state of the CPU alone leaves the GPU's generator as it is; of more the CPU takes its own part.
Napi::Value set_rng_state(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    at::Tensor rest = tensor_at(info, 0, bridge).contiguous();
    TORCH_CHECK(rest.is_cpu() && rest.scalar_type() == at::kByte && rest.dim() == 1, "a generator's state is bytes on the CPU");
    std::vector<std::pair<at::Generator, at::Tensor>> parts;
    for (at::Generator& generator : default_generators(string_at(info, 1))) {
      if (!parts.empty() && rest.numel() == 0) break;
      std::lock_guard<std::mutex> lock(generator.mutex());
      const int64_t size = generator.get_state().numel();
      TORCH_CHECK(rest.numel() >= size, "a generator's state has ", size, " bytes, got ", rest.numel());
      parts.emplace_back(generator, rest.narrow(0, 0, size));
      rest = rest.narrow(0, size, rest.numel() - size);
    }
    // The layout of CPUGeneratorImplStateLegacy. libtorch checks `left` and `next` one by one, but together they must not lead
    // behind the 624 words of the Mersenne Twister.
    int32_t left;
    uint32_t next;
    const auto* first = parts.front().second.data_ptr<uint8_t>();
    std::memcpy(&left, first + 8, sizeof left);
    std::memcpy(&next, first + 16, sizeof next);
    TORCH_CHECK(static_cast<int64_t>(left) + next <= 625, "Invalid mt19937 state");
    for (auto& [generator, part] : parts) {
      std::lock_guard<std::mutex> lock(generator.mutex());
      generator.set_state(part);
    }
    return info.Env().Undefined();
  });
}

// --- the machine ----------------------------------------------------------------------------------------

Napi::Value threads(const Info& info) {
  return guarded(info, [&](Bridge&) { return Napi::Number::New(info.Env(), at::get_num_threads()); });
}

Napi::Value set_threads(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const auto count = static_cast<int>(integer_at(info, 0, 1, 1024));
    at::set_num_threads(count);
    set_blas_threads(count);
    return info.Env().Undefined();
  });
}

Napi::Value set_cudnn_benchmark(const Info& info) {
  return guarded(info, [&](Bridge&) {
    at::globalContext().setBenchmarkCuDNN(bool_at(info, 0));
    return info.Env().Undefined();
  });
}

Napi::Value memory(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const MemoryStats stats = memory_stats();
    auto result = Napi::Object::New(info.Env());
    result["liveBytes"] = static_cast<double>(stats.live_bytes);
    result["cachedBytes"] = static_cast<double>(stats.cached_bytes);
    result["peakBytes"] = static_cast<double>(stats.peak_bytes);
    result["limitBytes"] = static_cast<double>(stats.limit_bytes);
    return result;
  });
}

Napi::Value reset_peak_memory(const Info& info) {
  return guarded(info, [&](Bridge&) {
    reset_peak();
    return info.Env().Undefined();
  });
}

Napi::Value release_cached_memory(const Info& info) {
  return guarded(info, [&](Bridge&) {
    release_cached();
    return info.Env().Undefined();
  });
}

Napi::Value build_info(const Info& info) {
  return guarded(info, [&](Bridge&) {
    auto result = Napi::Object::New(info.Env());
    result["libtorch"] = TORCH_VERSION;
    result["config"] = at::show_config();
    result["parallel"] = at::get_parallel_info();
#ifdef INTRA_OP_PARALLEL
    result["operatorsShareThreads"] = true;
#else
    result["operatorsShareThreads"] = false;
#endif
    result["cudaDevices"] = static_cast<double>(torch::cuda::device_count());
#ifdef PIXELWISE_CUDA
    result["cudaGraphs"] = true;
#else
    result["cudaGraphs"] = false;
#endif
    const char* bfloat16 = bfloat16_instructions();
    result["bfloat16"] = bfloat16 ? Napi::String::New(info.Env(), bfloat16) : info.Env().Null();
    const char* kernels = openblas_kernels();
    result["openBlasKernels"] = kernels ? Napi::String::New(info.Env(), kernels) : info.Env().Null();
    return result;
  });
}

Napi::Value narrow_products(const Info& info) {
  return guarded(info, [&](Bridge&) { return Napi::Boolean::New(info.Env(), products_are_narrow()); });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  static const bool installed = (install_allocator(), true);
  (void)installed;
  env.SetInstanceData(new Bridge);

  const std::pair<const char*, Napi::Value (*)(const Info&)> functions[] = {
      {"operatorNames", operator_names},
      {"narrowProducts", narrow_products},
      {"findOperator", find_operator},
      {"call", call},
      {"signature", signature},
      {"release", release},
      {"liveTensors", live_tensors},
      {"shape", shape},
      {"strides", strides},
      {"dtype", dtype},
      {"device", device},
      {"requiresGrad", requires_grad},
      {"isLeaf", is_leaf},
      {"gradient", gradient},
      {"setGradient", set_gradient},
      {"fromData", from_data},
      {"read", read},
      {"backward", backward},
      {"gradients", gradients},
      {"gradEnabled", grad_enabled},
      {"setGradEnabled", set_grad_enabled},
      {"enterAutocast", enter_autocast},
      {"leaveAutocast", leave_autocast},
      {"startProfile", start_profile},
      {"profileLength", profile_length},
      {"stopProfile", stop_profile},
      {"createGenerator", create_generator},
      {"releaseGenerator", release_generator},
      {"manualSeed", manual_seed},
      {"rngState", rng_state},
      {"setRngState", set_rng_state},
      {"threads", threads},
      {"setThreads", set_threads},
      {"setCudnnBenchmark", set_cudnn_benchmark},
      {"memory", memory},
      {"resetPeakMemory", reset_peak_memory},
      {"releaseCachedMemory", release_cached_memory},
      {"buildInfo", build_info},
  };
  for (const auto& [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
  export_process_groups(env, exports);
  export_cuda_graphs(env, exports);
  return exports;
}

}  // namespace
}  // namespace pixelwise

static Napi::Object init(Napi::Env env, Napi::Object exports) { return pixelwise::init(env, exports); }
NODE_API_MODULE(pixelwise, init)
