// Convolutions: the tiles of a map, and the weights in the order in which a kernel reads them.
#include <algorithm>
#include <limits>

#include "../arithmetic.h"
#include "../tuning.h"
#include "conv.h"

namespace harp {

// The tile shape that reads the least: its inputs are (rows + kernel - 1) x (columns + kernel - 1).
void ConvStep::tile(int positions) {
  const int rows = out->layout.rows * scale(), columns = out->layout.columns * scale();
  const bool steps = node_.stride[1] <= MOST_TILE_STEP;
  double least = std::numeric_limits<double>::max();
  int best_rows = scale(), best_columns = scale();
  for (int r = scale(); r <= std::min(rows, tuning::MOST_TILE_ROWS); r += scale()) {
    for (int q = scale(); q <= std::min(columns, steps ? tuning::MOST_TILE_COLUMNS : 1); q += scale()) {
      if (r * q > std::max(positions, scale() * scale())) continue;
      if (variant_.dense ? !kernels->dense_tile(r, q, 1) : !kernels->sparse_tile(r, q, 1)) continue;
      const double count = static_cast<double>(ceil_div(rows, r)) * ceil_div(columns, q);
      const double cost = count * ((r + node_.kernel[0] - 1.0) * (q + node_.kernel[1] - 1.0) + tuning::TILE_START);
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

// Of every place of the window: what it adds to a channel's offset.
std::vector<std::int32_t> ConvStep::window_offsets() const {
  const Layout& l = in[0]->layout;
  std::vector<std::int32_t> offsets;
  for (int y = 0; y < node_.kernel[0]; ++y)
    for (int x = 0; x < node_.kernel[1]; ++x)
      offsets.push_back(static_cast<std::int32_t>(y * node_.dilation[0] * l.row() +
                                                  static_cast<std::ptrdiff_t>(x) * node_.dilation[1] * l.lanes));
  return offsets;
}

void ConvStep::lay_out_taps() {
  const Weights& w = *node_.weights;
  const int window = node_.kernel[0] * node_.kernel[1], blocks = variant_.blocks;
  const auto channel = static_cast<std::int32_t>(in[0]->layout.channel());
  const std::vector<std::int32_t> offsets = window_offsets();
  taps_.clear();
  taps_.reserve(w.values.size());
  sources_.clear();
  sources_.reserve(w.values.size());
  rows_.clear();
  std::vector<std::int64_t> next(w.rows.begin(), w.rows.end() - 1);
  for (int block = 0; block < blocks; ++block) {
    const std::int64_t limit = static_cast<std::int64_t>(w.inputs) * (block + 1) / blocks * window;
    for (int o = 0; o < w.outputs; ++o) {
      rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
      const int first_input = o / (w.outputs / w.groups) * w.inputs;
      for (std::int64_t& k = next[o]; k < w.rows[o + 1] && w.columns[k] < limit; ++k) {
        const int input = w.columns[k] / window, place = w.columns[k] - input * window;
        taps_.push_back({(first_input + input) * channel + offsets[place], w.values[k]});
        sources_.push_back(static_cast<std::uint32_t>(k));
      }
    }
    rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
  }
  offsets_ = {};
  dense_ = {};
}

void ConvStep::lay_out_wrapped() {
  const Layout& l = in[0]->layout;
  const Weights& w = *node_.weights;
  const int places = node_.kernel[0] * node_.kernel[1];
  tiles_ = {{0, 0, out->layout.rows * scale(), out->layout.columns * scale()}};
  lay_out_shifts();
  const bool single = tiles_[0].rows * tiles_[0].columns == 1;
  taps_.clear();
  sources_.clear();
  rows_.assign(1, 0);
  for (int o = 0; o < w.outputs; ++o) {
    const int first_input = o / (w.outputs / w.groups) * w.inputs;
    for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k) {
      const int place = w.columns[k] % places;
      std::ptrdiff_t offset = (first_input + w.columns[k] / places) * l.channel();
      if (single) offset += vectors_[place];
      taps_.push_back({static_cast<std::int32_t>(offset * (MOST_PLACES / l.lanes) + place), w.values[k]});
      sources_.push_back(static_cast<std::uint32_t>(k));
    }
    rows_.push_back(static_cast<std::uint32_t>(taps_.size()));
  }
}

// For each place of the window and each position: the vector that holds the inputs, and how their lanes shift.
void ConvStep::lay_out_shifts() {
  const Layout& l = in[0]->layout;
  const int columns = tiles_[0].columns, positions = tiles_[0].rows * columns;
  const int places = node_.kernel[0] * node_.kernel[1];
  shifts_.assign(places * positions, Shift{});
  vectors_.assign(places * positions, 0);
  for (int place = 0; place < places; ++place)
    for (int position = 0; position < positions; ++position) {
      const int row = place / node_.kernel[1] * node_.dilation[0] - node_.padding[0];
      const int column = place % node_.kernel[1] * node_.dilation[1] - node_.padding[1];
      const int y = position / columns * node_.stride[0] + row, x = position % columns * node_.stride[1] + column;
      const int down = floor_div(y, l.rows), right = floor_div(x, l.columns);
      const int inner_y = y - down * l.rows, inner_x = x - right * l.columns;
      const int entry = place * positions + position;
      vectors_[entry] = static_cast<std::int32_t>(l.at(inner_y, inner_x));
      for (int lane = 0; lane < l.lanes; ++lane) {
        const int from = l.neighbour(lane, down, right, inner_y, inner_x);
        shifts_[entry].from[lane] = from < 0 ? 0 : l.lanes + from;
      }
    }
}

void ConvStep::lay_out_dense() {
  const Weights& w = *node_.weights;
  const int window = node_.kernel[0] * node_.kernel[1], taps = w.inputs * window;
  const auto channel = static_cast<std::int32_t>(in[0]->layout.channel());
  const std::vector<std::int32_t> offsets = window_offsets();
  offsets_.resize(taps);
  for (int k = 0; k < taps; ++k) offsets_[k] = k / window * channel + offsets[k % window];
  dense_.assign(bias_.size() * taps, 0.0f);
  for (int o = 0; o < w.outputs; ++o)
    for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k)
      dense_[(static_cast<std::size_t>(o / DENSE_ROWS) * taps + w.columns[k]) * DENSE_ROWS + o % DENSE_ROWS] =
          w.values[k];
  taps_ = {};
  sources_ = {};
  rows_ = {};
}

}  // namespace harp
