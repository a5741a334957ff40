// Between tensors and maps, and what is done to the channels of a map.
#include <algorithm>
#include <limits>
#include <stdexcept>

#include "tensors.h"

namespace harp {
namespace {

void check_map(const Place& map) {
  if (map.layout.floats() > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("a map of this size is too large for the engine");
}

}  // namespace

PackStep::PackStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : TensorStep(node, kernels, {from}, out) {
  const auto& numbers = details().numbers;
  const Layout& l = out->layout;
  if (numbers.size() != 4) throw std::invalid_argument("a map of a tensor that is not described");
  Walk whole;
  whole.from = numbers[0];
  whole.extents = {l.size.channels, l.size.height, l.size.width, 1, 1, 1};
  whole.strides = {numbers[1], numbers[2], numbers[3], 0, 0, 0};
  whole.check(numbers_in(*from));
  check_map(*out);
  // Counted from the number that lies first, since a table holds -1 where there is none.
  first_ = std::min<std::int64_t>(0, (l.size.height - 1) * numbers[2]) +
           std::min<std::int64_t>(0, (l.size.width - 1) * numbers[3]);
  for (int y = -l.top; y < l.rows + l.bottom; ++y)
    for (int x = -l.left; x < l.columns + l.right; ++x)
      for (int part = 0; part < l.parts(); ++part) {
        const int py = part / l.across * l.rows + y, px = part % l.across * l.columns + x;
        const bool inside = py >= 0 && py < l.size.height && px >= 0 && px < l.size.width;
        from_.push_back(inside ? static_cast<std::int32_t>(py * numbers[2] + px * numbers[3] - first_) : -1);
      }
  units_ = l.size.channels;
  grain_ = tuning::CHANNELS_PER_THREAD;
}

void PackStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout& l = out->layout;
  GatherTask task{};
  task.dst = out->at(memory, group / l.images) + static_cast<std::ptrdiff_t>(group % l.images) * l.parts();
  task.dst_channel = l.channel();
  task.dst_step = l.lanes;
  task.src_channel = details().numbers[1];
  task.from = from_.data();
  task.count = static_cast<int>(from_.size()) / l.parts();
  task.lanes = l.parts();
  task.fill = l.fill;
  const float* from = source(memory, group) + details().numbers[0] + first_;
  for (int channel = begin; channel < end; ++channel) kernels->gather(task, from, channel);
}

UnpackStep::UnpackStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : TensorStep(node, kernels, {from}, out) {
  const Layout& l = from->layout;
  check_map(*from);
  if (static_cast<std::int64_t>(l.size.channels) * l.size.height * l.size.width != numbers_in(*out))
    throw std::invalid_argument("a tensor of another size than its map");
  for (int y = 0; y < l.size.height; ++y)
    for (int x = 0; x < l.size.width; ++x) from_.push_back(static_cast<std::int32_t>(l.pixel(0, y, x)));
  units_ = l.size.channels;
  grain_ = tuning::CHANNELS_PER_THREAD;
}

void UnpackStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout& l = in[0]->layout;
  const float* map = in[0]->at(memory, group / l.images) + static_cast<std::ptrdiff_t>(group % l.images) * l.parts();
  const std::size_t pixels = from_.size();
  for (int channel = begin; channel < end; ++channel) {
    const float* from = map + channel * l.channel();
    float* to = out->at(memory, group) + static_cast<std::size_t>(channel) * pixels;
    for (std::size_t i = 0; i < pixels; ++i) to[i] = from[from_[i]];
  }
}

NormaliseStep::NormaliseStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : TensorStep(node, kernels, {from}, out) {
  check_normalisation(details(), 0, static_cast<std::size_t>(out->layout.size.channels));
}

void NormaliseStep::run(const Memory& memory, int group, int, int, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const Normalisation how = normalisation_of(details(), 0, static_cast<std::size_t>(to.size.channels));
  for (int y = 0; y < to.rows; ++y)
    for (int x = 0; x < to.columns; ++x)
      kernels->normalise(out->at(memory, group) + to.at(y, x), to.channel(), source(memory, group) + from.at(y, x),
                         from.channel(), to.size.channels, how);
  fill_frame(out->at(memory, group), 0, to.size.channels);
}

}  // namespace harp
