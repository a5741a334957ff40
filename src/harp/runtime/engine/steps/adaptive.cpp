#include "steps.h"

namespace harp {

AdaptiveWindows::AdaptiveWindows(const Layout& map, const Layout& to) {
  for (int image = 0; image < to.images; ++image)
    for (int oy = 0; oy < to.size.height; ++oy)
      for (int ox = 0; ox < to.size.width; ++ox) {
        const auto begin = static_cast<std::int32_t>(from.size());
        const auto edge = [](std::int64_t i, int size, int parts) { return static_cast<int>(i * size / parts); };
        const auto ending = [](std::int64_t i, int size, int parts) {
          return static_cast<int>(((i + 1) * size + parts - 1) / parts);
        };
        for (int y = edge(oy, map.size.height, to.size.height); y < ending(oy, map.size.height, to.size.height); ++y)
          for (int x = edge(ox, map.size.width, to.size.width); x < ending(ox, map.size.width, to.size.width); ++x)
            from.push_back(static_cast<std::int32_t>(map.pixel(image, y, x)));
        windows.push_back(
            {static_cast<std::int32_t>(to.pixel(image, oy, ox)), begin, static_cast<std::int32_t>(from.size())});
      }
}

AdaptiveStep::AdaptiveStep(const Kernels* kernels, const Place* from, const Place* out)
    : Step(kernels, {from}, out), windows_(from->layout, out->layout) {}

void AdaptiveStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  float* map = out->at(memory, group);
  const bool whole = to.size.height * to.size.width == 1 && from.fill == 0.0f;
  for (int channel = begin; channel < end; ++channel) {
    const float* source = in[0]->at(memory, group) + channel * from.channel();
    float* result = map + channel * to.channel();
    if (whole) {
      kernels->mean(source + from.at(0, 0), {from.rows, from.columns, from.row()}, from.images,
                    static_cast<float>(from.size.height * from.size.width), result + to.at(0, 0), to.parts());
      continue;
    }
    for (const AdaptiveWindows::Window& window : windows_.windows) {
      float sum = 0.0f;
      for (std::int32_t i = window.begin; i < window.end; ++i) sum += source[windows_.from[i]];
      result[window.to] = sum / static_cast<float>(window.end - window.begin);
    }
  }
  fill_frame(map, begin, end);
}

}  // namespace harp
