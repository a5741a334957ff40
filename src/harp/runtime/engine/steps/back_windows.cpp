#include <algorithm>
#include <cstring>

#include "backward.h"

namespace harp {

void UnpoolStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const std::uint16_t* bits = bits_->bits(memory, group);
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < from.rows; ++y)
      kernels->back.unpool(map + channel * to.channel() + to.at(2 * y, 0), to.row(),
                           in[0]->at(memory, group) + channel * from.channel() + from.at(y, 0),
                           bits + channel * bits_->bits_channel() + y * bits_->bits_row(), from.columns);
  fill_frame(map, begin, end);
}

PoolBackStep::PoolBackStep(const Node& node, const Kernels* kernels, const Place* gradient, const Place* places,
                           const Place* out)
    : Step(kernels, {gradient}, out),
      node_(node),
      places_(places),
      divisors_(pool_divisors(node, gradient->layout, out->layout)),
      fold_(FramePlan::folding(out->layout)) {}

void PoolBackStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const Window window{node_.kernel[0], node_.kernel[1], to.row()};
  float* map = out->at(memory, group);
  const auto* places = places_ ? reinterpret_cast<const std::int32_t*>(places_->at(memory, group)) : nullptr;
  for (int channel = begin; channel < end; ++channel) {
    float* here = map + channel * to.channel();
    const float* source = in[0]->at(memory, group) + channel * from.channel();
    std::memset(here, 0, sizeof(float) * to.channel());
    for (int y = 0; y < from.rows; ++y)
      for (int x = 0; x < from.columns; ++x) {
        float* first = here + to.at(y * node_.stride[0] - node_.padding[0], x * node_.stride[1] - node_.padding[1]);
        const std::ptrdiff_t position = static_cast<std::ptrdiff_t>(y) * from.columns + x;
        if (places) {
          const std::ptrdiff_t all = static_cast<std::ptrdiff_t>(from.rows) * from.columns;
          kernels->back.spread_to_argmax(first, window, source + from.at(y, x),
                                         places + (channel * all + position) * from.lanes);
        } else {
          kernels->back.spread_mean(first, window, source + from.at(y, x), divisors_.data() + position * from.lanes);
        }
      }
    kernels->back.fold(fold_.frame(), here);
  }
  fill_frame(map, begin, end);
}

AdaptiveBackStep::AdaptiveBackStep(const Kernels* kernels, const Place* gradient, const Place* out)
    : Step(kernels, {gradient}, out), windows_(out->layout, gradient->layout) {}

void AdaptiveBackStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel) {
    const float* source = in[0]->at(memory, group) + channel * from.channel();
    float* here = map + channel * to.channel();
    std::memset(here, 0, sizeof(float) * to.channel());
    for (const AdaptiveWindows::Window& w : windows_.windows) {
      const float each = source[w.to] / static_cast<float>(w.end - w.begin);
      for (std::int32_t i = w.begin; i < w.end; ++i) here[windows_.from[i]] += each;
    }
  }
  fill_frame(map, begin, end);
}

void InterleaveStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const int down = static_cast<int>(down_.index.size()), phases = down_.count * across_.count;
  Interleave task{};
  task.phase = from.channel();
  task.index = across_.index.data();
  task.stride = static_cast<int>(across_.index.size());
  task.leak = places_.leak;
  const Place *add = places_.residual, *mask = places_.mask;
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel) {
    const float* source = in[0]->at(memory, group) + static_cast<std::ptrdiff_t>(channel) * phases * from.channel();
    float* here = map + channel * to.channel() + to.at(0, 0);
    if (add) task.add = add->at(memory, group) + channel * add->layout.channel() + add->layout.at(0, 0);
    if (mask) task.mask = mask->bits(memory, group) + channel * mask->bits_channel();
    for (int y = 0, phase = 0, cut = 0; y < to.rows; ++y, here += to.row()) {
      const int first = down_.index[phase] * across_.count;
      task.row = first < 0 ? nullptr : source + first * from.channel() + from.at(cut, 0);
      kernels->back.interleave(here, task, to.columns);
      if (add) task.add += add->layout.row();
      if (mask) task.mask += mask->bits_row();
      if (++phase == down) phase = 0, ++cut;
    }
  }
  fill_frame(map, begin, end);
}

}  // namespace harp
