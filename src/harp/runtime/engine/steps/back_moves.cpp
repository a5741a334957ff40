#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "backward.h"

namespace harp {

MoveBackStep::MoveBackStep(const Kernels* kernels, const Place* gradient, const Place* out, MoveStep::How how,
                           int first_channel)
    : Step(kernels, {gradient}, out), how_(how), first_channel_(first_channel) {
  const Layout& to = out->layout;
  if (static_cast<std::ptrdiff_t>(to.size.height) * to.size.width * gradient->layout.channel() >
      std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("a map of this size is too large to be flattened by the engine");
  for (int y = -to.top; y < to.rows + to.bottom; ++y)
    for (int x = -to.left; x < to.columns + to.right; ++x)
      moves_.add_lanes(to.at(y, x), to.lanes, to.lanes, [&](int lane) { return lane_source(lane, y, x); });
}

// Where the number for a lane of position (y, x) comes from, for the first images of a group; -1: nowhere.
std::ptrdiff_t MoveBackStep::lane_source(int lane, int y, int x) const {
  const Layout &source = in[0]->layout, &to = out->layout;
  const int image = lane / to.parts(), part = lane % to.parts();
  const int py = part / to.across * to.rows + y, px = part % to.across * to.columns + x;
  if (py < 0 || py >= to.size.height || px < 0 || px >= to.size.width) return -1;
  if (how_ == MoveStep::How::pixels) return source.pixel(image, py, px);
  return (static_cast<std::ptrdiff_t>(py) * to.size.width + px) * source.channel() + source.pixel(image, 0, 0);
}

void MoveBackStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &source = in[0]->layout, &to = out->layout;
  const int together = source.images / to.images;
  const std::ptrdiff_t each = how_ == MoveStep::How::flatten ? to.size.height * to.size.width : 1;
  const float* src = in[0]->at(memory, group / together) + group % together * to.images * source.parts() +
                     first_channel_ * source.channel();
  const Frame moves = moves_.frame();
  for (int channel = begin; channel < end; ++channel)
    kernels->move(moves, out->at(memory, group) + channel * to.channel(), src + channel * each * source.channel(),
                  to.lanes);
}

SumStep::SumStep(const Kernels* kernels, const Place* gradient, const Place* other, const Place* out)
    : Step(kernels, other ? std::vector<const Place*>{gradient, other} : std::vector<const Place*>{gradient}, out) {}

void SumStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  for (int channel = begin; channel < end; ++channel) {
    const float* other = nullptr;
    std::ptrdiff_t other_row = 0;
    if (in.size() > 1) {
      const Layout& l = in[1]->layout;
      other = in[1]->at(memory, group) + channel * l.channel() + l.at(0, 0);
      other_row = l.row();
    }
    kernels->back.sum(out->at(memory, group) + channel * to.channel() + to.at(0, 0),
                      in[0]->at(memory, group) + channel * from.channel() + from.at(0, 0), from.row(), other, other_row,
                      from.rows, from.columns);
  }
}

void LaneSumStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const int together = from.images / to.images, parts = from.parts();
  const float* source = in[0]->at(memory, group / together) + group % together * to.images * parts + from.at(0, 0);
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel) {
    float* result = map + channel * to.channel() + to.at(0, 0);
    std::memset(result, 0, sizeof(float) * to.lanes);
    for (int image = 0; image < to.images; ++image) {
      const float* lanes = source + channel * from.channel() + static_cast<std::ptrdiff_t>(image) * parts;
      for (int part = 0; part < parts; ++part) result[image * to.parts()] += lanes[part];
    }
  }
  fill_frame(map, begin, end);
}

}  // namespace harp
