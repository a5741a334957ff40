// Convolutions: how a map is cut into tiles and the weights laid out for the kernels.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <stdexcept>

#include "steps.h"

namespace harp {
namespace {

constexpr int CACHE_FLOATS = 8 * 1024;  // of the first level, what the inputs of a tile may take: 32 KB
constexpr int CHANNELS_AT_ONCE = 8;     // computed before their frames are filled, while they are in the cache

// Taps of a channel below which a wrapped tile is faster than a framed one, which is then worth its memory.
constexpr double WRAP_ONE = 150, WRAP_MORE = 40;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

int floor_div(int a, int b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

double density(const Node& node) {
  const Weights& w = *node.weights;
  const double all = 1.0 * w.outputs * w.inputs * node.kernel[0] * node.kernel[1];
  return static_cast<double>(w.values.size()) / std::max(all, 1.0);
}

}  // namespace

bool ConvStep::should_wrap(const Node& node, const Kernels* kernels, const Layout& in, const Layout& out) {
  const int scale = node.pool ? 2 : 1, positions = out.rows * scale * out.columns * scale;
  const auto reaches = [&](int axis, int outputs, int inputs) {  // into the frame
    return node.padding[axis] > 0 || (outputs * scale - 1) * node.stride[axis] +
                                             node.dilation[axis] * (node.kernel[axis] - 1) >= inputs;
  };
  const double taps = static_cast<double>(node.weights->values.size()) / std::max(node.weights->outputs, 1);
  return (reaches(0, out.rows, in.rows) || reaches(1, out.columns, in.columns)) && positions <= MOST_WRAPPED &&
         node.kernel[0] * node.kernel[1] <= MOST_PLACES && kernels->wrapped(out.rows * scale, out.columns * scale) &&
         taps < (positions == 1 ? WRAP_ONE : WRAP_MORE) &&
         in.floats() * (MOST_PLACES / in.lanes) < std::numeric_limits<std::int32_t>::max();
}

ConvStep::ConvStep(const Node& node, const Kernels* kernels, const Place* from, const Place* residual, const Place* out,
                   bool wrapped)
    : Step(kernels, residual ? std::vector<const Place*>{from, residual} : std::vector<const Place*>{from}, out),
      node_(node),
      wrapped_(wrapped),
      bias_(node.bias) {
  if (from->layout.floats() > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("a map of this size is too large for the engine");
  bias_.resize(ceil_div(static_cast<int>(bias_.size()), DENSE_ROWS) * DENSE_ROWS, 0.0f);
}

bool ConvStep::can_be_dense() const {
  return node_.weights->groups == 1 && (!node_.pool || kernels->most_dense_positions >= 4);
}

Variant ConvStep::guess() const {
  Variant v;
  v.dense = density(node_) > 0.3 && can_be_dense();
  v.positions = v.dense ? kernels->most_dense_positions : std::min(16, kernels->most_positions);
  const Weights& w = *node_.weights;
  const double around = (4.0 + node_.kernel[0] - 1) * (4.0 + node_.kernel[1] - 1);
  const double floats = around * kernels->lanes * w.inputs;
  const double per_row = static_cast<double>(w.values.size()) / std::max(w.outputs, 1);
  v.blocks = wrapped_ || v.dense || w.groups > 1 ? 1 : std::max(1, std::min<int>(floats / CACHE_FLOATS + 0.5, per_row / 12));
  return v;
}

std::vector<Variant> ConvStep::candidates() const {
  std::vector<Variant> all{guess()};
  if (wrapped_) return all;
  if (density(node_) > 0.12 && can_be_dense()) all.push_back({true, kernels->most_dense_positions, 1});
  const Weights& w = *node_.weights;
  const double per_row = static_cast<double>(w.values.size()) / std::max(w.outputs, 1);
  const int most = std::min(kernels->most_positions, out->layout.rows * out->layout.columns * scale() * scale());
  for (int positions : {4, 8, 16, 24}) {
    if (positions > most && positions != 4) continue;
    for (int blocks = 1; blocks <= 32 && (blocks == 1 || (w.groups == 1 && per_row / blocks >= 5)); blocks *= 2)
      all.push_back({false, positions, blocks});
  }
  return all;
}

void ConvStep::choose(const Variant& variant) {
  variant_ = variant;
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

// The tile shape that reads the least: its inputs are (rows + kernel - 1) x (columns + kernel - 1).
void ConvStep::tile(int positions) {
  const int rows = out->layout.rows * scale(), columns = out->layout.columns * scale();
  const bool steps = node_.stride[1] <= 2;
  double least = std::numeric_limits<double>::max();
  int best_rows = scale(), best_columns = scale();
  for (int r = scale(); r <= std::min(rows, 4); r += scale()) {
    for (int q = scale(); q <= std::min(columns, steps ? 8 : 1); q += scale()) {
      if (r * q > std::max(positions, scale() * scale())) continue;
      if (variant_.dense ? !kernels->dense(r, q, 1) : !kernels->sparse(r, q, 1)) continue;
      const double count = static_cast<double>(ceil_div(rows, r)) * ceil_div(columns, q);
      const double cost = count * ((r + node_.kernel[0] - 1.0) * (q + node_.kernel[1] - 1.0) + 8.0);
      if (cost < least) {
        least = cost;
        best_rows = r;
        best_columns = q;
      }
    }
  }
  tiles_.clear();
  for (int y = 0; y < rows; y += best_rows)
    for (int x = 0; x < columns; x += best_columns)
      tiles_.push_back({y, x, std::min(best_rows, rows - y), std::min(best_columns, columns - x)});
}

std::int32_t ConvStep::offset(int column) const {
  const Layout& l = in[0]->layout;
  const int window = node_.kernel[0] * node_.kernel[1];
  const int channel = column / window, y = column % window / node_.kernel[1], x = column % node_.kernel[1];
  return static_cast<std::int32_t>(channel * l.channel() + y * node_.dilation[0] * l.row() +
                                   static_cast<std::ptrdiff_t>(x) * node_.dilation[1] * l.lanes);
}

void ConvStep::lay_out_taps() {
  const Weights& w = *node_.weights;
  const int window = node_.kernel[0] * node_.kernel[1], blocks = variant_.blocks;
  taps_.clear();
  taps_.reserve(w.values.size());
  rows_.clear();
  std::vector<std::int64_t> next(w.rows.begin(), w.rows.end() - 1);
  for (int block = 0; block < blocks; ++block) {
    const std::int64_t limit = static_cast<std::int64_t>(w.inputs) * (block + 1) / blocks * window;
    for (int o = 0; o < w.outputs; ++o) {
      rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
      const int first_input = o / (w.outputs / w.groups) * w.inputs;
      const auto base = static_cast<std::int32_t>(first_input * in[0]->layout.channel());
      for (std::int64_t& k = next[o]; k < w.rows[o + 1] && w.columns[k] < limit; ++k)
        taps_.push_back({base + offset(w.columns[k]), w.values[k]});
    }
    rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
  }
  offsets_ = {};
  dense_ = {};
}

void ConvStep::lay_out_wrapped() {
  const Layout& l = in[0]->layout;
  const Weights& w = *node_.weights;
  const int rows = out->layout.rows * scale(), columns = out->layout.columns * scale();
  const int places = node_.kernel[0] * node_.kernel[1];
  tiles_ = {{0, 0, rows, columns}};
  const int positions = rows * columns;
  shifts_.assign(places * positions, Shift{});
  vectors_.assign(places * positions, 0);
  for (int place = 0; place < places; ++place)
    for (int position = 0; position < positions; ++position) {
      const int y = position / columns * node_.stride[0] - node_.padding[0] + place / node_.kernel[1] * node_.dilation[0];
      const int x = position % columns * node_.stride[1] - node_.padding[1] + place % node_.kernel[1] * node_.dilation[1];
      const int down = floor_div(y, l.rows), right = floor_div(x, l.columns);
      const int inner_y = y - down * l.rows, inner_x = x - right * l.columns;
      const int entry = place * positions + position;
      vectors_[entry] = static_cast<std::int32_t>(l.at(inner_y, inner_x));
      for (int lane = 0; lane < l.lanes; ++lane) {
        const int part = lane % l.parts(), py = part / l.across + down, px = part % l.across + right;
        const bool inside = py >= 0 && py < l.down && px >= 0 && px < l.across &&
                            py * l.rows + inner_y < l.size.height && px * l.columns + inner_x < l.size.width;
        shifts_[entry].from[lane] = inside ? l.lanes + lane - part + py * l.across + px : 0;
      }
    }
  taps_.clear();
  rows_.assign(1, 0);
  for (int o = 0; o < w.outputs; ++o) {
    const int first_input = o / (w.outputs / w.groups) * w.inputs;
    for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k) {
      const int place = w.columns[k] % places;
      const std::ptrdiff_t offset = (first_input + w.columns[k] / places) * l.channel() + (positions == 1 ? vectors_[place] : 0);
      taps_.push_back({static_cast<std::int32_t>(offset * (MOST_PLACES / l.lanes) + place), w.values[k]});
    }
    rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
  }
}

void ConvStep::lay_out_dense() {
  const Weights& w = *node_.weights;
  const int taps = w.inputs * node_.kernel[0] * node_.kernel[1];
  offsets_.resize(taps);
  for (int k = 0; k < taps; ++k) offsets_[k] = offset(k);
  dense_.assign(bias_.size() * taps, 0.0f);
  for (int o = 0; o < w.outputs; ++o)
    for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k)
      dense_[(static_cast<std::size_t>(o / DENSE_ROWS) * taps + w.columns[k]) * DENSE_ROWS + o % DENSE_ROWS] = w.values[k];
  taps_ = {};
  rows_ = {};
}

std::size_t ConvStep::scratch_floats() const {
  return static_cast<std::size_t>(out->layout.size.channels) * kernels->most_positions * kernels->lanes;
}

const float* ConvStep::origin(float* arena, int group, const Tile& t) const {
  return in[0]->at(arena, group) +
         in[0]->layout.at(t.y * node_.stride[0] - node_.padding[0], t.x * node_.stride[1] - node_.padding[1]);
}

Store ConvStep::store(float* arena, int group, const Tile& t) const {
  const Layout& l = out->layout;
  Store s{};
  s.out = out->at(arena, group) + l.at(t.y / scale(), t.x / scale());
  s.out_channel = l.channel();
  s.out_row = l.row();
  if (in.size() > 1) {
    s.add = in[1]->at(arena, group) + in[1]->layout.at(t.y, t.x);
    s.add_channel = in[1]->layout.channel();
    s.add_row = in[1]->layout.row();
  }
  s.activation = node_.activation;
  s.slope = node_.slope;
  s.pool = node_.pool;
  return s;
}

void ConvStep::run_sparse(float* arena, int group, const Tile& t, int begin, int end, float* scratch) const {
  const SparseKernel kernel = kernels->sparse(t.rows, t.columns, node_.stride[1]);
  SparseTask task{};
  task.in = origin(arena, group, t);
  task.in_row = node_.stride[0] * in[0]->layout.row();
  task.taps = taps_.data();
  task.partial = scratch;
  task.begin = begin;
  task.end = end;
  task.store = store(arena, group, t);
  for (int block = 0; block < variant_.blocks; ++block) {
    task.rows = rows_.data() + static_cast<std::size_t>(block) * (node_.weights->outputs + 1);
    task.bias = block == 0 ? bias_.data() : nullptr;
    task.last = block == variant_.blocks - 1;
    kernel(task);
  }
}

void ConvStep::run_dense(float* arena, int group, const Tile& t, int begin, int end) const {
  DenseTask task{};
  task.in = origin(arena, group, t);
  task.in_row = node_.stride[0] * in[0]->layout.row();
  task.offsets = offsets_.data();
  task.taps = static_cast<int>(offsets_.size());
  task.weights = dense_.data();
  task.bias = bias_.data();
  task.begin = begin;
  task.end = end;
  task.store = store(arena, group, t);
  kernels->dense(t.rows, t.columns, node_.stride[1])(task);
}

void ConvStep::run_wrapped(float* arena, int group, int begin, int end) const {
  WrappedTask task{};
  task.in = in[0]->at(arena, group);
  task.taps = taps_.data();
  task.rows = rows_.data();
  task.shifts = shifts_.data();
  task.vectors = vectors_.data();
  task.bias = bias_.data();
  task.begin = begin;
  task.end = end;
  task.store = store(arena, group, tiles_[0]);
  kernels->wrapped(tiles_[0].rows, tiles_[0].columns)(task);
}

void ConvStep::run(float* arena, int group, int begin, int end, float* scratch) const {
  float* map = out->at(arena, group);
  const int together = tiles_.size() == 1 ? CHANNELS_AT_ONCE : end - begin;
  for (int channel = begin; channel < end; channel += together) {
    const int stop = std::min(end, channel + together);
    for (const Tile& t : tiles_) {
      if (wrapped_) {
        run_wrapped(arena, group, channel, stop);
      } else if (variant_.dense) {
        run_dense(arena, group, t, channel, stop);
      } else {
        run_sparse(arena, group, t, channel, stop, scratch);
      }
    }
    fill_frame(map, channel, stop);
  }
}

std::string ConvStep::describe() const {
  char text[80];
  std::snprintf(text, sizeof text, "%s, tile %dx%d, %d block%s", wrapped_ ? "wrapped" : variant_.dense ? "dense" : "sparse", tiles_[0].rows,
                tiles_[0].columns, variant_.blocks, variant_.blocks == 1 ? "" : "s");
  return text;
}

}  // namespace harp
