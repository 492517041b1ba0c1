#include "convert.h"

#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <array>
#include <type_traits>
#include <utility>

namespace pixelwise {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

constexpr std::array<std::pair<const char*, at::ScalarType>, 12> kDtypes{{
    {"float32", at::kFloat},
    {"float64", at::kDouble},
    {"float16", at::kHalf},
    {"bfloat16", at::kBFloat16},
    {"int64", at::kLong},
    {"int32", at::kInt},
    {"int16", at::kShort},
    {"int8", at::kChar},
    {"uint8", at::kByte},
    {"bool", at::kBool},
    {"complex64", at::kComplexFloat},
    {"complex128", at::kComplexDouble},
}};

// What a value is, for messages.
std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: return "the number " + value.ToString().Utf8Value();
    case napi_bigint: return "a bigint";
    case napi_string: return "the string \"" + value.As<Napi::String>().Utf8Value().substr(0, 40) + "\"";
    case napi_function: return "a function";
    case napi_symbol: return "a symbol";
    default: return value.IsArray() ? "an array" : "an object";
  }
}

[[noreturn]] void mismatch(const char* expected, const Napi::Value& got) {
  throw std::invalid_argument(std::string("expected ") + expected + ", got " + describe(got));
}

int64_t to_int(const Napi::Value& value) {
  if (!value.IsNumber()) mismatch("an integer", value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= -kMaxSafeInteger && number <= kMaxSafeInteger) || number != std::floor(number)) mismatch("an integer", value);
  return static_cast<int64_t>(number);
}

double to_float(const Napi::Value& value) {
  if (!value.IsNumber()) mismatch("a number", value);
  return value.As<Napi::Number>().DoubleValue();
}

