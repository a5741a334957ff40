#include "layers.h"

#include <algorithm>
#include <map>

namespace harp::lowering {
namespace {

using graphs::Node;

// Pixels of a map that a linear layer reads as it is, unflattened.
constexpr std::int64_t MOST_FLATTENED = 16;

void take_activation(Layer& layer, const Node& node) {
  const bool tanh = node.op == "gelu" && node.flag("tanh");
  layer.activation = tanh ? "gelu_tanh" : node.op;
  for (const auto& [name, value] : node.attributes)
    if (const double* slope = std::get_if<double>(&value)) layer.slope = *slope;
}

Rows weight_rows(const Tensor& weight, std::int64_t groups, std::int64_t window) {
  const Shape& shape = weight.shape();
  const std::int64_t outputs = shape[0], width = product(shape, 1, shape.size());
  Rows rows;
  rows.inputs = width / window;
  rows.groups = groups;
  rows.window = window;
  rows.starts.assign(static_cast<std::size_t>(outputs) + 1, 0);
  rows.bias.assign(static_cast<std::size_t>(outputs), 0.0f);
  rows.columns.reserve(weight.values.size());
  for (std::size_t i = 0; i < weight.values.size(); ++i) {
    if (!weight.sparse && weight.values[i] == 0.0f) continue;
    const std::int64_t place = weight.sparse ? weight.positions[i] : static_cast<std::int64_t>(i);
    ++rows.starts[static_cast<std::size_t>(place / width) + 1];
    rows.columns.push_back(static_cast<std::int32_t>(place % width));
    rows.values.push_back(weight.values[i]);
  }
  for (std::size_t o = 1; o < rows.starts.size(); ++o) rows.starts[o] += rows.starts[o - 1];
  return rows;
}

// The same weights in a kernel with rows and columns of zeros before and after, which cost nothing.
void enlarge(Rows& rows, std::int64_t (&kernel)[2], const std::int64_t (&margins)[2][2]) {
  const std::int64_t height = kernel[0] + margins[0][0] + margins[0][1];
  const std::int64_t width = kernel[1] + margins[1][0] + margins[1][1];
  for (std::int32_t& column : rows.columns) {
    const std::int64_t channel = column / rows.window, place = column % rows.window;
    const std::int64_t y = place / kernel[1] + margins[0][0], x = place % kernel[1] + margins[1][0];
    column = static_cast<std::int32_t>(channel * (height * width) + y * width + x);
  }
  rows.window = height * width;
  kernel[0] = height;
  kernel[1] = width;
}

class Lowering {
 public:
  explicit Lowering(const Arranged& graph) : graph_(graph), readers_(graph.nodes.size() + 1) {
    for (std::size_t place = 0; place < graph.nodes.size(); ++place)
      for (std::int64_t value : graph.nodes[place].inputs) readers_[value].push_back(place);
  }

  std::vector<Layer> layers() {
    taken_.assign(graph_.nodes.size(), false);
    for (std::size_t place = 0; place < graph_.nodes.size(); ++place) {
      const auto postponed = postponed_.find(place);
      if (postponed != postponed_.end()) {
        append(std::move(postponed->second), place);
      } else if (!taken_[place] && read_as_map(place)) {
        numbers_[static_cast<std::int64_t>(place) + 1] = numbers_.at(graph_.nodes[place].inputs[0]);
      } else if (!taken_[place]) {
        Layer layer = plain(place);
        const std::size_t last = grow(layer, place);
        if (last > place) {
          postponed_.emplace(last, std::move(layer));
        } else {
          append(std::move(layer), place);
        }
      }
    }
    return std::move(layers_);
  }

 private:
  void append(Layer layer, std::size_t place) {
    for (std::int64_t& value : layer.inputs) value = numbers_.at(value);
    if (layer.residual >= 0) layer.residual = numbers_.at(layer.residual);
    layers_.push_back(std::move(layer));
    numbers_[static_cast<std::int64_t>(place) + 1] = static_cast<std::int64_t>(layers_.size());
  }

  // Whether a node flattens a map for nothing but linear layers, which can as well read the map.
  bool read_as_map(std::size_t place) const {
    const Made& node = graph_.nodes[place];
    const auto& readers = readers_[place + 1];
    if (node.op != "flatten" || graph_.shapes[node.inputs[0]].size() != 3 || readers.empty()) return false;
    return product(graph_.shapes[node.inputs[0]], 1, 3) <= MOST_FLATTENED &&
           std::all_of(readers.begin(), readers.end(), [&](std::size_t r) { return graph_.nodes[r].op == "linear"; });
  }

