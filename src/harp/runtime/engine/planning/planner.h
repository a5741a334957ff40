// From a network to how it runs for one image size and one number of images.
#pragma once

#include <vector>

#include "../plan.h"

namespace harp {

// `sizes` are those of every value; `images` is a power of two, at most the lanes of a vector. `positions` is how many
// positions a part of a map should have: fewer mean fewer images side by side in a vector, and less memory.
// `taped`: what going back needs is kept, and the schedule holds the way back.
Schedule make_schedule(const Network& network, const Kernels* kernels, const std::vector<Size>& sizes, int images,
                       int positions, bool taped);

}  // namespace harp
