#include "shapes.h"

#include <algorithm>

#include "../reading/refusal.h"
#include "signatures.h"

namespace harp::graphs {
namespace {

using Given = std::vector<const Shape*>;

void need_map(const Shape& x) {
  if (x.size() != 3) throw Refusal("its input has shape " + text_of(x) + ": expected a map, (channels, height, width)");
}

struct Window {
  std::int64_t kernel, stride, padding, dilation;
};

// Height or width of what a sliding window gives, as PyTorch counts them.
std::int64_t side(std::int64_t size, const Window& w, bool ceil) {
  const std::int64_t reach = w.dilation * (w.kernel - 1), room = size + 2 * w.padding - reach - 1;
  if (room < 0)
    throw Refusal("a window of " + std::to_string(reach + 1) + " does not fit into " + std::to_string(size) +
                  " + 2 · " + std::to_string(w.padding));
  const std::int64_t count = (ceil ? (room + w.stride - 1) / w.stride : room / w.stride) + 1;
  return ceil && (count - 1) * w.stride >= size + w.padding ? count - 1 : count;
}

Shape same(const Node& node, const Given& given) {
  check_vectors(node, given[0]->front());
  return *given[0];
}

Shape conv(const Node& node, const Given& given) {
  const Shape& x = *given[0];
  need_map(x);
  const Shape& weight = tensor_shape(node, "weight", 4);
  const std::int64_t groups = node.integer("groups");
  if (weight[0] % groups != 0 || weight[1] * groups != x[0])
    throw Refusal("weight of shape " + text_of(weight) + " and groups=" + std::to_string(groups) + " do not fit " +
                  std::to_string(x[0]) + " channels");
  check_vectors(node, weight[0]);
  const auto along = [&](std::size_t axis) {
    return Window{weight[2 + axis], node.list("stride")[axis], node.list("padding")[axis], node.list("dilation")[axis]};
  };
  return {weight[0], side(x[1], along(0), false), side(x[2], along(1), false)};
}

Shape linear(const Node& node, const Given& given) {
  Shape x = *given[0];
  const Shape& weight = tensor_shape(node, "weight", 2);
  if (x.back() != weight[1])
    throw Refusal("its input has shape " + text_of(x) + ": expected " + std::to_string(weight[1]) +
                  " along its last axis, the second side of its weight");
  check_vectors(node, weight[0]);
  x.back() = weight[0];
  return x;
}

Shape pool(const Node& node, const Given& given) {
  const Shape& x = *given[0];
  need_map(x);
  const auto &kernel = node.list("kernel"), &stride = node.list("stride"), &padding = node.list("padding");
  if (2 * padding[0] > kernel[0] || 2 * padding[1] > kernel[1])
    throw Refusal("padding=" + text_of(padding) + ": expected at most half of the kernel " + text_of(kernel));
  const auto along = [&](std::size_t axis) { return Window{kernel[axis], stride[axis], padding[axis], 1}; };
  const bool ceil = node.flag("ceil");
  return {x[0], side(x[1], along(0), ceil), side(x[2], along(1), ceil)};
}

Shape adaptive(const Node& node, const Given& given) {
  need_map(*given[0]);
  const auto& size = node.list("size");
  return {given[0]->front(), size[0], size[1]};
}

Shape pair(const Node&, const Given& given) {
  const Shape &a = *given[0], &b = *given[1];
  if (a == b || (a.size() == 3 && b == Shape{a[0], 1, 1})) return a;
  if (b.size() == 3 && a == Shape{b[0], 1, 1}) return b;
  return broadcast(a, b);
}

Shape concat(const Node&, const Given& given) {
  Shape all = *given[0];
  if (all.size() != 1 && all.size() != 3)
    throw Refusal("its first input has shape " + text_of(all) + ": expected maps, or flat values");
  all[0] = 0;
  for (const Shape* part : given) {
    if (part->size() != all.size() || !std::equal(part->begin() + 1, part->end(), all.begin() + 1))
      throw Refusal("its inputs have shapes such as " + text_of(*given[0]) + " and " + text_of(*part) +
                    ": expected all the same but for the channels");
    all[0] += part->front();
  }
  return all;
}

Rule rule_of(std::string_view op) {
  if (op == "conv") return conv;
  if (op == "linear") return linear;
  if (op == "max_pool" || op == "avg_pool") return pool;
  if (op == "adaptive_avg_pool") return adaptive;
  if (op == "add" || op == "mul") return pair;
  if (op == "concat") return concat;
  if (op == "flatten") return [](const Node&, const Given& given) { return Shape{product(*given[0])}; };
  const Rule found = tensor_rule(op);
  return found ? found : same;
}

Shape shape_of(const Node& node, const std::vector<Shape>& known) {
  check_signature(node, static_cast<std::int64_t>(known.size()));
  Given given;
  for (std::int64_t value : node.inputs) given.push_back(&known[value]);
  Shape result = rule_of(node.op)(node, given);
  if (product(result) > MOST_ELEMENTS)
    throw Refusal("a result of shape " + text_of(result) + " has more than " + std::to_string(MOST_ELEMENTS) +
                  " elements per image");
  return result;
}

}  // namespace

std::vector<Shape> shapes(const Graph& graph, const Shape& image) {
  const bool sides = std::all_of(image.begin(), image.end(), [](std::int64_t s) { return s >= 1 && s <= LARGEST; });
  if (image.size() != 3 || !sides || product(image) > MOST_ELEMENTS)
    throw Refusal("image=" + text_of(image) +
                  ": expected (channels, height, width), each at least 1, not too large to hold");
  if (image[0] != graph.input[0])
    throw Refusal("image=" + text_of(image) + ": the network takes images of " + std::to_string(graph.input[0]) +
                  " channels, not " + std::to_string(image[0]));
  if (graph.nodes.empty() || graph.nodes.size() > MOST_NODES)
    throw Refusal("a graph of " + std::to_string(graph.nodes.size()) + " nodes: expected between 1 and " +
                  std::to_string(MOST_NODES));
  std::vector<Shape> known{image};
  for (std::size_t place = 0; place < graph.nodes.size(); ++place) {
    const Node& node = graph.nodes[place];
    try {
      known.push_back(shape_of(node, known));
    } catch (const Refusal& error) {
      throw Refusal("node " + std::to_string(place) + " ('" + node.op.substr(0, 40) + "', '" + node.name.substr(0, 80) +
                    "'): " + error.what());
    }
  }
  return known;
}

}  // namespace harp::graphs
