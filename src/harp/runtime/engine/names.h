// Layers and activations by the names that Python and files have for them.
#pragma once

#include <string>

#include "network.h"

namespace harp {

// Throw std::invalid_argument for a name that the engine does not have.
Kind kind_named(const std::string& name);
Activation activation_named(const std::string& name);

}  // namespace harp
