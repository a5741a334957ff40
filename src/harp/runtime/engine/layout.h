// Where the numbers of a map lie. See README.md for the picture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/kernels.h"

namespace harp {

struct Size {
  int channels, height, width;
};

// A vector's lanes are `images` images times a grid of `down` x `across` parts of each. Every part has rows x columns
// positions; around them lies a frame, which holds what the neighbouring parts have there, or the fill value.
struct Layout {
  Size size{};
  int lanes = 0;
  int images = 1, down = 1, across = 1;
  int rows = 1, columns = 1;
  int top = 0, left = 0, bottom = 0, right = 0;
  float fill = 0.0f;

  int parts() const { return down * across; }
  std::ptrdiff_t row() const { return static_cast<std::ptrdiff_t>(left + columns + right) * lanes; }
  std::ptrdiff_t channel() const { return (top + rows + bottom) * row(); }
  std::ptrdiff_t floats() const { return channel() * size.channels; }
  // Of the vector at a position; negative ones and those beyond rows and columns are in the frame.
  std::ptrdiff_t at(int y, int x) const { return (top + y) * row() + static_cast<std::ptrdiff_t>(left + x) * lanes; }
  // Of one pixel of one image of the group.
  std::ptrdiff_t pixel(int image, int y, int x) const;
  // The lane that has position (y, x) of the part so many parts below and right of a lane's own; -1: no image there.
  int neighbour(int lane, int down_by, int right_by, int y, int x) const;
  bool same_lanes(const Layout& other) const;
  bool same_places(const Layout& other) const;  // every pixel at the same offset
};

// The grid and part size that waste the fewest lanes for one map, the squarest first.
Layout fresh_layout(Size size, int lanes, int images);

// What fills the frame, and resets lanes that lie outside of the image.
struct FramePlan {
  std::vector<FrameEntry> entries;
  std::vector<Permutation> permutations;
  float fill = 0.0f;

  FramePlan() = default;
  explicit FramePlan(const Layout& layout);
  // The way back: what adds the vectors of the frame to the positions that they are copies of.
  static FramePlan folding(const Layout& layout);
  void add(std::int32_t to, std::int32_t from, const Permutation& permutation);
  // One vector of `lanes` lanes: an entry for each vector of the source that has some of them. `source` says where each
  // lane comes from, in floats, or -1.
  void add_lanes(std::ptrdiff_t to, int lanes, int vector, const std::function<std::ptrdiff_t(int lane)>& source);
  Frame frame() const { return {entries.data(), static_cast<int>(entries.size()), permutations.data(), fill}; }

 private:
  void add_position(const Layout& layout, int y, int x);
  int find(const Permutation& wanted);
};

}  // namespace harp
