// A whole map of few positions, without a frame: the neighbours' lanes are fetched at every tap.
#pragma once

#include "../tuning.h"
#include "finish.h"

namespace harp {
namespace {

template <int P>
inline void add_wrapped(Vector (&sums)[P], const WrappedTask& t, const float* origin, Tap tap) {
  const auto packed = static_cast<std::uint32_t>(tap.offset);
  const std::size_t place = packed % MOST_PLACES;
  const float* in = origin + packed / MOST_PLACES * LANES;
  UNROLLED_FOR (int i = 0; i < P; ++i) {
    const float* vector = P == 1 ? in : in + t.vectors[place * P + i];
    sums[i] += tap.weight * load_shifted(vector, t.shifts[place * P + i].from);
  }
}

// The whole map at once, of few positions. Costs a permutation for every multiply-add, and touches a fraction of the
// memory that a framed map takes: a part of one position would have a frame of eight.
template <int R, int Q>
void wrapped_map(const WrappedTask& t) {
  constexpr int P = R * Q, UNROLL = P == 1 ? tuning::CHAINS_OF_TWO_POSITIONS : tuning::CHAINS_OF_FOUR_POSITIONS;
  const float* const origin = t.in;
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sums[UNROLL][P];
    UNROLLED_FOR (int i = 0; i < P; ++i) sums[0][i] = spread(t.bias[channel]);
    UNROLLED_FOR (int u = 1; u < UNROLL; ++u)
      UNROLLED_FOR (int i = 0; i < P; ++i) sums[u][i] = Vector{};
    const Tap *tap = t.taps + t.rows[channel], *end = t.taps + t.rows[channel + 1];
    for (; tap + UNROLL <= end; tap += UNROLL)
      UNROLLED_FOR (int u = 0; u < UNROLL; ++u) add_wrapped(sums[u], t, origin, tap[u]);
    for (; tap < end; ++tap) add_wrapped(sums[0], t, origin, *tap);
    UNROLLED_FOR (int u = 1; u < UNROLL; ++u)
      UNROLLED_FOR (int i = 0; i < P; ++i) sums[0][i] += sums[u][i];
    finish<R, Q>(sums[0], t.store, channel);
  }
}

WrappedKernel choose_wrapped_map(int rows, int columns) {
#if defined(__AVX2__)
  if (rows == 1 && columns == 1) return wrapped_map<1, 1>;
  if (rows == 1 && columns == 2) return wrapped_map<1, 2>;
  if (rows == 2 && columns == 1) return wrapped_map<2, 1>;
  if (rows == 2 && columns == 2) return wrapped_map<2, 2>;
#else
  (void)rows, (void)columns;  // a permutation takes too many instructions
#endif
  return nullptr;
}

}  // namespace
}  // namespace harp
