// The layers as the network that the engine runs.
#pragma once

#include <vector>

#include "../network.h"
#include "layers.h"

namespace harp::lowering {

// Takes the weights out of the layers. Throws std::invalid_argument for what the engine cannot hold.
Network build(std::vector<Layer>& layers);

}  // namespace harp::lowering
