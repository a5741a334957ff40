#include "views.h"

#include <algorithm>
#include <numeric>

#include "../reading/refusal.h"
#include "../steps/tensors.h"

namespace harp::lowering {
namespace {

using Chunk = std::pair<std::int64_t, std::int64_t>;

// Size and stride of axes, those that lie together as one.
std::vector<Chunk> merged(const Shape& shape, const Strides& strides) {
  std::vector<Chunk> chunks;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t size = shape[axis], stride = strides[axis];
    if (size == 1) continue;
    if (!chunks.empty() && chunks.back().second == size * stride) {
      chunks.back() = {chunks.back().first * size, stride};
    } else {
      chunks.emplace_back(size, stride);
    }
  }
  return chunks;
}

}  // namespace

View View::permuted(const Order& order) const {
  View view{source, {}, {}, offset};
  for (std::size_t axis : order) {
    view.shape.push_back(shape[axis]);
    view.strides.push_back(strides[axis]);
  }
  return view;
}

View View::part(std::size_t axis, std::int64_t start, std::int64_t step, std::int64_t count) const {
  View view = *this;
  view.offset += start * strides[axis];
  view.shape[axis] = count;
  view.strides[axis] *= step;
  return view;
}

View View::expanded(const Shape& to) const {
  const std::size_t fresh = to.size() - shape.size();
  View view{source, to, Strides(to.size(), 0), offset};
  for (std::size_t axis = fresh; axis < to.size(); ++axis)
    if (shape[axis - fresh] == to[axis]) view.strides[axis] = strides[axis - fresh];
  return view;
}

std::optional<View> View::reshaped(const Shape& to) const {
  std::vector<Chunk> chunks = merged(shape, strides);
  Chunk here{1, 1};
  const auto next = [&] {
    here = chunks.back();
    chunks.pop_back();
  };
  if (!chunks.empty()) next();
  View view{source, to, Strides(to.size()), offset};
  for (std::size_t axis = to.size(); axis-- > 0;) {
    if (here.first == 1 && to[axis] > 1 && !chunks.empty()) next();
    if (here.first % to[axis] != 0) return std::nullopt;
    view.strides[axis] = here.second;
    here = {here.first / to[axis], here.second * to[axis]};
  }
  return view;
}

bool View::in_order() const {
  const Strides near = row_by_row(shape);
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] > 1 && strides[axis] != near[axis]) return false;
  return true;
}

bool View::covers(std::int64_t numbers) const {
  return offset == 0 && product(shape) == numbers && permuted(by_stride()).in_order();
}

Order View::by_stride() const {
  Order order(shape.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return std::abs(strides[a]) > std::abs(strides[b]); });
  return order;
}

View whole(std::int64_t source, const Shape& shape) { return {source, shape, row_by_row(shape), 0}; }

Strides row_by_row(const Shape& shape) {
  Strides strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) strides[axis] = stride;
  return strides;
}

Walked walk(const Shape& shape, const Strides& first, const Strides& second) {
  Walked m;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t size = shape[axis], a = first[axis], b = second[axis];
    if (size == 1) continue;
    if (!m.extents.empty() && m.first.back() == size * a && m.second.back() == size * b) {
      m.extents.back() *= size;
      m.first.back() = a;
      m.second.back() = b;
    } else {
      m.extents.push_back(size);
      m.first.push_back(a);
      m.second.push_back(b);
    }
  }
  const auto most = static_cast<std::size_t>(MOST_AXES);
  if (m.extents.size() > most)
    throw Refusal("a tensor of shape " + text_of(shape) + " has more than 6 axes that cannot be merged");
  const std::size_t filled = most - m.extents.size();
  m.extents.insert(m.extents.begin(), filled, 1);
  m.first.insert(m.first.begin(), filled, 0);
  m.second.insert(m.second.begin(), filled, 0);
  return m;
}

}  // namespace harp::lowering
