#include "model.h"

#include "../graphs/shapes.h"
#include "../lowering/arranging.h"
#include "../lowering/building.h"
#include "../reading/refusal.h"

namespace harp {
namespace {

// Sizes of images whose shapes are kept.
constexpr std::size_t MOST_SIZES = 64;

// The graph without its weights: what stands for them has their shapes.
graphs::Graph outline(graphs::Graph graph) {
  for (graphs::Node& node : graph.nodes)
    for (auto& [name, tensor] : node.tensors)
      tensor = std::make_shared<Tensor>(Tensor{tensor->plan, tensor->sparse, {}, {}});
  return graph;
}

}  // namespace

Model::Model(std::string_view content) {
  File file = read(content);
  graph_text = std::move(file.graph_text);
  card_text = std::move(file.card_text);
  input_ = file.graph.input;
  card_ = std::move(file.card);
  of_maps_ = lowering::is_of_maps(file.graph, file.shapes);
  lowering::Arranged arranged = lowering::arrange(file.graph, file.shapes);
  layers_ = lowering::trim(lowering::lower(arranged), input_[0]);
  for (const lowering::Layer& layer : layers_)
    nonzeros_.push_back(layer.rows ? static_cast<std::int64_t>(layer.rows->values.size()) : 0);
  network_ = lowering::build(layers_);
  for (lowering::Layer& layer : layers_) {
    layer.rows.reset();
    layer.affine.reset();
    layer.told.reset();
  }
  known_.emplace(input_, sized(file.shapes.back(), std::move(arranged.shapes)));
  if (of_maps_) outline_ = outline(std::move(file.graph));
}

std::shared_ptr<const Sizes> Model::sizes(const Shape& image) {
  std::lock_guard lock(mutex_);
  const auto found = known_.find(image);
  if (found != known_.end()) return found->second;
  if (!of_maps_)
    throw Refusal("image=" + text_of(image) +
                  ": the network has tensors of fixed shapes, and was traced for images of " + text_of(input_) +
                  "; resize");
  std::vector<Shape> shapes = graphs::shapes(outline_, image);
  check_flattened(image, shapes);
  const Shape result = shapes.back();
  auto fresh = sized(result, std::move(shapes));
  if (known_.size() >= MOST_SIZES) known_.clear();
  known_.emplace(image, fresh);
  return fresh;
}

void Model::check_flattened(const Shape& image, const std::vector<Shape>& arranged) const {
  for (const lowering::Layer& layer : layers_) {
    if (layer.flattens < 0) continue;
    const Shape& read = arranged[layer.flattens];
    const Shape kernel{layer.kernel[0], layer.kernel[1]}, given{read[1], read[2]};
    if (given != kernel)
      throw Refusal("image=" + text_of(image) + ": " + (layer.name.empty() ? "a linear layer" : layer.name) +
                    " was made for maps of " + text_of(kernel) + ", and would get " + text_of(given));
  }
}

// Flat values are maps of one pixel.
std::shared_ptr<const Sizes> Model::sized(Shape result, std::vector<Shape> arranged) const {
  auto fresh = std::make_shared<Sizes>();
  const auto side = [](const Shape& shape, std::size_t axis) {
    return static_cast<int>(axis < shape.size() ? shape[axis] : 1);
  };
  fresh->values.push_back({side(arranged[0], 0), side(arranged[0], 1), side(arranged[0], 2)});
  for (const lowering::Layer& layer : layers_) {
    const Size& in = fresh->values[layer.inputs.empty() ? 0 : layer.inputs[0]];
    const std::int64_t channels =
        layer.kind == "flatten" ? std::int64_t{in.channels} * in.height * in.width : layer.channels;
    const Shape& shape = arranged[layer.source];
    fresh->values.push_back({static_cast<int>(channels), side(shape, 1), side(shape, 2)});
  }
  fresh->result = std::move(result);
  fresh->arranged = std::move(arranged);
  return fresh;
}

}  // namespace harp
