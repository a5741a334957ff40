// The gradient of a convolution with respect to its input, as a convolution of the gradient.
#pragma once

#include "../network.h"
#include "../steps/backward.h"

namespace harp {

// The convolution with stride 1 that goes back through another: input and output channels change places, windows are
// turned round. With strides it computes each phase of the input by itself, as channels: those of channel c follow each
// other, by row and column, and those that no tap reaches are missing. InterleaveStep puts them together.
struct Transposed {
  Node node;
  Phases down, across;
};

Transposed transposed(const Node& node);

}  // namespace harp
