// What the card of a file says for those who feed a network.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../reading/json.h"

namespace harp {

struct Preprocessing {
  int height, width, channels;
  int shorter_side = 0;
  bool mean_of_blocks = false;
};

// The names in the order of the outputs; none where the card has none.
std::vector<std::string> class_names(const json::Object& card);

// Nothing where the card has none. Throws Refusal where it says something that this harp does not know.
std::optional<Preprocessing> preprocessing_in(const json::Object& card);

}  // namespace harp
