// The kernels: everything that touches numbers. Compiled once per instruction set, with HARP_KERNELS naming the table.
//
// The headers beside this file are parts of it: all they define is static, and none uses an inline function of the
// standard library, see kernels.h.

#include "backward.h"
#include "dense_tile.h"
#include "elementwise.h"
#include "kernels.h"
#include "learning.h"
#include "moving.h"
#include "sparse_tile.h"
#include "tensors.h"
#include "vector.h"
#include "wrapped_map.h"

namespace harp {
namespace {

// Ten chains of multiply-adds, enough to keep two units with a latency of five busy.
double peak(std::int64_t rounds) {
  constexpr int CHAINS = 10;
  Vector sums[CHAINS];
  UNROLLED_FOR (int i = 0; i < CHAINS; ++i) sums[i] = spread(0.5f + i);
  Vector a = spread(0.999f), b = spread(0.001f);
  for (std::int64_t k = 0; k < rounds; ++k) {
    UNROLLED_FOR (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * a + b;
    __asm__ volatile("" ::: "memory");
  }
  float used = 0;
  UNROLLED_FOR (int i = 0; i < CHAINS; ++i) used += sums[i][0];
  __asm__ volatile("" : : "m"(used));
  return 2.0 * CHAINS * LANES * static_cast<double>(rounds);
}

#if defined(__AVX512F__)
constexpr const char* ISA = "AVX-512";
#elif defined(__AVX2__)
constexpr const char* ISA = "AVX2";
#elif defined(__ARM_NEON)
constexpr const char* ISA = "NEON";
#else
constexpr const char* ISA = "baseline";
#endif

const Kernels TABLE{ISA,
                    LANES,
                    MOST_POSITIONS,
                    MOST_DENSE_POSITIONS,
                    choose_sparse_tile,
                    choose_dense_tile,
                    choose_wrapped_map,
                    frame,
                    move,
                    activate,
                    scale,
                    combine,
                    pool,
                    mean,
                    softmax,
                    BACK,
                    normalise_channels,
                    TENSORS,
                    gather,
                    peak,
                    LEARNING};

}  // namespace

const Kernels* HARP_KERNELS() { return &TABLE; }

}  // namespace harp