bool to_bool(const Napi::Value& value) {
  if (!value.IsBoolean()) mismatch("true or false", value);
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(const Napi::Value& value, const char* expected) {
  if (!value.IsString()) mismatch(expected, value);
  return value.As<Napi::String>().Utf8Value();
}

const at::Tensor& to_tensor(const Napi::Value& value, Handles& handles) {
  if (!value.IsNumber()) mismatch("a tensor", value);
  return handles.tensors.get(value.As<Napi::Number>().DoubleValue());
}

at::Layout layout_from_name(const std::string& name) {
  if (name == "strided") return at::kStrided;
  if (name == "sparse_coo") return at::kSparse;
  throw std::invalid_argument("unknown layout \"" + name + "\"; expected strided or sparse_coo");
}

at::MemoryFormat memory_format_from_name(const std::string& name) {
  if (name == "contiguous") return at::MemoryFormat::Contiguous;
  if (name == "channels_last") return at::MemoryFormat::ChannelsLast;
  if (name == "preserve") return at::MemoryFormat::Preserve;
  throw std::invalid_argument("unknown memory format \"" + name + "\"; expected contiguous, channels_last or preserve");
}

// What a plain number means follows the tensor it meets: 2 is an integer beside integers and a float beside floats.
// With no tensor (factories: full, arange) it is a float, so that factories give float32.
bool scalars_are_integers(const Operator& op, Handles& handles, const Arguments& values, Napi::Env env) {
  for (size_t k = 0; k < op.arguments.size() && k < values.size(); ++k) {
    if (op.arguments[k].kind != Kind::Tensor) continue;
    const Napi::Value value(env, values[k]);
    if (value.IsNumber()) return at::isIntegralType(to_tensor(value, handles).scalar_type(), /*includeBool=*/true);
  }
  return false;
}

// [2^31, 0] is a legal shape without elements, and many loops run over its first axis all the same, for minutes.
template <typename Sizes>
void check_extent(const Sizes& sizes) {
  constexpr double kMost = 1e9;
  bool empty = false;
  double extent = 1;
  for (const int64_t size : sizes) {
    empty = empty || size == 0;
    if (size > 0) extent *= static_cast<double>(size);
  }
  if (empty && extent > kMost) throw std::invalid_argument("a shape without elements has axes that multiply to more than 1e9");
}

struct Converter {
  const Operator& op;
  Handles& handles;
  const Arguments& values;
  Napi::Env env;

  c10::IValue scalar(const Napi::Value& value) const {
    if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
    const double number = to_float(value);
    const bool whole = number == std::floor(number) && std::abs(number) <= kMaxSafeInteger;
    if (whole && scalars_are_integers(op, handles, values, env)) return static_cast<int64_t>(number);
    return number;
  }

  c10::IValue single(Kind kind, const Napi::Value& value) const {
    switch (kind) {
      case Kind::Tensor: return to_tensor(value, handles);
      case Kind::Int: return to_int(value);
      case Kind::Float: return to_float(value);
      case Kind::Bool: return to_bool(value);
      case Kind::Scalar: return scalar(value);
      case Kind::String: return to_string(value, "a string");
      case Kind::DType: return static_cast<int64_t>(dtype_from_name(to_string(value, "a dtype name")));
      case Kind::Layout: return static_cast<int64_t>(layout_from_name(to_string(value, "a layout name")));
      case Kind::MemoryFormat: return static_cast<int64_t>(memory_format_from_name(to_string(value, "a memory format name")));
      case Kind::Device: return c10::Device(to_string(value, "a device name"));
      case Kind::Generator:
        if (!value.IsNumber()) mismatch("a generator", value);
        return handles.generators.get(value.As<Napi::Number>().DoubleValue());
      default: throw std::invalid_argument("this type of argument cannot be passed from JavaScript");
    }
  }

  template <typename T, typename Convert>
  c10::IValue list(const ValueType& type, const Napi::Value& value, Convert convert) const {
    c10::List<T> result;
    if (!value.IsArray()) {
      // PyTorch's rule: where the schema says int[2], the number 3 stands for [3, 3].
      if (type.fixed_size > 0 && (value.IsNumber() || value.IsBoolean())) {
        for (int32_t k = 0; k < type.fixed_size; ++k) result.push_back(convert(value));
        return result;
      }
      mismatch("an array", value);
    }
    const auto array = value.As<Napi::Array>();
    const uint32_t length = array.Length();
    // new Array(4e9) is a legal, sparse, JavaScript array, and an operator's time may grow with the square of a list's length.
    constexpr uint32_t kMost = std::is_same_v<T, at::Tensor> ? 1'000'000 : 10'000;
    if (length > kMost) throw std::invalid_argument("a list of " + std::to_string(length) + " entries is too long");
    if (type.fixed_size > 1) {
      // Many kernels read list[1] of an int[2] without looking how long the list is.
      const auto expected = static_cast<uint32_t>(type.fixed_size);
      if (length == 1) {
        const T entry = convert(array.Get(0u));
        for (uint32_t k = 0; k < expected; ++k) result.push_back(entry);
        return result;
      }
      if (length != expected && !(length == 0 && type.empty_default))
        throw std::invalid_argument("expected " + std::to_string(expected) + " entries, got " + std::to_string(length));
    }
    result.reserve(length);
    for (uint32_t k = 0; k < length; ++k) result.push_back(convert(array.Get(k)));
    return result;
  }

  c10::IValue argument(const ValueType& type, const Napi::Value& value) const {
    if (type.optional && (value.IsNull() || value.IsUndefined())) return {};
    if (type.kind != Kind::List) return single(type.kind, value);
    switch (type.element) {
      case Kind::Int: {
        const c10::IValue sizes = list<int64_t>(type, value, [](const Napi::Value& v) { return to_int(v); });
        check_extent(sizes.toIntVector());
        return sizes;
      }
      case Kind::Float: return list<double>(type, value, [](const Napi::Value& v) { return to_float(v); });
      case Kind::Bool: return list<bool>(type, value, [](const Napi::Value& v) { return to_bool(v); });
      case Kind::Scalar: return list<at::Scalar>(type, value, [this](const Napi::Value& v) { return scalar(v).toScalar(); });
      case Kind::Tensor:
        if (type.element_optional)
          return list<c10::optional<at::Tensor>>(type, value, [this](const Napi::Value& v) -> c10::optional<at::Tensor> {
            if (v.IsNull() || v.IsUndefined()) return {};
            return to_tensor(v, handles);
          });
        return list<at::Tensor>(type, value, [this](const Napi::Value& v) { return to_tensor(v, handles); });
      default: throw std::invalid_argument("lists of this type cannot be passed from JavaScript");
    }
  }
};

Napi::Value int_to_js(int64_t value, Napi::Env env) {
  if (value > static_cast<int64_t>(kMaxSafeInteger) || value < -static_cast<int64_t>(kMaxSafeInteger))
    throw std::range_error("the integer " + std::to_string(value) + " does not fit a JavaScript number (at most 2^53 - 1)");
  return Napi::Number::New(env, static_cast<double>(value));
}

template <typename List, typename Convert>
Napi::Value list_to_js(const List& list, Napi::Env env, Convert convert) {
  auto array = Napi::Array::New(env, list.size());
  uint32_t k = 0;
  for (const auto& element : list) array.Set(k++, convert(element));
  return array;
}

}  // namespace

