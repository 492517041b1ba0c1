// One operator of libtorch as JavaScript sees it: each argument and return value of its schema reduced
// to the few kinds that cross the border. Computed once per operator, so that a call only switches on them.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/function_schema.h>

#include <string>
#include <vector>

namespace pixelwise {

enum class Kind { Tensor, Int, Float, Bool, Scalar, String, DType, Layout, MemoryFormat, Device, Generator, List, Unsupported };

struct ValueType {
  Kind kind = Kind::Unsupported;
  bool optional = false;
  // For lists only.
  Kind element = Kind::Unsupported;
  bool element_optional = false;
  int32_t fixed_size = 0;  // int[2]: one number stands for two equal ones
  bool empty_default = false;  // int[2] stride=[]: an empty list has a meaning of its own
};

struct Operator {
  explicit Operator(c10::OperatorHandle handle);

  c10::OperatorHandle handle;
  std::string name;  // aten::add.Tensor
  std::vector<ValueType> arguments;
  std::vector<ValueType> returns;
  // returns[i] is argument written_argument[i] itself (add_, out=), or -1 for a new value.
  std::vector<int> written_argument;
};

const char* kind_name(Kind kind);

}  // namespace pixelwise
