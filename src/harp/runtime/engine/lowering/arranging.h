// From operations on values of any shape to the maps and tensors of the engine.
#pragma once

#include "forms.h"

namespace harp::lowering {

// Whether every value is a map or flat, and every operation one that runs on these.
bool is_of_maps(const graphs::Graph& graph, const std::vector<Shape>& shapes);

// Whether a sum of these runs on maps: of equal shapes, or one has one number per channel.
bool per_channel(const Shape& a, const Shape& b);

// What the engine runs, given the shape of every value. Networks of maps alone stay as they are. The graph must live as
// long as what is returned is used.
Arranged arrange(const graphs::Graph& graph, const std::vector<Shape>& shapes);

}  // namespace harp::lowering
