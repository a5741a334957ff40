#include "plan.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "arithmetic.h"
#include "planning/transposed.h"
#include "platform.h"
#include "tuning.h"

namespace harp {
namespace {

struct Share {
  int begin, end;
};

Share share(int units, int grain, int index, int team) {
  const int parts = ceil_div(units, grain);
  const auto edge = [&](int i) {
    const int part = static_cast<int>(static_cast<std::int64_t>(parts) * i / team);
    return std::min<std::int64_t>(units, static_cast<std::int64_t>(part) * grain);
  };
  return {static_cast<int>(edge(index)), static_cast<int>(edge(index + 1))};
}

}  // namespace

Arena::Arena(std::size_t floats) {
  const std::size_t bytes = (std::max<std::size_t>(floats, 1) * sizeof(float) + 63) / 64 * 64;
  data_ = static_cast<float*>(allocate_aligned(64, bytes));
  if (!data_) throw std::bad_alloc();
  std::memset(data_, 0, bytes);  // lanes without an image are computed, too: with numbers
}

Arena::~Arena() { free_aligned(data_); }

Plan::Plan(std::shared_ptr<const Network> network, const Kernels* kernels, Schedule schedule)
    : network_(std::move(network)),
      kernels_(kernels),
      schedule_(std::move(schedule)),
      image_(schedule_.first),
      result_(schedule_.last) {
  if (schedule_.upstream) upstream_ = Transfer(schedule_.upstream);
  if (schedule_.gradient) gradient_ = Transfer(schedule_.gradient);
}

void Plan::refresh_values() {
  for (const Way& way : schedule_.ways) {
    Weights& back = *way.back->weights;
    for (std::size_t i = 0; i < back.values.size(); ++i) back.values[i] = way.forward->weights->values[back.origin[i]];
  }
  for (ConvStep* conv : schedule_.convs) conv->take_values();
}

void Plan::refresh_weights() {
  for (const Way& way : schedule_.ways) *way.back->weights = std::move(*transposed(*way.forward).node.weights);
  for (ConvStep* conv : schedule_.convs) conv->choose(Variant(conv->variant()));
}

void Plan::run_segment(const Segment& segment, int group, const Run& run) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i) {
    const Share s = share(schedule_.steps[i]->units(), schedule_.steps[i]->grain(), run.index, run.team);
    if (s.begin < s.end) schedule_.steps[i]->run(run.memory, group, s.begin, s.end, run.scratch);
    run.barrier->wait();
  }
}

void Plan::read_group(const Transfer& transfer, const Images& in, int count, int group, const Run& run) const {
  const int images = transfer.images(), first = group * images;
  const Share s = share(transfer.channels(), tuning::CHANNELS_PER_THREAD, run.index, run.team);
  transfer.read(kernels_, in, first, std::min(images, count - first), run.memory, group, s.begin, s.end);
  run.barrier->wait();
}

void Plan::write_all(const Transfer& transfer, float* out, int count, const Run& run) const {
  const int images = transfer.images();
  const Share s = share(transfer.channels(), tuning::CHANNELS_PER_THREAD, run.index, run.team);
  for (int group = 0; group * images < count; ++group)
    transfer.write(out, group * images, std::min(images, count - group * images), run.memory, group, s.begin, s.end);
  run.barrier->wait();
}

void Plan::run(const Images& in, int count, float* out, const Run& run) const {
  // Where the first steps take fewer images at a time than a vector of the input holds, all are read first.
  const bool along = schedule_.segments.front().images == image_.images();
  for (int group = 0; !along && group * image_.images() < count; ++group) read_group(image_, in, count, group, run);
  for (std::size_t s = 0; s < schedule_.forward_segments; ++s) {
    const Segment& segment = schedule_.segments[s];
    for (int group = 0; group * segment.images < count; ++group) {
      if (s == 0 && along) read_group(image_, in, count, group, run);
      run_segment(segment, group, run);
    }
  }
  write_all(result_, out, count, run);
}

void Plan::back(const float* upstream, int count, float* gradient, const Run& run) const {
  for (int group = 0; group * upstream_.images() < count; ++group)
    read_group(upstream_, {upstream, false}, count, group, run);
  for (std::size_t s = schedule_.forward_segments; s < schedule_.segments.size(); ++s) {
    const Segment& segment = schedule_.segments[s];
    for (int group = 0; group * segment.images < count; ++group) run_segment(segment, group, run);
  }
  write_all(gradient_, gradient, count, run);
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
