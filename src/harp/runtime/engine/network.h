// The network as Python hands it over: nodes in the order in which they run, weights by their non-zeros.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"

namespace harp {

// clang-format off
enum class Kind {
  conv, activation, affine, max_pool, avg_pool, adaptive_pool, add, multiply, concat, flatten, softmax
};
// clang-format on

// Whether it slides a window over a map.
inline bool is_window(Kind kind) { return kind == Kind::conv || kind == Kind::max_pool || kind == Kind::avg_pool; }

// A convolution's weights: non-zeros of output channel o are rows[o] to rows[o + 1], by ascending column
// (channel within the group · kernel height + y) · kernel width + x. A linear layer is one of 1 x 1.
struct Weights {
  int outputs = 0, inputs = 0, groups = 1;  // inputs: of a group
  std::vector<std::int64_t> rows;
  std::vector<std::int32_t> columns;
  std::vector<float> values;
  std::vector<float> bias;
  std::vector<std::uint32_t> origin;  // of a transposed one: which value of the original each value is
};

// Of an affine, by channel. Going back, nothing is shifted.
struct Scales {
  std::vector<float> scale, shift;
};

// What it computes with is behind pointers, which copies of a node share: new numbers reach all of them.
struct Node {
  Kind kind = Kind::activation;
  std::vector<int> inputs;  // value 0 is the image, node i computes value i + 1
  int residual = -1;        // a value to add before the activation, or -1
  int kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  bool count_padding = true;
  Activation activation = Activation::none;
  float slope = 0.0f;
  bool pool = false;  // followed by the maximum of 2 x 2, which only the pooled value sees
  bool shifts = true;
  std::shared_ptr<Weights> weights;  // of a conv
  std::shared_ptr<Scales> scales;    // of an affine
};

struct Network {
  std::vector<Node> nodes;
};

// Whether two networks differ in nothing but which weights there are and what numbers they hold.
bool same_structure(const Network& a, const Network& b);
// Of two such networks: whether they also have the same weights, with other numbers perhaps.
bool same_weights(const Network& a, const Network& b);

}  // namespace harp