  // Fuses what can be fused behind a layer; the last node that it swallowed.
  std::size_t grow(Layer& layer, std::size_t place) {
    std::size_t last = place;
    while (readers_[last + 1].size() == 1) {
      const std::size_t following = readers_[last + 1][0];
      if (taken_[following] || !fuse(layer, graph_.nodes[following], static_cast<std::int64_t>(last) + 1)) break;
      taken_[following] = true;
      layer.source = static_cast<std::int64_t>(following) + 1;
      layer.channels = graph_.shapes[following + 1][0];
      last = following;
    }
    return last;
  }

  // Takes a node, the only reader of the layer's value, into the layer; false where the engine cannot.
  bool fuse(Layer& layer, const Made& node, std::int64_t value) const {
    const bool grows = layer.kind == "conv" || layer.kind == "affine" || layer.kind == "add" || layer.kind == "mul";
    const bool open = layer.activation == "none" && !layer.pool && grows;
    if (graphs::is_activation(node.op) && open) {
      take_activation(layer, node);
      return true;
    }
    if (layer.kind != "conv" || layer.pool) return false;
    if (node.op == "add" && open && layer.residual < 0 &&
        graph_.shapes[node.inputs[0]] == graph_.shapes[node.inputs[1]]) {
      if (node.inputs[0] == node.inputs[1]) return false;
      layer.residual = node.inputs[node.inputs[0] == value ? 1 : 0];
      return true;
    }
    const std::vector<std::int64_t> two{2, 2}, none{0, 0};
    const bool pools = node.op == "max_pool" && layer.residual < 0 && node.list("kernel") == two &&
                       node.list("stride") == two && node.list("padding") == none && !node.flag("ceil");
    layer.pool = pools;
    return pools;
  }

  Layer plain(std::size_t place) const {
    const Made& node = graph_.nodes[place];
    Layer layer;
    layer.kind = node.op;
    layer.inputs = node.inputs;
    layer.source = static_cast<std::int64_t>(place) + 1;
    layer.channels = graph_.shapes[place + 1][0];
    layer.name = node.name;
    take_window(layer, node);
    if (graphs::is_activation(node.op)) {
      layer.kind = "activation";
      take_activation(layer, node);
    } else if ((layer.told = details_of(node))) {
      if (node.op == "elementwise") take_activation(layer, *node.activation);
    } else if (node.op == "affine") {
      layer.affine = Scales{node.tensor("scale")->dense(), node.tensor("shift")->dense()};
    } else if (node.op == "conv") {
      const Shape& weight = node.tensor("weight")->shape();
      const bool windowed = weight.size() == 4;
      take_weight(layer, node, windowed ? weight[2] : 1, windowed ? weight[3] : 1);
    } else if (node.op == "linear") {
      const std::int64_t before = node.inputs[0] - 1;
      const bool flattened = before >= 0 && read_as_map(static_cast<std::size_t>(before));
      if (flattened) layer.flattens = graph_.nodes[before].inputs[0];
      const Shape& read = graph_.shapes[flattened ? layer.flattens : 0];
      take_weight(layer, node, flattened ? read[1] : 1, flattened ? read[2] : 1);
    }
    return layer;
  }

  static void take_window(Layer& layer, const Made& node) {
    const auto take = [&](const char* name, std::int64_t (&pair)[2]) {
      if (node.has(name)) std::copy_n(node.list(name).begin(), 2, pair);
    };
    take("kernel", layer.kernel);
    take("stride", layer.stride);
    take("padding", layer.padding);
    take("dilation", layer.dilation);
    if (node.has("count_padding")) layer.count_padding = node.flag("count_padding");
  }

  void take_weight(Layer& layer, const Made& node, std::int64_t height, std::int64_t width) const {
    const Tensor& weight = *node.tensor("weight");
    layer.rows = weight_rows(weight, node.has("groups") ? node.integer("groups") : 1, height * width);
    if (const Tensor* bias = node.tensor("bias")) layer.rows->bias = bias->dense();
    layer.kernel[0] = height;
    layer.kernel[1] = width;
    enlarge(*layer.rows, layer.kernel, node.margins);
    layer.kind = "conv";
    layer.dense = weight.size();
    layer.weight = layer.source - 1;
  }

  const Arranged& graph_;
  std::vector<std::vector<std::size_t>> readers_;  // of each value
  std::map<std::int64_t, std::int64_t> numbers_{{0, 0}};  // from values of the graph to those of layers
  std::vector<bool> taken_;
  std::map<std::size_t, Layer> postponed_;  // by the node that completes it
  std::vector<Layer> layers_;
};

}  // namespace

std::vector<Layer> lower(const Arranged& graph) { return Lowering(graph).layers(); }

}  // namespace harp::lowering
