// Several processes that train together: libtorch's own store, process groups and gradient buckets (c10d), which PyTorch's
// DistributedDataParallel is made of. gloo carries tensors of the CPU, NCCL those of CUDA where a build has it.
//
// What waits for other processes before training (store, rendezvous) runs in the background and gives a Promise. What a training
// step waits for is synchronous, as the step is; gloo ends each wait with an exception when its timeout has passed or a
// connection is closed.
#include "process-group.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <torch/version.h>

#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "bridge.h"

#ifdef USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

namespace pixelwise {

#ifndef USE_C10D_GLOO

void sum_over_group(at::Tensor, int64_t) { throw std::runtime_error("this build of the addon has no process groups"); }

void export_process_groups(Napi::Env env, Napi::Object exports) { exports["groupBackends"] = Napi::Array::New(env); }

#else

namespace {

using std::chrono::milliseconds;
using StorePtr = c10::intrusive_ptr<c10d::Store>;
using GroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;

// A store in which a process is frozen answers nothing; a question to it ends after this time.
constexpr milliseconds kAnswerWithin{10'000};

struct Meeting {
  c10::intrusive_ptr<c10d::TCPStore> socket;
  StorePtr keys;  // the same, with a prefix before each
};

struct Group {
  GroupPtr cpu;
  GroupPtr cuda;  // null without NCCL
  // Destroyed before the groups, which they use.
  std::map<int64_t, std::unique_ptr<c10d::Reducer>> reducers;

  const GroupPtr& of(const at::Tensor& tensor) const {
    if (tensor.is_cpu()) return cpu;
    TORCH_CHECK(tensor.is_cuda() && cuda, "this build has no process group for tensors on ", tensor.device());
    return cuda;
  }
};

// What JavaScript and the operators know by a number. Never destroyed: at the process's end its threads may still be waiting.
template <typename T>
class Registry {
 public:
  int64_t put(T value) {
    std::lock_guard<std::mutex> lock(mutex_);
    values_[++last_] = std::move(value);
    return last_;
  }

  T get(int64_t id) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = values_.find(id);
    if (found == values_.end()) throw std::invalid_argument("the process group was left, or never joined");
    return found->second;
  }

  T take(int64_t id) {
    T value = get(id);
    std::lock_guard<std::mutex> lock(mutex_);
    values_.erase(id);
    return value;
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, T> values_;
  int64_t last_ = 0;
};

auto& stores = *new Registry<Meeting>;
auto& groups = *new Registry<std::shared_ptr<Group>>;

int64_t id_at(const Info& info, size_t k) { return integer_at(info, k, 0, 9007199254740991); }
milliseconds duration_at(const Info& info, size_t k) { return milliseconds(integer_at(info, k, 1, 7 * 24 * 3600 * 1000)); }

// --- in the background ----------------------------------------------------------------------------------

class Background : public Napi::AsyncWorker {
 public:
  using Answer = std::function<Napi::Value(Napi::Env)>;

  // `work` runs in another thread, and what it returns makes the Promise's value in JavaScript's.
  static Napi::Value start(const Info& info, std::function<Answer()> work) {
    auto* worker = new Background(info.Env(), std::move(work));
    worker->Queue();
    return worker->deferred_.Promise();
  }

 protected:
  void Execute() override {
    try {
      answer_ = work_();
    } catch (const c10::Error& error) {
      SetError(error.what_without_backtrace());
    } catch (const std::exception& error) {
      SetError(error.what());
    } catch (...) {
      SetError("libtorch threw something that is not an exception");
    }
  }
  void OnOK() override { deferred_.Resolve(answer_(Env())); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Background(Napi::Env env, std::function<Answer()> work) : Napi::AsyncWorker(env), deferred_(env), work_(std::move(work)) {}

  Napi::Promise::Deferred deferred_;
  std::function<Answer()> work_;
  Answer answer_;
};

Background::Answer number(int64_t value) {
  return [value](Napi::Env env) { return Napi::Number::New(env, static_cast<double>(value)); };
}
const Background::Answer nothing = [](Napi::Env env) { return env.Undefined(); };

// --- the store ------------------------------------------------------------------------------------------

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

// A first answer: only with it the socket gets its limit.
void limit_answers(c10d::TCPStore& store) {
  store.setTimeout(kAnswerWithin);
  store.set("limit", bytes_of("10 s"));
  store.get("limit");
}

// (host, port, isServer, milliseconds, prefix of all keys) -> a store
Napi::Value open_store(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const std::string host = string_at(info, 0), prefix = string_at(info, 4);
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(integer_at(info, 1, 0, 65535));
    options.isServer = bool_at(info, 2);
    options.waitWorkers = false;
    options.timeout = duration_at(info, 3);
    return Background::start(info, [host, options, prefix] {
      const auto socket = c10::make_intrusive<c10d::TCPStore>(host, options);
      limit_answers(*socket);
      return number(stores.put({socket, c10::make_intrusive<c10d::PrefixStore>(prefix, socket)}));
    });
  });
}

// (store, key, text)
Napi::Value store_set(const Info& info) {
  return guarded(info, [&](Bridge&) {
    return Background::start(info, [store = stores.get(id_at(info, 0)).keys, key = string_at(info, 1), text = string_at(info, 2)] {
      store->set(key, bytes_of(text));
      return nothing;
    });
  });
}

// (store, key) -> the text, or null where there is none yet
Napi::Value store_get(const Info& info) {
  return guarded(info, [&](Bridge&) {
    return Background::start(info, [store = stores.get(id_at(info, 0)).keys, key = string_at(info, 1)]() -> Background::Answer {
      if (!store->check({key})) return [](Napi::Env env) { return env.Null(); };
      const auto bytes = store->get(key);
      return [text = std::string(bytes.begin(), bytes.end())](Napi::Env env) { return Napi::String::New(env, text); };
    });
  });
}

// (store, key, number) -> the sum of all that was added under the key
Napi::Value store_add(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const int64_t value = integer_at(info, 2, 0, 1 << 30);
    return Background::start(info, [store = stores.get(id_at(info, 0)).keys, key = string_at(info, 1), value] { return number(store->add(key, value)); });
  });
}

