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

// One return value of a call; tensors become handles that the caller owns, undefined tensors null.
Napi::Value to_js(const c10::IValue& value, const ValueType& type, Handles& handles, Napi::Env env);

}  // namespace pixelwise
