#include "building.h"

#include <limits>
#include <utility>

#include "../names.h"
#include "../reading/refusal.h"

namespace harp::lowering {
namespace {

int whole(std::int64_t number) {
  if (number < 0 || number > std::numeric_limits<int>::max())
    throw Refusal("a number of " + std::to_string(number) + " is too large for the engine");
  return static_cast<int>(number);
}

std::shared_ptr<Weights> weights_of(Rows& rows, const Node& node) {
  auto weights = std::make_shared<Weights>();
  weights->outputs = whole(rows.outputs());
  weights->inputs = whole(rows.inputs);
  weights->groups = whole(rows.groups);
  weights->rows = std::move(rows.starts);
  weights->columns = std::move(rows.columns);
  weights->values = std::move(rows.values);
  weights->bias = std::move(rows.bias);
  check(*weights, node.kernel);
  return weights;
}

Node node_of(Layer& layer) {
  Node node;
  node.kind = kind_named(layer.kind);
  node.activation = activation_named(layer.activation);
  for (std::int64_t value : layer.inputs) node.inputs.push_back(whole(value));
  node.residual = static_cast<int>(layer.residual);
  for (int axis = 0; axis < 2; ++axis) {
    node.kernel[axis] = whole(layer.kernel[axis]);
    node.stride[axis] = whole(layer.stride[axis]);
    node.padding[axis] = whole(layer.padding[axis]);
    node.dilation[axis] = whole(layer.dilation[axis]);
  }
  node.count_padding = layer.count_padding;
  node.slope = narrow(layer.slope);
  node.pool = layer.pool;
  if (layer.rows) node.weights = weights_of(*layer.rows, node);
  if (layer.affine) node.scales = std::make_shared<Scales>(std::move(*layer.affine));
  if (layer.told) node.details = std::make_shared<Details>(std::move(*layer.told));
  return node;
}

}  // namespace

Network build(std::vector<Layer>& layers) {
  Network network;
  for (Layer& layer : layers) network.nodes.push_back(node_of(layer));
  return network;
}

}  // namespace harp::lowering
