#include "plan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <new>

#include "planner.h"

namespace harp {
namespace {

constexpr int TOGETHER = 8;  // channels that one thread takes at least: dense tiles compute several at once

struct Share {
  int begin, end;
};

Share share(int units, int index, int team) {
  const int parts = (units + TOGETHER - 1) / TOGETHER;
  const auto edge = [&](int i) { return std::min(units, static_cast<int>(static_cast<long>(parts) * i / team) * TOGETHER); };
  return {edge(index), edge(index + 1)};
}

}  // namespace

// Of this thread alone: what other programs do meanwhile does not count.
double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Arena::Arena(std::size_t floats) {
  const std::size_t bytes = (std::max<std::size_t>(floats, 1) * sizeof(float) + 63) / 64 * 64;
  data_ = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (!data_) throw std::bad_alloc();
  std::memset(data_, 0, bytes);  // lanes without an image are computed, too: with numbers
}

Arena::~Arena() { std::free(data_); }

Plan::Plan(std::shared_ptr<const Network> network, const Kernels* kernels, std::vector<Size> sizes, int images,
           int positions)
    : network_(std::move(network)), kernels_(kernels), sizes_(std::move(sizes)), images_(images) {
  Planner(*this, positions).build();
  const Layout &in = first_->layout, &out = last_->layout;
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
  const Layout& l = first_->layout;
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
    task.dst = first_->at(arena, group) + image * l.parts();
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
          dst[lane] = from < 0 ? 0.0f : static_cast<float>(bytes[static_cast<std::ptrdiff_t>(from) * channels]) / 255.0f;
        }
    }
  }
}

void Plan::write(float* out, int first, int count, float* arena, int group, int begin, int end) const {
  const Layout& l = last_->layout;
  const float* map = last_->at(arena, group);
  for (int image = 0; image < count; ++image)
    for (int channel = begin; channel < end; ++channel) {
      const float* from = map + channel * l.channel() + image * l.parts();
      float* to = out + (static_cast<std::ptrdiff_t>(first + image) * l.size.channels + channel) * out_from_.size();
      for (std::size_t i = 0; i < out_from_.size(); ++i) to[i] = from[out_from_[i]];
    }
}

void Plan::run(const Images& in, int count, float* out, float* arena, float* scratch, int index, int team,
               Barrier& barrier) const {
  for (const Segment& segment : segments_) {
    const int groups = (count + segment.images - 1) / segment.images;
    for (int group = 0; group < groups; ++group) {
      const int first = group * segment.images, here = std::min(segment.images, count - first);
      if (&segment == &segments_.front()) {
        const Share s = share(first_->layout.size.channels, index, team);
        read(in, first, here, arena, group, s.begin, s.end);
        barrier.wait();
      }
      for (std::size_t i = segment.begin; i < segment.end; ++i) {
        const Share s = share(steps_[i]->units(), index, team);
        if (s.begin < s.end) steps_[i]->run(arena, group, s.begin, s.end, scratch);
        barrier.wait();
      }
    }
  }
  const int images = last_->layout.images;
  const Share s = share(last_->layout.size.channels, index, team);
  for (int group = 0; group * images < count; ++group)
    write(out, group * images, std::min(images, count - group * images), arena, group, s.begin, s.end);
  barrier.wait();
}

void Plan::tune(float* arena, float* scratch, double seconds_left) {
  const double deadline = thread_seconds() + seconds_left;
  for (ConvStep* conv : convs_) {
    const auto seconds = [&](int repeats) {
      double best = std::numeric_limits<double>::max();
      for (int i = 0; i < repeats; ++i) {
        const double start = thread_seconds();
        conv->run(arena, 0, 0, conv->units(), scratch);
        best = std::min(best, thread_seconds() - start);
      }
      return best;
    };
    const std::vector<Variant> all = conv->candidates();
    double best = std::numeric_limits<double>::max();
    Variant chosen = all.front();
    for (const Variant& v : all) {
      if (best < std::numeric_limits<double>::max() && thread_seconds() > deadline) break;
      conv->choose(v);
      double time = seconds(1);
      if (time < 1.3 * best) time = std::min(time, seconds(time < 2e-4 ? 6 : 1));
      if (time < 0.97 * best) {  // the guess stays unless another is clearly faster
        best = time;
        chosen = v;
      }
    }
    conv->choose(chosen);
  }
}

std::vector<std::string> Plan::describe() const {
  std::vector<std::string> lines(network_->nodes.size());
  for (const auto& step : steps_) {
    if (step->node < 0) continue;
    const Layout& l = step->out->layout;
    std::string text = step->describe();
    if (!text.empty()) text += ", ";
    lines[step->node] = text + std::to_string(l.images) + " image" + (l.images == 1 ? "" : "s") + " x " +
                        std::to_string(l.down) + "x" + std::to_string(l.across) + " parts of " + std::to_string(l.rows) +
                        "x" + std::to_string(l.columns);
  }
  return lines;
}

}  // namespace harp
