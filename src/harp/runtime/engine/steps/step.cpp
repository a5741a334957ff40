#include "step.h"

namespace harp {

void Step::fill_frame(float* map, int begin, int end) const {
  if (frame_.entries.empty()) return;
  const Frame frame = frame_.frame();
  for (int channel = begin; channel < end; ++channel) kernels->frame(frame, map + channel * out->layout.channel());
}

}  // namespace harp
