#include "steps.h"

namespace harp {

AdaptiveStep::AdaptiveStep(const Kernels* kernels, const Place* from, const Place* out) : Step(kernels, {from}, out) {
  const Layout &map = from->layout, &to = out->layout;
  for (int image = 0; image < to.images; ++image)
    for (int oy = 0; oy < to.size.height; ++oy)
      for (int ox = 0; ox < to.size.width; ++ox) {
        const auto begin = static_cast<std::int32_t>(from_.size());
        const auto edge = [](std::int64_t i, int size, int parts) { return static_cast<int>(i * size / parts); };
        const auto ending = [](std::int64_t i, int size, int parts) {
          return static_cast<int>(((i + 1) * size + parts - 1) / parts);
        };
        for (int y = edge(oy, map.size.height, to.size.height); y < ending(oy, map.size.height, to.size.height); ++y)
          for (int x = edge(ox, map.size.width, to.size.width); x < ending(ox, map.size.width, to.size.width); ++x)
            from_.push_back(static_cast<std::int32_t>(map.pixel(image, y, x)));
        windows_.push_back(
            {static_cast<std::int32_t>(to.pixel(image, oy, ox)), begin, static_cast<std::int32_t>(from_.size())});
      }
}

void AdaptiveStep::run(float* arena, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  float* map = out->at(arena, group);
  const bool whole = to.size.height * to.size.width == 1 && from.fill == 0.0f;
  for (int channel = begin; channel < end; ++channel) {
    const float* source = in[0]->at(arena, group) + channel * from.channel();
    float* result = map + channel * to.channel();
    if (whole) {
      kernels->mean(source + from.at(0, 0), {from.rows, from.columns, from.row()}, from.images,
                    static_cast<float>(from.size.height * from.size.width), result + to.at(0, 0), to.parts());
      continue;
    }
    for (const Window& window : windows_) {
      float sum = 0.0f;
      for (std::int32_t i = window.begin; i < window.end; ++i) sum += source[from_[i]];
      result[window.to] = sum / static_cast<float>(window.end - window.begin);
    }
  }
  fill_frame(map, begin, end);
}

}  // namespace harp
