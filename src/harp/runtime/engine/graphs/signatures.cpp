#include "signatures.h"

#include <algorithm>
#include <cmath>

#include "../reading/refusal.h"

namespace harp::graphs {
namespace {

constexpr std::size_t MOST_ENTRIES = std::size_t{1} << 16;  // of an attribute that is a list

std::int64_t lowest_of(std::string_view name) {
  constexpr std::string_view FROM_ZERO[]{"padding", "axis", "before", "after", "index", "order"};
  return std::find(std::begin(FROM_ZERO), std::end(FROM_ZERO), name) != std::end(FROM_ZERO) ? 0 : 1;
}

bool is_int(const json::Value& value, std::int64_t lowest) {
  return value.integer() && lowest <= *value.integer() && *value.integer() <= LARGEST;
}

[[noreturn]] void refuse(const std::string& name, Type type, std::int64_t lowest) {
  const std::string from = std::to_string(lowest);
  const std::string wanted = type == Type::pair      ? "two integers from " + from
                             : type == Type::list    ? "integers from " + from
                             : type == Type::integer ? "an integer from " + from
                             : type == Type::real    ? "a finite float"
                             : type == Type::boolean ? "true or false"
                                                     : "a text";
  throw Refusal("attribute " + name + ": expected " + wanted);
}

bool among(std::string_view name, const std::vector<std::string_view>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Attribute read_attribute(const std::string& name, const json::Value& value, Type type) {
  const std::int64_t lowest = lowest_of(name);
  if (type == Type::integer && is_int(value, lowest)) return *value.integer();
  if (type == Type::real && value.real() && std::isfinite(*value.real())) return *value.real();
  if (type == Type::boolean && value.boolean()) return *value.boolean();
  if (type == Type::text && value.text()) return *value.text();
  const json::Array* items = value.array();
  const bool fits = items && (type == Type::pair ? items->size() == 2 : items->size() <= MOST_ENTRIES);
  if ((type != Type::pair && type != Type::list) || !fits ||
      !std::all_of(items->begin(), items->end(), [&](const json::Value& item) { return is_int(item, lowest); }))
    refuse(name, type, lowest);
  std::vector<std::int64_t> numbers;
  for (const json::Value& item : *items) numbers.push_back(*item.integer());
  return numbers;
}

void check_signature(const Node& node, std::int64_t values) {
  const Op* op = find_op(node.op);
  if (!op) throw Refusal("op='" + node.op.substr(0, 40) + "' is not an operation of the runtime");
  const bool fits =
      op->inputs < 0 ? node.inputs.size() >= 2 : node.inputs.size() == static_cast<std::size_t>(op->inputs);
  if (!fits)
    throw Refusal("inputs=" + text_of(node.inputs) + ": expected " +
                  (op->inputs < 0 ? "two or more" : std::to_string(op->inputs)));
  if (!std::all_of(node.inputs.begin(), node.inputs.end(), [&](std::int64_t v) { return v < values && v <= LARGEST; }))
    throw Refusal("inputs=" + text_of(node.inputs) + ": expected values computed before, 0 to " +
                  std::to_string(values - 1));
  const auto& wanted = op->attributes;
  if (node.attributes.size() != wanted.size() ||
      !std::all_of(wanted.begin(), wanted.end(), [&](const auto& a) { return node.has(a.first); }))
    throw Refusal("attributes that are not those of its operation");
  const bool all = std::all_of(op->tensors.begin(), op->tensors.end(), [&](auto name) { return node.tensor(name); });
  const bool known = std::all_of(node.tensors.begin(), node.tensors.end(), [&](const auto& tensor) {
    return among(tensor.first, op->tensors) || among(tensor.first, op->optional);
  });
  if (!all || !known) throw Refusal("tensors that are not those of its operation");
}

const Shape& tensor_shape(const Node& node, std::string_view name, std::size_t dimensions) {
  const Shape& shape = node.tensor(name)->shape();
  if (shape.size() != dimensions || std::any_of(shape.begin(), shape.end(), [](std::int64_t s) { return s < 1; }) ||
      product(shape) > MOST_WEIGHTS)
    throw Refusal(std::string(name) + " of shape " + text_of(shape) + ": expected " + std::to_string(dimensions) +
                  " dimensions, none 0, not too large to hold");
  return shape;
}

void check_vectors(const Node& node, std::int64_t features) {
  for (const auto& [name, tensor] : node.tensors)
    if (name != "weight" && tensor_shape(node, name, 1)[0] != features)
      throw Refusal(name + " of shape " + text_of(tensor->shape()) + ": expected (" + std::to_string(features) + ",)");
}

}  // namespace harp::graphs
