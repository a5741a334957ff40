#include "arranging.h"

#include <algorithm>
#include <numeric>

namespace harp::lowering {
namespace {

using graphs::Graph;
using graphs::Node;

bool is_always_of_maps(std::string_view op) {
  constexpr std::string_view OTHERS[]{"conv",   "max_pool", "avg_pool", "adaptive_avg_pool",
                                      "linear", "affine",   "softmax",  "add",
                                      "mul",    "concat",   "flatten"};
  return graphs::is_activation(op) || std::find(std::begin(OTHERS), std::end(OTHERS), op) != std::end(OTHERS);
}

bool is_flat_or_map(const Shape& shape) { return shape.size() == 1 || shape.size() == 3; }

// Make the result, in the order of its shape, the value of the last node.
void finish(Writer& writer, Forms& result) {
  const std::int64_t map = result.map(0);
  Shape as_map = result.shape;
  as_map.insert(as_map.end(), {1, 1});
  if (map >= 0 && (writer.shape_of(map) == result.shape || writer.shape_of(map) == as_map)) {
    if (map == writer.last()) return;
    const Shape last = writer.shape_of(map);
    Made made;
    made.numbers.resize(static_cast<std::size_t>(last[0]));
    std::iota(made.numbers.begin(), made.numbers.end(), 0);
    writer.emit(std::move(made), "channels", {map}, last);
    return;
  }
  const View view = writer.in_order(writer.view_of(result));
  if (view.source != writer.last() || writer.arranged.nodes.back().op == "constant")
    writer.copied({view.source}, view.shape, {{0, view, whole(0, view.shape)}});
}

Arranged without_unread(Arranged all) {
  std::vector<bool> read(all.shapes.size(), false);
  read.back() = true;
  for (std::size_t value = all.nodes.size(); value > 0; --value)
    if (read[value])
      for (std::int64_t input : all.nodes[value - 1].inputs) read[input] = true;
  std::vector<std::int64_t> now(all.shapes.size(), 0);
  Arranged left;
  left.shapes.push_back(all.shapes[0]);
  for (std::size_t value = 1; value <= all.nodes.size(); ++value) {
    if (!read[value]) continue;
    now[value] = static_cast<std::int64_t>(left.shapes.size());
    Made& node = all.nodes[value - 1];
    for (std::int64_t& input : node.inputs) input = now[input];
    left.nodes.push_back(std::move(node));
    left.shapes.push_back(all.shapes[value]);
  }
  return left;
}

}  // namespace

bool per_channel(const Shape& a, const Shape& b) {
  if (a == b) return true;
  return a.size() == 3 && b.size() == 3 && (b == Shape{a[0], 1, 1} || a == Shape{b[0], 1, 1});
}

bool is_of_maps(const Graph& graph, const std::vector<Shape>& shapes) {
  for (std::size_t place = 0; place < graph.nodes.size(); ++place) {
    const Node& node = graph.nodes[place];
    const auto given = [&](std::size_t i) -> const Shape& { return shapes[node.inputs[i]]; };
    bool fits = is_always_of_maps(node.op) && is_flat_or_map(shapes[place + 1]);
    for (std::size_t i = 0; fits && i < node.inputs.size(); ++i) fits = is_flat_or_map(given(i));
    if (fits && (node.op == "add" || node.op == "mul")) fits = per_channel(given(0), given(1));
    if (!fits || (node.op == "linear" && shapes[place + 1].size() > 1)) return false;
  }
  return true;
}

Arranged arrange(const Graph& graph, const std::vector<Shape>& shapes) {
  if (is_of_maps(graph, shapes)) {
    Arranged same;
    same.shapes = shapes;
    for (const Node& node : graph.nodes) {
      Made made;
      static_cast<Node&>(made) = node;
      same.nodes.push_back(std::move(made));
    }
    return same;
  }
  Writer writer(graph.input);
  std::deque<Forms> values;
  values.push_back(as_map(graph.input, 0, 0));
  for (std::size_t place = 0; place < graph.nodes.size(); ++place) {
    const Node& node = graph.nodes[place];
    writer.name = node.name;
    Given given;
    for (std::int64_t value : node.inputs) given.push_back(&values[value]);
    const Handler handler = moved(node.op) ? moved(node.op) : computed(node.op);
    values.push_back(handler(writer, node, shapes[place + 1], given));
  }
  finish(writer, values.back());
  return without_unread(std::move(writer.arranged));
}

}  // namespace harp::lowering
