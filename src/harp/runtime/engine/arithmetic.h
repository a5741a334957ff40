// Divisions and powers of two. Not for kernels, see kernels/kernels.h.
#pragma once

#include <cstdint>

namespace harp {

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

inline int floor_div(int a, int b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

inline int power_above(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

inline int power_below(std::int64_t limit) {
  int power = 1;
  while (2LL * power <= limit) power *= 2;
  return power;
}

}  // namespace harp
