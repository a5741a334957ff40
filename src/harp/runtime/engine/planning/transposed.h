// The gradient of a convolution with respect to its input, as a convolution of the gradient.
#pragma once

#include "../network.h"

namespace harp {

// The convolution with stride 1 that goes back through `node`: input and output channels change places, windows are
// turned round. Of a node with strides it computes each phase of the input by itself, as channels: channel c's position
// (stride · y + dy, stride · x + dx) is channel c · phases + dy · stride + dx at (y, x).
Node transposed(const Node& node);

}  // namespace harp
