// The network as Python hands it over: nodes in the order in which they run, weights by their non-zeros.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"

namespace harp {

// clang-format off
enum class Kind {
  conv, activation, affine, max_pool, avg_pool, adaptive_pool, add, multiply, concat, flatten, softmax,
  // of maps: some channels in some order; every position's channels at mean 0 and variance 1
  channels, normalise,
  // of tensors, which lie in memory row by row: see steps/tensors.h
  constant, pack, unpack, copy, pairwise, elementwise, rows_softmax, rows_normalise, rows_reduce, matmul
};
// clang-format on

// Whether its result is a tensor and not a map.
inline bool is_tensor(Kind kind) { return kind >= Kind::constant && kind != Kind::pack; }

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

// What a step beside those of ordinary convolutional networks computes with: whole numbers that say which entries of
// which input, in an order of each kind's own (steps/tensors.h), and constants.
struct Details {
  std::vector<std::int64_t> numbers;
  std::vector<float> values;
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
  std::shared_ptr<Details> details;  // of the kinds from `channels` on
};

struct Network {
  std::vector<Node> nodes;
};

// Throws std::invalid_argument for weights whose rows and columns do not fit each other, or the kernel.
void check(const Weights& weights, const int (&kernel)[2]);

// Whether two networks differ in nothing but which weights there are and what numbers they hold.
bool same_structure(const Network& a, const Network& b);
// Of two such networks: whether they also have the same weights, with other numbers perhaps.
bool same_weights(const Network& a, const Network& b);

}  // namespace harp
