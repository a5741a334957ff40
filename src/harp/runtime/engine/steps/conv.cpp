// Convolutions: which kernel runs a layer, and how it is called.
#include "conv.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>

#include "../arithmetic.h"
#include "../tuning.h"

namespace harp {
namespace {

double density(const Node& node) {
  const Weights& w = *node.weights;
  const double all = 1.0 * w.outputs * w.inputs * node.kernel[0] * node.kernel[1];
  return static_cast<double>(w.values.size()) / std::max(all, 1.0);
}

double taps_per_channel(const Weights& w) { return static_cast<double>(w.values.size()) / std::max(w.outputs, 1); }

}  // namespace

bool ConvStep::should_wrap(const Node& node, const Kernels* kernels, const Layout& in, const Layout& out) {
  const int scale = node.pool ? 2 : 1, positions = out.rows * scale * out.columns * scale;
  const auto reaches = [&](int axis, int outputs, int inputs) {  // into the frame
    return node.padding[axis] > 0 || (outputs * scale - 1) * node.stride[axis] +
                                             node.dilation[axis] * (node.kernel[axis] - 1) - node.padding[axis] >=
                                         inputs;
  };
  const double taps = taps_per_channel(*node.weights);
  return (reaches(0, out.rows, in.rows) || reaches(1, out.columns, in.columns)) && positions <= MOST_WRAPPED &&
         node.kernel[0] * node.kernel[1] <= MOST_PLACES &&
         kernels->wrapped_map(out.rows * scale, out.columns * scale) &&
         taps < (positions == 1 ? tuning::WRAP_ONE_POSITION : tuning::WRAP_FEW_POSITIONS) &&
         in.floats() * (MOST_PLACES / in.lanes) < std::numeric_limits<std::int32_t>::max();
}

ConvStep::ConvStep(const Node& node, const Kernels* kernels, const ConvPlaces& places, bool wrapped)
    : Step(kernels, {places.in}, places.out), node_(node), places_(places), wrapped_(wrapped) {
  if (places.in->layout.floats() > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("a map of this size is too large for the engine");
}

bool ConvStep::can_be_dense() const {
  return node_.weights->groups == 1 && (!node_.pool || kernels->most_dense_positions >= 4);
}

Variant ConvStep::guess() const {
  Variant v;
  v.dense = density(node_) > tuning::DENSE_ABOVE && can_be_dense();
  v.positions = v.dense ? kernels->most_dense_positions : std::min(tuning::USUAL_POSITIONS, kernels->most_positions);
  const Weights& w = *node_.weights;
  const double around = (tuning::USUAL_SIDE + node_.kernel[0] - 1.0) * (tuning::USUAL_SIDE + node_.kernel[1] - 1.0);
  const double floats = around * kernels->lanes * w.inputs;
  const double each = taps_per_channel(w);
  const int wanted =
      static_cast<int>(std::min(std::round(floats / tuning::CACHE_FLOATS), each / tuning::TAPS_PER_BLOCK));
  v.blocks = wrapped_ || v.dense || w.groups > 1 ? 1 : std::max(1, wanted);
  return v;
}

std::vector<Variant> ConvStep::candidates() const {
  std::vector<Variant> all{guess()};
  if (wrapped_) return all;
  if (density(node_) > tuning::DENSE_WORTH_TRYING && can_be_dense())
    all.push_back({true, kernels->most_dense_positions, 1});
  const Weights& w = *node_.weights;
  const double each = taps_per_channel(w);
  const int most = std::min(kernels->most_positions, out->layout.rows * out->layout.columns * scale() * scale());
  const int least = tuning::POSITIONS_TO_TRY[0];
  const auto worth = [&](int blocks) {
    return blocks == 1 || (w.groups == 1 && each / blocks >= tuning::TAPS_PER_BLOCK_TO_TRY);
  };
  for (int positions : tuning::POSITIONS_TO_TRY) {
    if (positions > most && positions != least) continue;
    for (int blocks = 1; blocks <= tuning::MOST_BLOCKS_TO_TRY && worth(blocks); blocks *= 2)
      all.push_back({false, positions, blocks});
  }
  return all;
}

void ConvStep::take_bias() {
  bias_ = node_.weights->bias;
  bias_.resize(static_cast<std::size_t>(ceil_div(node_.weights->outputs, DENSE_ROWS)) * DENSE_ROWS, 0.0f);
}

void ConvStep::take_values() {
  if (variant_.dense && !wrapped_) lay_out_dense();
  const std::vector<float>& values = node_.weights->values;
  for (std::size_t i = 0; i < taps_.size(); ++i) taps_[i].weight = values[sources_[i]];
  take_bias();
}

void ConvStep::choose(const Variant& variant) {
  variant_ = variant;
  take_bias();
  if (wrapped_) {
    lay_out_wrapped();
    return;
  }
  tile(variant.positions);
  if (variant.dense) {
    lay_out_dense();
  } else {
    lay_out_taps();
  }
}

std::size_t ConvStep::scratch_floats() const {
  return static_cast<std::size_t>(out->layout.size.channels) * kernels->most_positions * kernels->lanes;
}

const float* ConvStep::origin(const Memory& memory, int group, const Tile& t) const {
  return in[0]->at(memory, group) +
         in[0]->layout.at(t.y * node_.stride[0] - node_.padding[0], t.x * node_.stride[1] - node_.padding[1]);
}

Store ConvStep::store(const Memory& memory, int group, const Tile& t) const {
  const Layout& l = out->layout;
  Store s{};
  s.out = out->at(memory, group) + l.at(t.y / scale(), t.x / scale());
  s.out_channel = l.channel();
  s.out_row = l.row();
  if (places_.residual) {
    const Layout& added = places_.residual->layout;
    s.add = places_.residual->at(memory, group) + added.at(t.y, t.x);
    s.add_channel = added.channel();
    s.add_row = added.row();
  }
  if (const Place* bits = places_.bits) {
    const int each = bits->vector_bytes / 2;
    s.bits = bits->bits(memory, group) + t.y / scale() * bits->bits_row() + t.x / scale() * each;
    s.bits_channel = bits->bits_channel();
    s.bits_row = bits->bits_row();
  }
  if (const Place* mask = places_.mask) {
    s.mask = mask->bits(memory, group) + t.y * mask->bits_row() + t.x;
    s.mask_channel = mask->bits_channel();
    s.mask_row = mask->bits_row();
    s.leak = places_.leak;
  }
  s.activation = node_.activation;
  s.slope = node_.slope;
  s.pool = node_.pool;
  return s;
}

void ConvStep::run_sparse(const Memory& memory, int group, const Tile& t, int begin, int end, float* scratch) const {
  const SparseKernel kernel = kernels->sparse_tile(t.rows, t.columns, node_.stride[1]);
  SparseTask task{};
  task.in = origin(memory, group, t);
  task.in_row = node_.stride[0] * in[0]->layout.row();
  task.taps = taps_.data();
  task.partial = scratch;
  task.begin = begin;
  task.end = end;
  task.store = store(memory, group, t);
  for (int block = 0; block < variant_.blocks; ++block) {
    task.rows = rows_.data() + static_cast<std::size_t>(block) * (node_.weights->outputs + 1);
    task.bias = block == 0 ? bias_.data() : nullptr;
    task.last = block == variant_.blocks - 1;
    kernel(task);
  }
}

void ConvStep::run_dense(const Memory& memory, int group, const Tile& t, int begin, int end) const {
  DenseTask task{};
  task.in = origin(memory, group, t);
  task.in_row = node_.stride[0] * in[0]->layout.row();
  task.offsets = offsets_.data();
  task.taps = static_cast<int>(offsets_.size());
  task.weights = dense_.data();
  task.bias = bias_.data();
  task.begin = begin;
  task.end = end;
  task.store = store(memory, group, t);
  kernels->dense_tile(t.rows, t.columns, node_.stride[1])(task);
}

void ConvStep::run_wrapped(const Memory& memory, int group, int begin, int end) const {
  WrappedTask task{};
  task.in = in[0]->at(memory, group);
  task.taps = taps_.data();
  task.rows = rows_.data();
  task.shifts = shifts_.data();
  task.vectors = vectors_.data();
  task.bias = bias_.data();
  task.begin = begin;
  task.end = end;
  task.store = store(memory, group, tiles_[0]);
  kernels->wrapped_map(tiles_[0].rows, tiles_[0].columns)(task);
}

void ConvStep::run(const Memory& memory, int group, int begin, int end, float* scratch) const {
  float* map = out->at(memory, group);
  const int together = tiles_.size() == 1 ? tuning::CHANNELS_BEFORE_FRAMES : end - begin;
  for (int channel = begin; channel < end; channel += together) {
    const int stop = std::min(end, channel + together);
    for (const Tile& t : tiles_) {
      if (wrapped_) {
        run_wrapped(memory, group, channel, stop);
      } else if (variant_.dense) {
        run_dense(memory, group, t, channel, stop);
      } else {
        run_sparse(memory, group, t, channel, stop, scratch);
      }
    }
    fill_frame(map, channel, stop);
  }
}

std::string ConvStep::describe() const {
  const char* kind = wrapped_ ? "wrapped" : variant_.dense ? "dense" : "sparse";
  char text[80];
  std::snprintf(text, sizeof text, "%s, tile %dx%d, %d block%s", kind, tiles_[0].rows, tiles_[0].columns,
                variant_.blocks, variant_.blocks == 1 ? "" : "s");
  return text;
}

}  // namespace harp
