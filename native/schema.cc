#include "schema.h"

#include <ATen/core/jit_type.h>

namespace pixelwise {
namespace {

Kind kind_of(const c10::TypePtr& type) {
  using c10::TypeKind;
  switch (type->kind()) {
    case TypeKind::TensorType: return Kind::Tensor;
    case TypeKind::IntType: return Kind::Int;
    case TypeKind::SymIntType: return Kind::Int;
    case TypeKind::FloatType: return Kind::Float;
    case TypeKind::BoolType: return Kind::Bool;
    case TypeKind::NumberType: return Kind::Scalar;
    case TypeKind::StringType: return Kind::String;
    case TypeKind::ScalarTypeType: return Kind::DType;
    case TypeKind::LayoutType: return Kind::Layout;
    case TypeKind::MemoryFormatType: return Kind::MemoryFormat;
    case TypeKind::DeviceObjType: return Kind::Device;
    case TypeKind::GeneratorType: return Kind::Generator;
    case TypeKind::ListType: return Kind::List;
    default: return Kind::Unsupported;
  }
}

ValueType value_type(c10::TypePtr type, int32_t fixed_size) {
  ValueType result;
  if (auto optional = type->cast<c10::OptionalType>()) {
    result.optional = true;
    type = optional->getElementType();
  }
  result.kind = kind_of(type);
  if (auto list = type->cast<c10::ListType>()) {
    c10::TypePtr element = list->getElementType();
    if (auto optional = element->cast<c10::OptionalType>()) {
      result.element_optional = true;
      element = optional->getElementType();
    }
    result.element = kind_of(element);
    result.fixed_size = fixed_size;
  }
  return result;
}

}  // namespace

Operator::Operator(c10::OperatorHandle op) : handle(op), name(c10::toString(op.operator_name())) {
  const c10::FunctionSchema& schema = op.schema();
  for (const c10::Argument& argument : schema.arguments()) {
    arguments.push_back(value_type(argument.real_type(), argument.N().value_or(0)));
    const auto& by_default = argument.default_value();
    arguments.back().empty_default = by_default && by_default->isIntList() && by_default->toIntVector().empty();
  }
  for (const c10::Argument& value : schema.returns()) {
    returns.push_back(value_type(value.real_type(), 0));
    int written = -1;
    if (const c10::AliasInfo* alias = value.alias_info(); alias && alias->isWrite()) {
      for (size_t k = 0; k < schema.arguments().size(); ++k) {
        const c10::AliasInfo* other = schema.arguments()[k].alias_info();
        if (other && other->isWrite() && other->beforeSets() == alias->beforeSets()) written = static_cast<int>(k);
      }
    }
    written_argument.push_back(written);
  }
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::Tensor: return "Tensor";
    case Kind::Int: return "int";
    case Kind::Float: return "float";
    case Kind::Bool: return "bool";
    case Kind::Scalar: return "Scalar";
    case Kind::String: return "str";
    case Kind::DType: return "ScalarType";
    case Kind::Layout: return "Layout";
    case Kind::MemoryFormat: return "MemoryFormat";
    case Kind::Device: return "Device";
    case Kind::Generator: return "Generator";
    case Kind::List: return "list";
    case Kind::Unsupported: return "unsupported";
  }
  return "unsupported";
}

}  // namespace pixelwise
