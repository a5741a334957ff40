// A tile of rows x columns positions of one output channel, by the non-zeros of its weights.
#pragma once

#include "../tuning.h"
#include "finish.h"

namespace harp {
namespace {

constexpr int chains(int positions) {
  if (positions <= 2) return tuning::CHAINS_OF_TWO_POSITIONS;
  return positions <= 4 ? tuning::CHAINS_OF_FOUR_POSITIONS : 1;
}

// The heart: one load and one multiply-add per non-zero and vector of positions; the sums never leave the registers.
// With few positions, several non-zeros go to sums of their own, to hide the latency of the multiply-add.
template <int R, int Q, int STEP>
void sparse_tile(const SparseTask& t) {
  constexpr int P = R * Q, UNROLL = chains(P);
  const float* const origin = t.in;
  const std::ptrdiff_t row = t.in_row;
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sums[UNROLL][P];
    float* partial = t.partial ? t.partial + static_cast<std::ptrdiff_t>(channel) * P * LANES : nullptr;
    UNROLLED_FOR (int i = 0; i < P; ++i) sums[0][i] = t.bias ? spread(t.bias[channel]) : load(partial + i * LANES);
    UNROLLED_FOR (int u = 1; u < UNROLL; ++u)
      UNROLLED_FOR (int i = 0; i < P; ++i) sums[u][i] = Vector{};
    const Tap *tap = t.taps + t.rows[channel], *end = t.taps + t.rows[channel + 1];
    for (; tap + UNROLL <= end; tap += UNROLL)
      UNROLLED_FOR (int u = 0; u < UNROLL; ++u) {
        const float* in = opaque(origin + tap[u].offset);
        const Vector weight = spread(tap[u].weight);
        UNROLLED_FOR (int r = 0; r < R; ++r, in = opaque(in + row))
          UNROLLED_FOR (int q = 0; q < Q; ++q) sums[u][r * Q + q] += weight * load(in + q * STEP * LANES);
      }
    for (; UNROLL > 1 && tap < end; ++tap) {
      const float* in = opaque(origin + tap->offset);
      const Vector weight = spread(tap->weight);
      UNROLLED_FOR (int r = 0; r < R; ++r, in = opaque(in + row))
        UNROLLED_FOR (int q = 0; q < Q; ++q) sums[0][r * Q + q] += weight * load(in + q * STEP * LANES);
    }
    UNROLLED_FOR (int u = 1; u < UNROLL; ++u)
      UNROLLED_FOR (int i = 0; i < P; ++i) sums[0][i] += sums[u][i];
    if (t.last) {
      finish<R, Q>(sums[0], t.store, channel);
    } else {
      UNROLLED_FOR (int i = 0; i < P; ++i) store(partial + i * LANES, sums[0][i]);
    }
  }
}

template <int R, int Q>
constexpr SparseKernel sparse_tile_of(int step) {
  if constexpr (R * Q <= MOST_POSITIONS) return step == 2 ? sparse_tile<R, Q, 2> : sparse_tile<R, Q, 1>;
  return nullptr;
}

template <int R>
SparseKernel sparse_tile_of_rows(int columns, int step) {
  switch (columns) {
    case 1: return sparse_tile_of<R, 1>(step);
    case 2: return sparse_tile_of<R, 2>(step);
    case 3: return sparse_tile_of<R, 3>(step);
    case 4: return sparse_tile_of<R, 4>(step);
    case 5: return sparse_tile_of<R, 5>(step);
    case 6: return sparse_tile_of<R, 6>(step);
    case 7: return sparse_tile_of<R, 7>(step);
    case 8: return sparse_tile_of<R, 8>(step);
    default: return nullptr;
  }
}

SparseKernel choose_sparse_tile(int rows, int columns, int step) {
  switch (rows) {
    case 1: return sparse_tile_of_rows<1>(columns, step);
    case 2: return sparse_tile_of_rows<2>(columns, step);
    case 3: return sparse_tile_of_rows<3>(columns, step);
    case 4: return sparse_tile_of_rows<4>(columns, step);
    default: return nullptr;
  }
}

}  // namespace
}  // namespace harp
