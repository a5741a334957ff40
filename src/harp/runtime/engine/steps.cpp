// Everything but convolutions.
#include "steps.h"

#include <algorithm>
#include <cstring>

namespace harp {

void Step::fill_frame(float* map, int begin, int end) const {
  if (frame_.entries.empty()) return;
  const Frame frame = frame_.frame();
  for (int channel = begin; channel < end; ++channel) kernels->frame(frame, map + channel * out->layout.channel());
}

PoolStep::PoolStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : Step(kernels, {from}, out), node_(node) {
  if (node.kind == Kind::max_pool) return;
  const Layout &to = out->layout, &map = from->layout;
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
        divisors_.push_back(1.0f / static_cast<float>(std::max(count, 1)));
      }
}

void PoolStep::run(float* arena, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const float* source = in[0]->at(arena, group);
  float* map = out->at(arena, group);
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y)
      for (int x = 0; x < to.columns; ++x) {
        const int position = y * to.columns + x;
        const auto first = from.at(y * node_.stride[0] - node_.padding[0], x * node_.stride[1] - node_.padding[1]);
        kernels->pool(map + channel * to.channel() + to.at(y, x), source + channel * from.channel() + first, from.row(),
                      node_.kernel[0], node_.kernel[1],
                      divisors_.empty() ? nullptr : divisors_.data() + static_cast<std::size_t>(position) * to.lanes);
      }
  fill_frame(map, begin, end);
}

PointwiseStep::PointwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> from, const Place* out)
    : Step(kernels, std::move(from), out), node_(node) {}

void PointwiseStep::run(float* arena, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y) {
      const float* x = in[0]->at(arena, group) + channel * from.channel() + from.at(y, 0);
      float* result = out->at(arena, group) + channel * to.channel() + to.at(y, 0);
      if (node_.kind == Kind::affine) {
        kernels->scale(result, x, to.columns, node_.scale[channel], node_.shift[channel]);
      } else if (node_.kind == Kind::activation) {
        if (result != x) std::memcpy(result, x, sizeof(float) * to.columns * to.lanes);
      } else {
        const Layout& other = in[1]->layout;
        const bool broadcast = other.size.height * other.size.width == 1 && to.size.height * to.size.width > 1;
        const float* b = in[1]->at(arena, group) + channel * other.channel() + other.at(broadcast ? 0 : y, 0);
        kernels->combine(result, x, b, to.columns, node_.kind == Kind::multiply, broadcast);
      }
      if (node_.activation != Activation::none) kernels->activate(result, to.columns, node_.activation, node_.slope);
    }
  fill_frame(out->at(arena, group), begin, end);
}

SoftmaxStep::SoftmaxStep(const Kernels* kernels, const Place* from, const Place* out) : Step(kernels, {from}, out) {}

void SoftmaxStep::run(float* arena, int group, int, int, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  for (int y = 0; y < to.rows; ++y)
    for (int x = 0; x < to.columns; ++x)
      kernels->softmax(out->at(arena, group) + to.at(y, x), to.channel(), in[0]->at(arena, group) + from.at(y, x),
                       from.channel(), to.size.channels);
  fill_frame(out->at(arena, group), 0, to.size.channels);
}

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
        windows_.push_back({static_cast<std::int32_t>(to.pixel(image, oy, ox)), begin,
                            static_cast<std::int32_t>(from_.size())});
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

MoveStep::MoveStep(const Kernels* kernels, const Place* from, const Place* out, How how, int first_channel)
    : Step(kernels, {from}, out), how_(how), first_channel_(first_channel) {
  const Layout &source = from->layout, &to = out->layout;
  lanes_ = source.images * to.parts();
  plain_ = how == How::pixels && source.images == to.images && source.same_places(to);
  if (plain_) return;
  const auto lane_source = [&](int lane, int y, int x) -> std::int32_t {
    const int image = lane / to.parts(), part = lane % to.parts();
    if (how == How::broadcast) return static_cast<std::int32_t>(source.pixel(image, 0, 0));
    if (how == How::flatten) return part ? -1 : static_cast<std::int32_t>(source.pixel(image, y, x));
    const int py = part / to.across * to.rows + y, px = part % to.across * to.columns + x;
    const bool inside = py >= 0 && py < to.size.height && px >= 0 && px < to.size.width;
    return inside ? static_cast<std::int32_t>(source.pixel(image, py, px)) : -1;
  };
  const bool flat = how == How::flatten;
  for (int y = flat ? 0 : -to.top; y < (flat ? source.size.height : to.rows + to.bottom); ++y)
    for (int x = flat ? 0 : -to.left; x < (flat ? source.size.width : to.columns + to.right); ++x)
      for (int lane = 0; lane < lanes_; ++lane) from_.push_back(lane_source(lane, y, x));
}

void MoveStep::run(float* arena, int group, int begin, int end, float*) const {
  const Layout &source = in[0]->layout, &to = out->layout;
  const int together = to.images / source.images;
  const float* src = in[0]->at(arena, group);
  float* dst = out->at(arena, group / together) + group % together * lanes_;
  const int pixels = source.size.height * source.size.width;
  dst += static_cast<std::ptrdiff_t>(first_channel_) * to.channel();
  if (plain_) {
    std::memcpy(dst + begin * to.channel(), src + begin * source.channel(),
                sizeof(float) * (end - begin) * to.channel());
    return;
  }
  GatherTask task{};
  task.dst = dst;
  task.dst_channel = how_ == How::flatten ? pixels * to.channel() : to.channel();
  task.dst_step = how_ == How::flatten ? to.channel() : to.lanes;
  task.src_channel = source.channel();
  task.src_pixel = 1;
  task.from = from_.data();
  task.count = static_cast<int>(from_.size()) / lanes_;
  task.lanes = lanes_;
  task.fill = to.fill;
  for (int channel = begin; channel < end; ++channel) kernels->gather(task, src, channel);
}

}  // namespace harp
