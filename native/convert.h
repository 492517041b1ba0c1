// JavaScript values to libtorch's boxed values and back, each checked against the operator's schema.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/Generator.h>
#include <c10/util/SmallVector.h>
#include <napi.h>

#include "handles.h"
#include "schema.h"

namespace pixelwise {

struct Handles {
  HandleTable<at::Tensor> tensors{"tensor"};
  HandleTable<at::Generator> generators{"generator"};
};

// The longest ATen schema takes 24 arguments or so: no allocation for them.
using Arguments = c10::SmallVector<napi_value, 24>;

// Names as users write them: "float32", "int64", ...
at::ScalarType dtype_from_name(const std::string& name);
const char* dtype_name(at::ScalarType dtype);

// Pushes the converted arguments of one call. Throws std::invalid_argument with the argument's name and type.
void push_arguments(const Operator& op, Handles& handles, const Arguments& values, Napi::Env env, std::vector<c10::IValue>& stack);

// The return values of one call. Tensors become handles that the caller owns, undefined tensors null. When one value
// cannot be converted, the handles of those before it are released again.
class Results {
 public:
  Results(Handles& handles, Napi::Env env) : handles_(handles), env_(env) {}
  Results(const Results&) = delete;
  ~Results() {
    for (double handle : made_) handles_.tensors.release(handle);
  }

  Napi::Value to_js(const c10::IValue& value, const ValueType& type);

  Napi::Value complete(const Napi::Value& all) {
    made_.clear();
    return all;
  }

 private:
  Napi::Value to_js(const at::Tensor& tensor);

  Handles& handles_;
  Napi::Env env_;
  c10::SmallVector<double, 4> made_;
};

}  // namespace pixelwise
