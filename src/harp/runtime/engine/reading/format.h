// The file of a network: its graph, its tensors, its card. The table is docs/reference/format.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "../graphs/graph.h"

namespace harp {

constexpr int NEWEST_VERSION = 2;

struct File {
  graphs::Graph graph;
  std::vector<Shape> shapes;  // of every value, for images of the traced size
  json::Value card;           // an object
  std::string graph_text, card_text;
};

// Believes nothing. Throws Refusal saying what is wrong; allocates some tens of times what the content takes at most,
// and some megabytes.
File read(std::string_view content);

}  // namespace harp
