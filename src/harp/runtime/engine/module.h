// The parts of the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace harp {

void bind_reading(nanobind::module_& m);

}  // namespace harp
