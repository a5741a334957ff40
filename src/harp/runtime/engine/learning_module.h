// The Python face of layers that learn.
#pragma once

#include <nanobind/nanobind.h>

namespace harp {

void add_learning(nanobind::module_& m);

}  // namespace harp