Napi::Value close_store(const Info& info) {
  return guarded(info, [&](Bridge&) {
    return Background::start(info, [store = stores.take(id_at(info, 0))]() mutable {
      store = {};
      return nothing;
    });
  });
}

// --- the group ------------------------------------------------------------------------------------------

#if TORCH_VERSION_MAJOR >= 2
// From 2.0 on a process group hands each device's tensors to a backend of its own. Reviewed against the headers; untested.
template <typename Backend>
GroupPtr group_of(const StorePtr& store, c10::intrusive_ptr<Backend> backend, c10::DeviceType device, c10d::ProcessGroup::BackendType type) {
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 6
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, backend->getRank(), backend->getSize(),
                                                         c10::make_intrusive<c10d::ProcessGroup::Options>(backend->getBackendName()));
#else
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, backend->getRank(), backend->getSize());
  group->setDefaultBackend(type);
#endif
  group->setBackend(device, type, backend);
  return group;
}
#define PIXELWISE_GROUP(store, backend, device, type) group_of(store, backend, c10::DeviceType::device, c10d::ProcessGroup::BackendType::type)
#else
#define PIXELWISE_GROUP(store, backend, device, type) (backend)
#endif

// (store, rank, size, address of this machine, milliseconds) -> a group; waits until all processes are connected
Napi::Value create_group(const Info& info) {
  return guarded(info, [&](Bridge&) {
    const Meeting meeting = stores.get(id_at(info, 0));
    const int size = static_cast<int>(integer_at(info, 2, 1, 1 << 20)), rank = static_cast<int>(integer_at(info, 1, 0, size - 1));
    const std::string address = string_at(info, 3);
    const milliseconds timeout = duration_at(info, 4);
    return Background::start(info, [=] {
      meeting.socket->setTimeout(timeout);
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
      auto group = std::make_shared<Group>();
      const StorePtr gloo_store = c10::make_intrusive<c10d::PrefixStore>("gloo", meeting.keys);
      group->cpu = PIXELWISE_GROUP(gloo_store, c10::make_intrusive<c10d::ProcessGroupGloo>(gloo_store, rank, size, options), CPU, GLOO);
#ifdef USE_C10D_NCCL
      const StorePtr nccl_store = c10::make_intrusive<c10d::PrefixStore>("nccl", meeting.keys);
      auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
      nccl_options->timeout = timeout;
      group->cuda = PIXELWISE_GROUP(nccl_store, c10::make_intrusive<c10d::ProcessGroupNCCL>(nccl_store, rank, size, nccl_options), CUDA, NCCL);
#endif
      limit_answers(*meeting.socket);
      return number(groups.put(std::move(group)));
    });
  });
}

