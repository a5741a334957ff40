// The network of a file, ready for an engine, and what is left of its description: shapes for images of any size,
// layers, card.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "../layout.h"
#include "../lowering/layers.h"
#include "../network.h"
#include "../reading/format.h"

namespace harp {

// What the sizes of all values are for images of one size.
struct Sizes {
  Shape result;                // of one image, as the graph says
  std::vector<Size> values;    // of the engine, channels left out that need not exist
  std::vector<Shape> arranged; // of what was arranged
};

class Model {
 public:
  // Throws Refusal for a file that is not sound.
  explicit Model(std::string_view content);

  const Shape& input() const { return input_; }
  const json::Object& card() const { return *card_.object(); }
  // Throws Refusal where the network does not take such images.
  std::shared_ptr<const Sizes> sizes(const Shape& image);
  // Hands the weights over, once.
  Network take_network() { return std::move(network_); }
  // Without their weights.
  const std::vector<lowering::Layer>& layers() const { return layers_; }
  // Non-zeros of each layer.
  const std::vector<std::int64_t>& nonzeros() const { return nonzeros_; }

  std::string graph_text, card_text;

 private:
  std::shared_ptr<const Sizes> sized(Shape result, std::vector<Shape> arranged) const;
  void check_flattened(const Shape& image, const std::vector<Shape>& arranged) const;

  Shape input_;
  json::Value card_;
  bool of_maps_ = false;
  graphs::Graph outline_;  // where it takes images of any size
  Network network_;
  std::vector<lowering::Layer> layers_;
  std::vector<std::int64_t> nonzeros_;
  std::mutex mutex_;
  std::map<Shape, std::shared_ptr<const Sizes>> known_;
};

}  // namespace harp
