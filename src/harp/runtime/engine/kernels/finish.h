// How a tile of sums leaves the registers: residual, activation, pooling, and the write.
#pragma once

#include "../tuning.h"
#include "activations.h"
#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MOST_POSITIONS = tuning::MOST_POSITIONS_OF_32_REGISTERS;
constexpr int MOST_DENSE_POSITIONS = tuning::MOST_DENSE_POSITIONS_OF_32_REGISTERS;
#else
constexpr int MOST_POSITIONS = tuning::MOST_POSITIONS_OF_16_REGISTERS;
constexpr int MOST_DENSE_POSITIONS = tuning::MOST_DENSE_POSITIONS_OF_16_REGISTERS;
#endif

// Keeps the compiler from rewriting a pointer plus constants as many additions: loads have room for a constant.
inline const float* opaque(const float* p) {
  __asm__("" : "+r"(p));
  return p;
}

// Bits of the lanes in which a gradient passes the activation, given what goes in (or what comes out, of ReLU and
// ReLU6). As in PyTorch none passes at a kink, and NaN lets it pass.
inline unsigned passing(Vector x, Activation activation) {
  if (activation == Activation::none) return ~0u;
  if (activation == Activation::relu6) return bits_of((x > 0.0f) & (x < 6.0f));
  return bits_of(~(x <= 0.0f));
}

inline Vector masked(Vector g, unsigned bits, float leak) {
  return mask_of(bits) ? g : (leak == 0.0f ? Vector{} : g * leak);
}

// Residual, activation, pooling, and the write of one output channel's tile.
// Always in place: a call would send all sums through memory.
template <int R, int Q>
__attribute__((always_inline)) inline void finish(Vector (&sums)[R * Q], const Store& to, int channel) {
  if (to.add) {
    const float* add = to.add + channel * to.add_channel;
    UNROLLED_FOR (int r = 0; r < R; ++r)
      UNROLLED_FOR (int q = 0; q < Q; ++q) sums[r * Q + q] += load(add + r * to.add_row + q * LANES);
  }
  if (to.mask) {
    const std::uint16_t* mask = to.mask + channel * to.mask_channel;
    UNROLLED_FOR (int r = 0; r < R; ++r)
      UNROLLED_FOR (int q = 0; q < Q; ++q)
        sums[r * Q + q] = masked(sums[r * Q + q], mask[r * to.mask_row + q], to.leak);
  }
  std::uint16_t* bits = to.bits ? to.bits + channel * to.bits_channel : nullptr;
  if (bits && !to.pool) {
    UNROLLED_FOR (int r = 0; r < R; ++r)
      UNROLLED_FOR (int q = 0; q < Q; ++q)
        bits[r * to.bits_row + q] = static_cast<std::uint16_t>(passing(sums[r * Q + q], to.activation));
  }
  if (to.activation == Activation::relu) {
    UNROLLED_FOR (int i = 0; i < R * Q; ++i) sums[i] = at_least(sums[i], spread(0.0f));
  } else if (simple(to.activation)) {
    UNROLLED_FOR (int i = 0; i < R * Q; ++i) sums[i] = apply_simple(sums[i], to.activation, to.slope);
  } else {
    float copy[R * Q * LANES];  // so that no pointer to the sums leaves: they must stay in registers
    UNROLLED_FOR (int i = 0; i < R * Q; ++i) store(copy + i * LANES, sums[i]);
    activate(copy, R * Q, to.activation, to.slope);
    UNROLLED_FOR (int i = 0; i < R * Q; ++i) sums[i] = load(copy + i * LANES);
  }
  float* out = to.out + channel * to.out_channel;
  if constexpr (R % 2 == 0 && Q % 2 == 0) {
    if (to.pool) {
      UNROLLED_FOR (int r = 0; r < R; r += 2)
        UNROLLED_FOR (int q = 0; q < Q; q += 2) {
          const Vector upper = larger(sums[r * Q + q], sums[r * Q + q + 1]);
          const Vector lower = larger(sums[(r + 1) * Q + q], sums[(r + 1) * Q + q + 1]);
          const Vector largest = larger(upper, lower);
          store(out + r / 2 * to.out_row + q / 2 * LANES, largest);
          if (bits) {
            const Integers below = lower > upper;
            const Integers right =
                below ? sums[(r + 1) * Q + q + 1] > sums[(r + 1) * Q + q] : sums[r * Q + q + 1] > sums[r * Q + q];
            std::uint16_t* three = bits + r / 2 * to.bits_row + q / 2 * POOL_BITS;
            three[0] = static_cast<std::uint16_t>(bits_of(right));
            three[1] = static_cast<std::uint16_t>(bits_of(below));
            three[2] = static_cast<std::uint16_t>(passing(largest, to.activation));
          }
        }
      return;
    }
  }
  UNROLLED_FOR (int r = 0; r < R; ++r)
    UNROLLED_FOR (int q = 0; q < Q; ++q) store(out + r * to.out_row + q * LANES, sums[r * Q + q]);
}

}  // namespace
}  // namespace harp
