// What every function that JavaScript can call is written with: the state of its environment, exceptions turned into Errors,
// and arguments that are checked before libtorch sees them.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "autocast.h"
#include "convert.h"
#include "schema.h"

namespace pixelwise {

using Info = Napi::CallbackInfo;

struct Bridge {
  Handles handles;
  std::vector<std::unique_ptr<Operator>> operators;
  Autocast autocast;
};

// Runs `body` and turns what it throws into a pending JavaScript exception.
template <typename Body>
Napi::Value guarded(const Info& info, Body body) {
  try {
    return body(*info.Env().GetInstanceData<Bridge>());
  } catch (const Napi::Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw Napi::Error::New(info.Env(), error.what_without_backtrace());
  } catch (const std::invalid_argument& error) {
    throw Napi::TypeError::New(info.Env(), error.what());
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  } catch (...) {
    throw Napi::Error::New(info.Env(), "libtorch threw something that is not an exception");
  }
}

// --- arguments of the exported functions -------------------------------------------------------------------

inline double number_at(const Info& info, size_t k) {
  if (!info[k].IsNumber()) throw std::invalid_argument("argument " + std::to_string(k) + " must be a number");
  return info[k].As<Napi::Number>().DoubleValue();
}

inline int64_t integer_at(const Info& info, size_t k, int64_t low, int64_t high) {
  const double number = number_at(info, k);
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != std::floor(number))
    throw std::invalid_argument("argument " + std::to_string(k) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return static_cast<int64_t>(number);
}

inline bool bool_at(const Info& info, size_t k) {
  if (!info[k].IsBoolean()) throw std::invalid_argument("argument " + std::to_string(k) + " must be true or false");
  return info[k].As<Napi::Boolean>().Value();
}

inline std::string string_at(const Info& info, size_t k) {
  if (!info[k].IsString()) throw std::invalid_argument("argument " + std::to_string(k) + " must be a string");
  return info[k].As<Napi::String>().Utf8Value();
}

inline at::Tensor& tensor_at(const Info& info, size_t k, Bridge& bridge) { return bridge.handles.tensors.get(number_at(info, k)); }

// An array of handles; null stands for an undefined tensor where the caller allows it.
inline std::vector<at::Tensor> tensors_at(const Info& info, size_t k, Bridge& bridge, bool allow_null = false) {
  if (!info[k].IsArray()) throw std::invalid_argument("argument " + std::to_string(k) + " must be an array of tensors");
  const auto array = info[k].As<Napi::Array>();
  std::vector<at::Tensor> result;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    if (element.IsNull() && allow_null) {
      result.emplace_back();
    } else if (element.IsNumber()) {
      result.push_back(bridge.handles.tensors.get(element.As<Napi::Number>().DoubleValue()));
    } else {
      throw std::invalid_argument("argument " + std::to_string(k) + " must hold tensors only");
    }
  }
  return result;
}

}  // namespace pixelwise
