#include <algorithm>

#include "steps.h"

namespace harp {

std::vector<float> pool_divisors(const Node& node, const Layout& to, const Layout& map) {
  std::vector<float> divisors;
  if (node.kind == Kind::max_pool) return divisors;
  const auto covered = [&](int axis, int position, int size) {
    const int begin = position * node.stride[axis] - node.padding[axis];
    const int end = std::min(begin + node.kernel[axis], size + node.padding[axis]);
    return node.count_padding ? end - begin : std::min(end, size) - std::max(begin, 0);
  };
  for (int y = 0; y < to.rows; ++y)
    for (int x = 0; x < to.columns; ++x)
      for (int lane = 0; lane < to.lanes; ++lane) {
        const int part = lane % to.parts(), py = part / to.across * to.rows + y, px = part % to.across * to.columns + x;
        const int count = covered(0, py, map.size.height) * covered(1, px, map.size.width);
        divisors.push_back(1.0f / static_cast<float>(std::max(count, 1)));
      }
  return divisors;
}

PoolStep::PoolStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out, const Place* places)
    : Step(kernels, {from}, out),
      node_(node),
      places_(places),
      divisors_(pool_divisors(node, out->layout, from->layout)) {}

void PoolStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const float* source = in[0]->at(memory, group);
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y)
      for (int x = 0; x < to.columns; ++x) {
        const int position = y * to.columns + x;
        const auto first = from.at(y * node_.stride[0] - node_.padding[0], x * node_.stride[1] - node_.padding[1]);
        if (places_) {
          auto* places = reinterpret_cast<std::int32_t*>(places_->at(memory, group));
          const std::ptrdiff_t all = static_cast<std::ptrdiff_t>(to.rows) * to.columns;
          kernels->back.argmax(places + (channel * all + position) * to.lanes,
                               source + channel * from.channel() + first,
                               {node_.kernel[0], node_.kernel[1], from.row()});
        }
        kernels->pool(map + channel * to.channel() + to.at(y, x), source + channel * from.channel() + first, from.row(),
                      node_.kernel[0], node_.kernel[1],
                      divisors_.empty() ? nullptr : divisors_.data() + static_cast<std::size_t>(position) * to.lanes);
      }
  fill_frame(map, begin, end);
}

}  // namespace harp
