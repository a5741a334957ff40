// The shape of a value without its batch: (c, h, w) of a map, (features) of a flat value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace harp {

using Shape = std::vector<std::int64_t>;

// The product of sides that are not negative; the largest number where it would be larger.
inline std::int64_t product(const std::int64_t* first, const std::int64_t* last) {
  std::int64_t all = 1;
  bool too_large = false;
  for (; first != last; ++first) {
    if (*first == 0) return 0;
    too_large = too_large || all > INT64_MAX / *first;
    if (!too_large) all *= *first;
  }
  return too_large ? INT64_MAX : all;
}

inline std::int64_t product(const Shape& shape) { return product(shape.data(), shape.data() + shape.size()); }

inline std::int64_t product(const Shape& shape, std::size_t begin, std::size_t end) {
  return product(shape.data() + begin, shape.data() + end);
}

// As Python prints a tuple.
inline std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i == 8) return text + "...)";
    text += std::to_string(shape[i]);
    if (i + 1 < shape.size() || shape.size() == 1) text += ",";
    if (i + 1 < shape.size()) text += " ";
  }
  return text + ")";
}

}  // namespace harp
