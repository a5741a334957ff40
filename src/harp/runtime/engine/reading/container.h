// Named byte blobs and a few texts in one safetensors file, with a checksum over all of it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.h"

namespace harp {

constexpr std::size_t MOST_HEADER_BYTES = std::size_t{64} << 20;

// Points into the file.
struct Container {
  json::Value header;
  std::vector<std::pair<std::string_view, std::string_view>> blobs;  // by name, in their order

  const std::string* text(std::string_view name) const;
};

// Throws Refusal saying what is wrong with the file.
Container unpack(std::string_view content);

}  // namespace harp
