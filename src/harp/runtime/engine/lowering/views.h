// Tensors as views: which numbers of a buffer are a tensor's, so that permutations and parts move nothing.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "../graphs/shape.h"

namespace harp::lowering {

using Strides = std::vector<std::int64_t>;
using Order = std::vector<std::size_t>;

// The numbers at offset + Σ index · stride of a value of the engine.
struct View {
  std::int64_t source = 0;
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;

  View permuted(const Order& order) const;
  // Every `step`-th entry along an axis, backwards if it is negative.
  View part(std::size_t axis, std::int64_t start, std::int64_t step, std::int64_t count) const;
  // The same numbers again and again along axes that had one entry, or were not there.
  View expanded(const Shape& shape) const;
  // The numbers in their order seen with other axes; nothing where they would have to move.
  std::optional<View> reshaped(const Shape& shape) const;
  // Whether the numbers lie one after the other in the order of the tensor.
  bool in_order() const;
  // Whether each of so many numbers of the buffer is there once.
  bool covers(std::int64_t numbers) const;
  // The axes from the farthest apart to the closest.
  Order by_stride() const;
};

View whole(std::int64_t source, const Shape& shape);

// The strides of a tensor whose numbers lie in its own order.
Strides row_by_row(const Shape& shape);

// What a step of the engine walks along: six extents and the strides of both sides, axes that lie together merged.
struct Walked {
  std::vector<std::int64_t> extents, first, second;
};
// Throws Refusal when more axes are left.
Walked walk(const Shape& shape, const Strides& first, const Strides& second);

}  // namespace harp::lowering
