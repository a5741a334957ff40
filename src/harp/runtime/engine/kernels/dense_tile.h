// A tile of rows x columns positions of four output channels, by all of their weights.
#pragma once

#include "finish.h"

namespace harp {
namespace {

// Four output channels share every load.
template <int R, int Q, int STEP>
void dense_tile(const DenseTask& t) {
  constexpr int P = R * Q;
  const float* const origin = t.in;
  const std::ptrdiff_t row = t.in_row;
  for (int channel = t.begin; channel < t.end; channel += DENSE_ROWS) {
    Vector sums[DENSE_ROWS][P];
    UNROLLED_FOR (int o = 0; o < DENSE_ROWS; ++o)
      UNROLLED_FOR (int i = 0; i < P; ++i) sums[o][i] = spread(t.bias[channel + o]);
    const float* weights = t.weights + static_cast<std::ptrdiff_t>(channel) * t.taps;
    for (int k = 0; k < t.taps; ++k, weights += DENSE_ROWS) {
      const float* in = opaque(origin + t.offsets[k]);
      Vector x[P];
      UNROLLED_FOR (int r = 0; r < R; ++r, in = opaque(in + row))
        UNROLLED_FOR (int q = 0; q < Q; ++q) x[r * Q + q] = load(in + q * STEP * LANES);
      UNROLLED_FOR (int o = 0; o < DENSE_ROWS; ++o)
        UNROLLED_FOR (int i = 0; i < P; ++i) sums[o][i] += spread(weights[o]) * x[i];
    }
    UNROLLED_FOR (int o = 0; o < DENSE_ROWS; ++o)
      if (channel + o < t.end) finish<R, Q>(sums[o], t.store, channel + o);
  }
}

template <int R, int Q>
constexpr DenseKernel dense_tile_of(int step) {
  if constexpr (R * Q <= MOST_DENSE_POSITIONS) return step == 2 ? dense_tile<R, Q, 2> : dense_tile<R, Q, 1>;
  return nullptr;
}

template <int R>
DenseKernel dense_tile_of_rows(int columns, int step) {
  switch (columns) {
    case 1: return dense_tile_of<R, 1>(step);
    case 2: return dense_tile_of<R, 2>(step);
    case 3: return dense_tile_of<R, 3>(step);
    case 4: return dense_tile_of<R, 4>(step);
    case 5: return dense_tile_of<R, 5>(step);
    case 6: return dense_tile_of<R, 6>(step);
    default: return nullptr;
  }
}

DenseKernel choose_dense_tile(int rows, int columns, int step) {
  switch (rows) {
    case 1: return dense_tile_of_rows<1>(columns, step);
    case 2: return dense_tile_of_rows<2>(columns, step);
    default: return nullptr;
  }
}

}  // namespace
}  // namespace harp
