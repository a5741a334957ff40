#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "steps.h"

namespace harp {

MoveStep::MoveStep(const Kernels* kernels, const Place* from, const Place* out, How how, int first_channel,
                   const std::vector<std::int64_t>* index)
    : Step(kernels, {from}, out), how_(how), first_channel_(first_channel), index_(index) {
  const Layout &source = from->layout, &to = out->layout;
  if (index)
    for (std::int64_t channel : *index)
      if (channel < 0 || channel >= source.size.channels || index->size() != static_cast<std::size_t>(to.size.channels))
        throw std::invalid_argument("channels that the map does not have");
  lanes_ = source.images * to.parts();
  plain_ = how == How::pixels && source.images == to.images && source.same_places(to);
  if (plain_) return;
  const auto add = [&](std::ptrdiff_t target, int y, int x) {
    moves_.add_lanes(target, lanes_, source.lanes, [&](int lane) { return lane_source(lane, y, x); });
  };
  moves_.fill = to.fill;
  if (how == How::flatten) {
    if (static_cast<std::ptrdiff_t>(source.size.height) * source.size.width * to.channel() >
        std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("a map of this size is too large to be flattened by the engine");
    for (int y = 0; y < source.size.height; ++y)
      for (int x = 0; x < source.size.width; ++x) add((y * source.size.width + x) * to.channel(), y, x);
    return;
  }
  for (int y = -to.top; y < to.rows + to.bottom; ++y)
    for (int x = -to.left; x < to.columns + to.right; ++x) add(to.at(y, x), y, x);
}

// Where the number for a lane of position (y, x) comes from, in floats; -1: nowhere.
std::ptrdiff_t MoveStep::lane_source(int lane, int y, int x) const {
  const Layout &source = in[0]->layout, &to = out->layout;
  const int image = lane / to.parts(), part = lane % to.parts();
  if (how_ == How::broadcast) return source.pixel(image, 0, 0);
  if (how_ == How::flatten) return part ? -1 : source.pixel(image, y, x);
  const int py = part / to.across * to.rows + y, px = part % to.across * to.columns + x;
  const bool inside = py >= 0 && py < to.size.height && px >= 0 && px < to.size.width;
  return inside ? source.pixel(image, py, px) : -1;
}

void MoveStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &source = in[0]->layout, &to = out->layout;
  const int together = to.images / source.images;
  const std::ptrdiff_t each = how_ == How::flatten ? source.size.height * source.size.width : 1;  // channels from one
  const float* src = in[0]->at(memory, group);
  float* dst = out->at(memory, group / together) + group % together * lanes_ + first_channel_ * to.channel();
  const auto from = [&](int channel) {
    return src + (index_ ? static_cast<std::ptrdiff_t>((*index_)[channel]) : channel) * source.channel();
  };
  if (plain_ && index_) {
    for (int channel = begin; channel < end; ++channel)
      std::memcpy(dst + channel * to.channel(), from(channel), sizeof(float) * to.channel());
    return;
  }
  if (plain_) {
    std::memcpy(dst + begin * to.channel(), src + begin * source.channel(),
                sizeof(float) * (end - begin) * to.channel());
    return;
  }
  const Frame moves = moves_.frame();
  for (int channel = begin; channel < end; ++channel)
    kernels->move(moves, dst + channel * each * to.channel(), from(channel), lanes_);
}

}  // namespace harp
