// What every operation needs and gives: a graph is checked by computing the shape of each of its values.
#pragma once

#include "graph.h"

namespace harp::graphs {

constexpr std::size_t MOST_NODES = 65'536;
constexpr std::int64_t MOST_ELEMENTS = std::int64_t{1} << 28;  // of one value for one image

// The shape of every value, the input's first, for images of this shape. Throws Refusal naming the node when the graph
// is not valid, or not for this image. Looks at the shapes of tensors alone.
std::vector<Shape> shapes(const Graph& graph, const Shape& image);

// The shape that an operation on values of any rank gives, see tensor_shapes.cpp; null for other operations.
using Rule = Shape (*)(const Node& node, const std::vector<const Shape*>& given);
Rule tensor_rule(std::string_view op);
Shape broadcast(const Shape& a, const Shape& b);

}  // namespace harp::graphs