// Leaves it, and waits until its threads have ended.
Napi::Value leave_group(const Info& info) {
  return guarded(info, [&](Bridge&) {
    auto group = groups.take(id_at(info, 0));
    group->reducers.clear();  // here, in the thread that made them
    return Background::start(info, [group = std::move(group)]() mutable {
      group.reset();
      return nothing;
    });
  });
}

// Leaves it after a failure: connections are closed, which the others notice. What is still under way to a frozen process ends by
// its timeout, and nobody waits for that.
Napi::Value abandon_group(const Info& info) {
  return guarded(info, [&](Bridge&) {
    auto group = groups.take(id_at(info, 0));
    group->reducers.clear();
    std::thread([group = std::move(group)]() mutable { group.reset(); }).detach();
    return info.Env().Undefined();
  });
}

// (group, tensor): in place
Napi::Value all_reduce(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    sum_over_group(tensor_at(info, 1, bridge).detach(), id_at(info, 0));
    return info.Env().Undefined();
  });
}

// (group, tensors, root): each takes the root's numbers, in place
Napi::Value broadcast(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto group = groups.get(id_at(info, 0));
    c10d::BroadcastOptions options;
    options.rootRank = integer_at(info, 2, 0, group->cpu->getSize() - 1);
    for (const at::Tensor& tensor : tensors_at(info, 1, bridge)) {
      const at::Tensor own = tensor.detach();
      std::vector<at::Tensor> sent{own.contiguous()};
      group->of(own)->broadcast(sent, options)->wait();
      if (!sent[0].is_same(own)) own.copy_(sent[0]);
    }
    return info.Env().Undefined();
  });
}

// (group, tensor) -> the tensors of all ranks, which must have one shape, in order
Napi::Value all_gather(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto group = groups.get(id_at(info, 0));
    std::vector<at::Tensor> sent{tensor_at(info, 1, bridge).detach().contiguous()};
    std::vector<std::vector<at::Tensor>> received(1);
    for (int k = 0; k < group->cpu->getSize(); ++k) received[0].push_back(at::empty_like(sent[0]));
    group->of(sent[0])->allgather(received, sent)->wait();
    Results results(bridge.handles, info.Env());
    return results.complete(results.to_js(c10::IValue(received[0]), {Kind::List}));
  });
}

Napi::Value barrier(const Info& info) {
  return guarded(info, [&](Bridge&) {
    return Background::start(info, [group = groups.get(id_at(info, 0))] {
      group->cpu->barrier()->wait();
      return nothing;
    });
  });
}

// --- gradients ------------------------------------------------------------------------------------------

#if TORCH_VERSION_MAJOR >= 2
namespace warning = c10::WarningUtils;
struct Quiet : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};
#else
namespace warning = c10::Warning;
struct Quiet : c10::WarningHandler {
  void process(const c10::SourceLocation&, const std::string&, const bool) override {}
};
#endif

