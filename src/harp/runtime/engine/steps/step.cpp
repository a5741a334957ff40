#include "step.h"

namespace harp {

std::size_t Place::group_floats() const {
  if (layout.lanes == 1) return (static_cast<std::size_t>(layout.floats()) + 15) / 16 * 16;  // a tensor
  if (vector_bytes == 0) return static_cast<std::size_t>(layout.floats());
  const std::size_t bytes =
      static_cast<std::size_t>(layout.size.channels) * layout.rows * layout.columns * vector_bytes;
  return (bytes + 63) / 64 * 16;  // places begin at whole cache lines
}

std::uint16_t* Place::bits(const Memory& memory, int group) const {
  return reinterpret_cast<std::uint16_t*>(at(memory, group));
}

void Step::fill_frame(float* map, int begin, int end) const {
  if (frame_.entries.empty()) return;
  const Frame frame = frame_.frame();
  for (int channel = begin; channel < end; ++channel) kernels->frame(frame, map + channel * out->layout.channel());
}

}  // namespace harp
