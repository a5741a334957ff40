#include "layout.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "arithmetic.h"
#include "tuning.h"

namespace harp {

std::ptrdiff_t Layout::pixel(int image, int y, int x) const {
  const int part = y / rows * across + x / columns;
  return at(y % rows, x % columns) + image * parts() + part;
}

bool Layout::same_lanes(const Layout& other) const {
  return images == other.images && down == other.down && across == other.across && (down == 1 || rows == other.rows) &&
         (across == 1 || columns == other.columns);
}

bool Layout::same_places(const Layout& other) const {
  return same_lanes(other) && rows == other.rows && columns == other.columns && top == other.top &&
         left == other.left && bottom == other.bottom && right == other.right && fill == other.fill;
}

Layout fresh_layout(Size size, int lanes, int images) {
  Layout best;
  std::int64_t best_cost = -1;
  const int parts = lanes / images;
  for (int down = 1; down <= parts; down *= 2) {
    Layout l;
    l.size = size;
    l.lanes = lanes;
    l.images = images;
    l.down = down;
    l.across = parts / down;
    l.rows = ceil_div(size.height, l.down);
    l.columns = ceil_div(size.width, l.across);
    // Positions to compute, half of their border, and of equals the squarest grid.
    const std::int64_t cost = tuning::COST_OF_A_POSITION * l.rows * l.columns +
                              tuning::COST_OF_HALF_A_BORDER * (l.rows + l.columns) + std::abs(l.down - l.across);
    if (best_cost < 0 || cost < best_cost) {
      best = l;
      best_cost = cost;
    }
  }
  return best;
}

int Layout::neighbour(int lane, int down_by, int right_by, int y, int x) const {
  const int part = lane % parts(), py = part / across + down_by, px = part % across + right_by;
  const bool inside =
      py >= 0 && py < down && px >= 0 && px < across && py * rows + y < size.height && px * columns + x < size.width;
  return inside ? lane - part + py * across + px : -1;
}

FramePlan::FramePlan(const Layout& l) : fill(l.fill) {
  if (l.lanes == 1) return;  // a tensor
  const bool ragged = l.down * l.rows != l.size.height || l.across * l.columns != l.size.width;
  for (int pass = ragged ? 0 : 1; pass < 2; ++pass)  // positions first: the frame copies them
    for (int y = -l.top; y < l.rows + l.bottom; ++y)
      for (int x = -l.left; x < l.columns + l.right; ++x) {
        const bool inside = y >= 0 && y < l.rows && x >= 0 && x < l.columns;
        if (inside == (pass == 0)) add_position(l, y, x);
      }
}

// A vector of the frame, or one of the map with lanes outside of the image.
void FramePlan::add_position(const Layout& l, int y, int x) {
  const int down = floor_div(y, l.rows), right = floor_div(x, l.columns);
  const int inner_y = y - down * l.rows, inner_x = x - right * l.columns;
  Permutation p{};
  bool whole = true;
  for (int lane = 0; lane < l.lanes; ++lane) {
    const int from = l.neighbour(lane, down, right, inner_y, inner_x);
    whole = whole && from >= 0;
    if (from < 0) continue;
    p.from[lane] = from;
    p.valid |= 1u << static_cast<unsigned>(lane);
  }
  if (down == 0 && right == 0 && whole) return;
  add(static_cast<std::int32_t>(l.at(y, x)), static_cast<std::int32_t>(l.at(inner_y, inner_x)), p);
}

FramePlan FramePlan::folding(const Layout& l) {
  FramePlan plan;
  for (int y = -l.top; y < l.rows + l.bottom; ++y)
    for (int x = -l.left; x < l.columns + l.right; ++x) {
      const int down = floor_div(y, l.rows), right = floor_div(x, l.columns);
      if (down == 0 && right == 0) continue;
      Permutation p{};
      for (int lane = 0; lane < l.lanes; ++lane) {
        const int from = l.neighbour(lane, down, right, y - down * l.rows, x - right * l.columns);
        if (from < 0) continue;
        p.from[from] = lane;
        p.valid |= 1u << static_cast<unsigned>(from);
      }
      const auto inner = static_cast<std::int32_t>(l.at(y - down * l.rows, x - right * l.columns));
      if (p.valid) plan.add(inner, static_cast<std::int32_t>(l.at(y, x)), p);
    }
  return plan;
}

void FramePlan::add(std::int32_t to, std::int32_t from, const Permutation& permutation) {
  entries.push_back({to, from, permutation.valid ? find(permutation) : -1});
}

void FramePlan::add_lanes(std::ptrdiff_t to, int lanes, int vector,
                          const std::function<std::ptrdiff_t(int lane)>& source) {
  std::vector<std::pair<std::ptrdiff_t, Permutation>> parts;  // by source vector
  for (int lane = 0; lane < lanes; ++lane) {
    const std::ptrdiff_t place = source(lane);
    if (place < 0) continue;
    const std::ptrdiff_t start = place - place % vector;
    auto part = std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == start; });
    if (part == parts.end()) part = parts.insert(parts.end(), {start, Permutation{}});
    part->second.from[lane] = static_cast<std::int32_t>(place % vector);
    part->second.valid |= 1u << static_cast<unsigned>(lane);
  }
  if (parts.empty()) parts.emplace_back(0, Permutation{});
  for (const auto& [start, permutation] : parts)
    add(static_cast<std::int32_t>(to), static_cast<std::int32_t>(start), permutation);
}

int FramePlan::find(const Permutation& wanted) {
  for (std::size_t i = 0; i < permutations.size(); ++i)
    if (std::memcmp(&permutations[i], &wanted, sizeof wanted) == 0) return static_cast<int>(i);
  permutations.push_back(wanted);
  return static_cast<int>(permutations.size()) - 1;
}

}  // namespace harp
