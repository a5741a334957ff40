#include "layout.h"

#include <cstring>

namespace harp {
namespace {

int ceil_div(int a, int b) { return (a + b - 1) / b; }

int floor_div(int a, int b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

}  // namespace

std::ptrdiff_t Layout::pixel(int image, int y, int x) const {
  const int part = y / rows * across + x / columns;
  return at(y % rows, x % columns) + image * parts() + part;
}

bool Layout::same_lanes(const Layout& other) const {
  return images == other.images && down == other.down && across == other.across &&
         (down == 1 || rows == other.rows) && (across == 1 || columns == other.columns);
}

bool Layout::same_places(const Layout& other) const {
  return same_lanes(other) && rows == other.rows && columns == other.columns && top == other.top &&
         left == other.left && bottom == other.bottom && right == other.right && fill == other.fill;
}

Layout fresh_layout(Size size, int lanes, int images) {
  Layout best;
  long best_cost = -1;
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
    // Positions to compute, with half a frame's worth of their border: what is copied between parts.
    const long cost = 4L * l.rows * l.columns + 2L * (l.rows + l.columns);
    if (best_cost < 0 || cost < best_cost) {
      best = l;
      best_cost = cost;
    }
  }
  return best;
}

FramePlan::FramePlan(const Layout& l) : fill(l.fill) {
  const bool ragged = l.down * l.rows != l.size.height || l.across * l.columns != l.size.width;
  for (int pass = ragged ? 0 : 1; pass < 2; ++pass) {  // positions first: the frame copies them
    for (int y = -l.top; y < l.rows + l.bottom; ++y) {
      for (int x = -l.left; x < l.columns + l.right; ++x) {
        const bool inside = y >= 0 && y < l.rows && x >= 0 && x < l.columns;
        if (inside != (pass == 0)) continue;
        Permutation p{};
        const int dy = floor_div(y, l.rows), dx = floor_div(x, l.columns);
        for (int lane = 0; lane < l.lanes; ++lane) {
          const int part = lane % l.parts(), py = part / l.across + dy, px = part % l.across + dx;
          const int in_y = y - dy * l.rows, in_x = x - dx * l.columns;
          const bool valid = py >= 0 && py < l.down && px >= 0 && px < l.across &&
                             py * l.rows + in_y < l.size.height && px * l.columns + in_x < l.size.width;
          p.from[lane] = valid ? lane - part + py * l.across + px : 0;
          p.valid |= static_cast<std::uint32_t>(valid) << lane;
        }
        if (inside && p.valid == (l.lanes == 32 ? ~0u : (1u << l.lanes) - 1)) continue;
        const auto from = l.at(y - dy * l.rows, x - dx * l.columns);
        entries.push_back({static_cast<std::int32_t>(l.at(y, x)), static_cast<std::int32_t>(from), p.valid ? find(p) : -1});
      }
    }
  }
}

int FramePlan::find(const Permutation& wanted) {
  for (std::size_t i = 0; i < permutations.size(); ++i)
    if (std::memcmp(&permutations[i], &wanted, sizeof wanted) == 0) return static_cast<int>(i);
  permutations.push_back(wanted);
  return static_cast<int>(permutations.size()) - 1;
}

}  // namespace harp
