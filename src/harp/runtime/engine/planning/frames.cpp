// How large the frame of each map is: as far as the windows of its readers reach beyond it.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "sketch.h"

namespace harp {
namespace {

void grow_frame(const Node& n, Layout& in, const Layout& out) {
  const int factor = n.pool ? 2 : 1;
  const auto beyond = [&](int axis, int count, int length) {
    return (count * factor - 1) * n.stride[axis] + n.dilation[axis] * (n.kernel[axis] - 1) - n.padding[axis] -
           (length - 1);
  };
  in.top = std::max(in.top, n.padding[0]);
  in.left = std::max(in.left, n.padding[1]);
  in.bottom = std::max(in.bottom, beyond(0, out.rows, in.rows));
  in.right = std::max(in.right, beyond(1, out.columns, in.columns));
}

}  // namespace

void choose_frames(const Task& task, Draft& draft) {
  for (Sketch& s : draft.sketches) {
    if (!s.node || !is_window(s.node->kind)) continue;
    s.wrapped =
        s.node->kind == Kind::conv && ConvStep::should_wrap(*s.node, task.kernels, s.in[0]->layout, s.out->layout);
  }
  // Afterwards, since whether a convolution wraps is decided by maps without frames.
  for (const Sketch& s : draft.sketches)
    if (s.spreads) {
      grow_frame(*s.spreads, s.out->layout, s.in[0]->layout);
    } else if (s.node && !s.wrapped && is_window(s.node->kind)) {
      grow_frame(*s.node, s.in[0]->layout, s.out->layout);
    }
  for (const Place& p : draft.places)
    if (p.layout.channel() > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("a map of this size is too large for the engine");
}

}  // namespace harp