// (group, parameters, bytes of a bucket) -> a reducer: from now on it listens when gradients become ready. Parameters come in
// the order in which the forward uses them; gradients become ready in the reverse.
Napi::Value create_reducer(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto group = groups.get(id_at(info, 0));
    const auto parameters = tensors_at(info, 1, bridge);
    const auto bytes = integer_at(info, 2, 1, int64_t{1} << 40);
    TORCH_CHECK(!parameters.empty(), "there are no parameters whose gradients could be reduced");
    const std::vector<bool> sparse(parameters.size(), false);
    const int64_t first = std::min<int64_t>(bytes, c10d::kDefaultFirstBucketBytes);  // small, so that the first reduction begins early
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(parameters, {static_cast<size_t>(first), static_cast<size_t>(bytes)}, sparse);
    std::reverse(buckets.begin(), buckets.end());
    std::reverse(limits.begin(), limits.end());
    auto reducer = std::make_unique<c10d::Reducer>(parameters, buckets, limits, group->of(parameters[0]), sparse, bytes, /*find_unused_parameters=*/true,
                                                   /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>{}, first);
    const int64_t id = group->reducers.empty() ? 1 : group->reducers.rbegin()->first + 1;
    group->reducers[id] = std::move(reducer);
    return Napi::Number::New(info.Env(), static_cast<double>(id));
  });
}

// (group, reducer, loss): the next backward of this loss ends with the mean of the gradients over all processes.
Napi::Value prepare_reduction(const Info& info) {
  return guarded(info, [&](Bridge& bridge) {
    const auto group = groups.get(id_at(info, 0));
    Quiet quiet;  // that all parameters are used is no reason for a warning
    const warning::WarningHandlerGuard guard(&quiet);
    group->reducers.at(id_at(info, 1))->prepare_for_backward({tensor_at(info, 2, bridge)});
    return info.Env().Undefined();
  });
}

Napi::Value release_reducer(const Info& info) {
  return guarded(info, [&](Bridge&) {
    groups.get(id_at(info, 0))->reducers.erase(id_at(info, 1));
    return info.Env().Undefined();
  });
}

// --- a sum with a gradient ------------------------------------------------------------------------------

struct SumOverRanks : torch::autograd::Function<SumOverRanks> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t group) {
    context->saved_data["group"] = group;
    const at::Tensor y = x.clone(at::MemoryFormat::Contiguous);
    sum_over_group(y, group);
    return y;
  }

  // All ranks' results depend on this rank's x, with slope 1.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    return {apply(gradients[0], context->saved_data["group"].toInt()), {}};
  }
};

at::Tensor sum_over_ranks(const at::Tensor& x, int64_t group) { return SumOverRanks::apply(x, group); }

TORCH_LIBRARY_FRAGMENT(pixelwise, library) { library.def("sum_over_ranks(Tensor x, int group) -> Tensor", sum_over_ranks); }

}  // namespace

void sum_over_group(at::Tensor tensor, int64_t id) {
  const auto group = groups.get(id);
  std::vector<at::Tensor> sent{tensor.contiguous()};
  group->of(tensor)->allreduce(sent)->wait();
  if (!sent[0].is_same(tensor)) tensor.copy_(sent[0]);
}

void export_process_groups(Napi::Env env, Napi::Object exports) {
  auto backends = Napi::Array::New(env);
  backends.Set(0u, "gloo");
#ifdef USE_C10D_NCCL
  backends.Set(1u, "nccl");
#endif
  exports["groupBackends"] = backends;
  const std::pair<const char*, Napi::Value (*)(const Info&)> functions[] = {
      {"openStore", open_store},
      {"storeSet", store_set},
      {"storeGet", store_get},
      {"storeAdd", store_add},
      {"closeStore", close_store},
      {"createGroup", create_group},
      {"leaveGroup", leave_group},
      {"abandonGroup", abandon_group},
      {"allReduce", all_reduce},
      {"broadcast", broadcast},
      {"allGather", all_gather},
      {"barrier", barrier},
      {"createReducer", create_reducer},
      {"prepareReduction", prepare_reduction},
      {"releaseReducer", release_reducer},
  };
  for (const auto& [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
}

#endif

}  // namespace pixelwise
