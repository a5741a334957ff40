// What every operation is given, as its signature lists it: inputs, attributes, tensors and their sizes.
#pragma once

#include "graph.h"

namespace harp::graphs {

constexpr std::int64_t MOST_WEIGHTS = INT32_MAX;  // of one tensor
constexpr std::size_t MOST_AXES = 6;              // of a value
constexpr std::int64_t LARGEST = std::int64_t{1} << 24;  // of an attribute or a side

// An attribute as a file has it. Throws Refusal unless it is of the type that the signature of the operation lists.
Attribute read_attribute(const std::string& name, const json::Value& value, Type type);

// Throw Refusal unless operation, inputs, attributes and tensors are those that the signature lists.
void check_signature(const Node& node, std::int64_t values);

// Of a tensor that the node has.
const Shape& tensor_shape(const Node& node, std::string_view name, std::size_t dimensions);
void check_vectors(const Node& node, std::int64_t features);

}  // namespace harp::graphs
