// Chooses plans by the time they take.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "plan.h"

namespace harp {

// A plan whose parts of maps have so many positions.
using MakePlan = std::function<std::unique_ptr<Plan>(int positions)>;

// Several sizes of parts as they are, the default first, then the best of them with its layers tuned.
std::unique_ptr<Plan> fastest_plan(const MakePlan& make, int default_positions, int images,
                                   const std::vector<Size>& sizes);

}  // namespace harp
