// From what was arranged to the passes of the engine: operations that are one pass over memory become one layer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../network.h"
#include "forms.h"

namespace harp::lowering {

// A weight by its non-zeros: those of output o are starts[o] to starts[o + 1], by ascending column, which is
// channel · window + place.
struct Rows {
  std::int64_t inputs = 0, groups = 1, window = 1;  // inputs: of one group
  std::vector<std::int64_t> starts;
  std::vector<std::int32_t> columns;
  std::vector<float> values, bias;

  std::int64_t outputs() const { return static_cast<std::int64_t>(starts.size()) - 1; }
  // Calls visit(output, place among the non-zeros).
  template <class Visit>
  void each(Visit visit) const {
    for (std::size_t o = 0; o + 1 < starts.size(); ++o)
      for (std::int64_t k = starts[o]; k < starts[o + 1]; ++k) visit(o, static_cast<std::size_t>(k));
  }
  // The channel that non-zero k of an output reads.
  std::size_t channel(std::size_t output, std::size_t k) const {
    const std::int64_t group = groups == 1 ? 0 : static_cast<std::int64_t>(output) / (outputs() / groups);
    return static_cast<std::size_t>(columns[k] / window + group * inputs);
  }
};

// One pass of the engine. Value 0 is the image, layer i computes value i + 1.
struct Layer {
  std::string kind;
  std::vector<std::int64_t> inputs;
  std::int64_t source = 0;    // the value of the arranged graph that it computes: for its shape
  std::int64_t channels = 0;  // of the result; fewer than the graph's after trimming
  std::string name;
  std::int64_t residual = -1;
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  bool count_padding = true;
  std::string activation = "none";
  double slope = 0.0;
  bool pool = false;
  std::optional<Rows> rows;
  std::int64_t dense = 0;       // numbers of the dense weight
  std::int64_t weight = -1;     // the node whose weight it is
  std::int64_t flattens = -1;   // the value that it reads as if flattened, which its window covers
  std::optional<Scales> affine;
  std::optional<Details> told;  // what a step beside those on maps is told
};

std::vector<Layer> lower(const Arranged& graph);

// Null for what runs on maps.
std::optional<Details> details_of(const Made& node);

// The same network without channels that nobody reads, or that are zero whatever the image; as it was where they
// cannot be removed consistently.
std::vector<Layer> trim(std::vector<Layer> layers, std::int64_t image_channels);

}  // namespace harp::lowering