at::ScalarType dtype_from_name(const std::string& name) {
  std::string known;
  for (const auto& [text, dtype] : kDtypes) {
    if (name == text) return dtype;
    known += known.empty() ? text : std::string(", ") + text;
  }
  throw std::invalid_argument("unknown dtype \"" + name.substr(0, 40) + "\"; expected one of " + known);
}

const char* dtype_name(at::ScalarType dtype) {
  for (const auto& [text, known] : kDtypes)
    if (dtype == known) return text;
  return at::toString(dtype);  // quantised types and other guests, by libtorch's own name
}

void push_arguments(const Operator& op, Handles& handles, const Arguments& values, Napi::Env env, std::vector<c10::IValue>& stack) {
  const auto& schema = op.handle.schema().arguments();
  if (values.size() > schema.size())
    throw std::invalid_argument("takes at most " + std::to_string(schema.size()) + " arguments, got " + std::to_string(values.size()));
  const Converter convert{op, handles, values, env};
  stack.reserve(schema.size());
  for (size_t k = 0; k < schema.size(); ++k) {
    const bool given = k < values.size() && !Napi::Value(env, values[k]).IsUndefined();
    if (!given && schema[k].default_value()) {
      stack.push_back(*schema[k].default_value());
      continue;
    }
    const Napi::Value value = given ? Napi::Value(env, values[k]) : env.Undefined();
    try {
      stack.push_back(convert.argument(op.arguments[k], value));
    } catch (const Napi::Error&) {
      throw;  // a JavaScript exception is pending (a getter threw); let it through
    } catch (const std::exception& error) {
      throw std::invalid_argument("argument " + std::to_string(k) + " (" + schema[k].name() + ": " + schema[k].real_type()->str() + "): " + error.what());
    }
  }
}

Napi::Value Results::to_js(const at::Tensor& tensor) {
  if (!tensor.defined()) return env_.Null();
  // libtorch's kernels for other kinds of tensors trust their arguments: with a sparse, quantised or mkldnn tensor in the
  // wrong place many of them read wild memory. So no handle ever names one.
  if (tensor.layout() != at::kStrided || tensor.is_quantized() || tensor.is_nested() || tensor._is_zerotensor() || tensor.is_meta())
    throw std::invalid_argument("returned a sparse, quantised, nested or meta tensor; only dense tensors with data can be used");
  if (tensor.numel() == 0) check_extent(tensor.sizes());
  made_.push_back(handles_.tensors.put(tensor));
  return Napi::Number::New(env_, made_.back());
}

Napi::Value Results::to_js(const c10::IValue& value, const ValueType& type) {
  if (value.isTensor()) return to_js(value.toTensor());
  if (value.isNone()) return env_.Null();
  if (value.isDouble()) return Napi::Number::New(env_, value.toDouble());
  if (value.isInt() && type.kind == Kind::DType) return Napi::String::New(env_, dtype_name(static_cast<at::ScalarType>(value.toInt())));
  if (value.isInt()) return int_to_js(value.toInt(), env_);
  if (value.isBool()) return Napi::Boolean::New(env_, value.toBool());
  if (value.isString()) return Napi::String::New(env_, value.toStringRef());
  if (value.isDevice()) return Napi::String::New(env_, value.toDevice().str());
  if (value.isTensorList()) return list_to_js(value.toTensorVector(), env_, [&](const at::Tensor& t) { return to_js(t); });
  if (value.isIntList()) return list_to_js(value.toIntVector(), env_, [&](int64_t v) { return int_to_js(v, env_); });
  if (value.isDoubleList()) return list_to_js(value.toDoubleVector(), env_, [&](double v) { return Napi::Number::New(env_, v); });
  throw std::invalid_argument("returned a value of type " + value.tagKind() + ", which JavaScript cannot take");
}

}  // namespace pixelwise
