#include "plan.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "arithmetic.h"
#include "platform.h"
#include "tuning.h"

namespace harp {
namespace {

struct Share {
  int begin, end;
};

Share share(int units, int index, int team) {
  const int parts = ceil_div(units, tuning::CHANNELS_PER_THREAD);
  const auto edge = [&](int i) {
    const int part = static_cast<int>(static_cast<std::int64_t>(parts) * i / team);
    return std::min(units, part * tuning::CHANNELS_PER_THREAD);
  };
  return {edge(index), edge(index + 1)};
}

}  // namespace

Arena::Arena(std::size_t floats) {
  const std::size_t bytes = (std::max<std::size_t>(floats, 1) * sizeof(float) + 63) / 64 * 64;
  data_ = static_cast<float*>(allocate_aligned(64, bytes));
  if (!data_) throw std::bad_alloc();
  std::memset(data_, 0, bytes);  // lanes without an image are computed, too: with numbers
}

Arena::~Arena() { free_aligned(data_); }

Plan::Plan(std::shared_ptr<const Network> network, const Kernels* kernels, int images, Schedule schedule)
    : network_(std::move(network)), kernels_(kernels), images_(images), schedule_(std::move(schedule)) {
  const Layout &in = schedule_.first->layout, &out = schedule_.last->layout;
  for (int y = -in.top; y < in.rows + in.bottom; ++y)
    for (int x = -in.left; x < in.columns + in.right; ++x)
      for (int part = 0; part < in.parts(); ++part) {
        const int py = part / in.across * in.rows + y, px = part % in.across * in.columns + x;
        const bool inside = py >= 0 && py < in.size.height && px >= 0 && px < in.size.width;
        in_from_.push_back(inside ? py * in.size.width + px : -1);
      }
  for (int y = 0; y < out.size.height; ++y)
    for (int x = 0; x < out.size.width; ++x) out_from_.push_back(static_cast<std::int32_t>(out.pixel(0, y, x)));
}

void Plan::read(const Images& in, int first, int count, float* arena, int group, int begin, int end) const {
  const Layout& l = schedule_.first->layout;
  const int pixels = l.size.height * l.size.width, channels = l.size.channels;
  GatherTask task{};
  task.dst_channel = l.channel();
  task.dst_step = l.lanes;
  task.src_channel = pixels;
  task.src_pixel = 1;
  task.from = in_from_.data();
  task.count = static_cast<int>(in_from_.size()) / l.parts();
  task.lanes = l.parts();
  for (int image = 0; image < count; ++image) {
    task.dst = schedule_.first->at(arena, group) + image * l.parts();
    const std::ptrdiff_t start = static_cast<std::ptrdiff_t>(first + image) * channels * pixels;
    for (int channel = begin; channel < end; ++channel) {
      if (!in.bytes) {
        kernels_->gather(task, static_cast<const float*>(in.data) + start, channel);
        continue;
      }
      const auto* bytes = static_cast<const unsigned char*>(in.data) + start + channel;
      float* dst = task.dst + channel * task.dst_channel;
      for (int i = 0; i < task.count; ++i, dst += task.dst_step)
        for (int lane = 0; lane < task.lanes; ++lane) {
          const std::int32_t from = task.from[static_cast<std::size_t>(i) * task.lanes + lane];
          dst[lane] =
              from < 0 ? 0.0f : static_cast<float>(bytes[static_cast<std::ptrdiff_t>(from) * channels]) / 255.0f;
        }
    }
  }
}

void Plan::write(float* out, int first, int count, float* arena, int group, int begin, int end) const {
  const Layout& l = schedule_.last->layout;
  const float* map = schedule_.last->at(arena, group);
  for (int image = 0; image < count; ++image)
    for (int channel = begin; channel < end; ++channel) {
      const float* from = map + channel * l.channel() + image * l.parts();
      float* to = out + (static_cast<std::ptrdiff_t>(first + image) * l.size.channels + channel) * out_from_.size();
      for (std::size_t i = 0; i < out_from_.size(); ++i) to[i] = from[out_from_[i]];
    }
}

void Plan::run(const Images& in, int count, float* out, float* arena, float* scratch, int index, int team,
               Barrier& barrier) const {
  for (const Segment& segment : schedule_.segments) {
    const int groups = (count + segment.images - 1) / segment.images;
    for (int group = 0; group < groups; ++group) {
      const int first = group * segment.images, here = std::min(segment.images, count - first);
      if (&segment == &schedule_.segments.front()) {
        const Share s = share(schedule_.first->layout.size.channels, index, team);
        read(in, first, here, arena, group, s.begin, s.end);
        barrier.wait();
      }
      for (std::size_t i = segment.begin; i < segment.end; ++i) {
        const Share s = share(schedule_.steps[i]->units(), index, team);
        if (s.begin < s.end) schedule_.steps[i]->run(arena, group, s.begin, s.end, scratch);
        barrier.wait();
      }
    }
  }
  const int images = schedule_.last->layout.images;
  const Share s = share(schedule_.last->layout.size.channels, index, team);
  for (int group = 0; group * images < count; ++group)
    write(out, group * images, std::min(images, count - group * images), arena, group, s.begin, s.end);
  barrier.wait();
}

std::vector<std::string> Plan::describe() const {
  std::vector<std::string> lines(network_->nodes.size());
  for (const auto& step : schedule_.steps) {
    if (step->node < 0) continue;
    const Layout& l = step->out->layout;
    std::string text = step->describe();
    if (!text.empty()) text += ", ";
    lines[step->node] = text + std::to_string(l.images) + " image" + (l.images == 1 ? "" : "s") + " x " +
                        std::to_string(l.down) + "x" + std::to_string(l.across) + " parts of " +
                        std::to_string(l.rows) + "x" + std::to_string(l.columns);
  }
  return lines;
}

}  // namespace harp
