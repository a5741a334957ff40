// A vector register and the few things done with it, in GCC's and Clang's generic vectors: no intrinsics but for
// permutations. Everything is static: each build of table.cpp gets its own copy, in its own instruction set.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define HARP_LANES 16
#elif defined(__AVX2__)
#define HARP_LANES 8
#else
#define HARP_LANES 4
#endif

// Loops of a constant number of rounds become straight code, with their variables in registers.
#if defined(__clang__)
#define UNROLLED_FOR _Pragma("unroll") for
#else
#define UNROLLED_FOR _Pragma("GCC unroll 24") for
#endif

namespace {

constexpr int LANES = HARP_LANES;
typedef float Vector __attribute__((vector_size(4 * HARP_LANES)));
typedef std::int32_t Integers __attribute__((vector_size(4 * HARP_LANES)));

inline Vector load(const float* p) {
  Vector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vector v) { __builtin_memcpy(p, &v, sizeof v); }

inline Vector spread(float x) { return x - Vector{}; }

// Comparisons with NaN are false, so the second alternative is the one that keeps a NaN.
inline Vector at_least(Vector x, Vector low) { return low > x ? low : x; }
inline Vector at_most(Vector x, Vector high) { return high < x ? high : x; }
inline Vector larger(Vector a, Vector b) {
  Vector m = a > b ? a : b;  // b when either is NaN
  return a != a ? a : m;
}

#if defined(__ARM_NEON)
// Lane i is v[from[i]], or zero where from[i] is beyond the lanes: a table of 16 bytes, looked up by byte.
inline Vector look_up(Vector v, Integers from) {
  const auto bytes = (uint8x16_t)((uint32x4_t)from * 0x04040404u + 0x03020100u);
#if defined(__aarch64__)
  return (Vector)vqtbl1q_u8((uint8x16_t)v, bytes);
#else
  const uint8x8x2_t table = {{vget_low_u8((uint8x16_t)v), vget_high_u8((uint8x16_t)v)}};
  return (Vector)vcombine_u8(vtbl2_u8(table, vget_low_u8(bytes)), vtbl2_u8(table, vget_high_u8(bytes)));
#endif
}

inline Integers load_integers(const std::int32_t* p) {
  Integers v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
#endif

// The lanes of `valid` get v[from[lane]], the others stay those of `base`.
inline Vector permute_onto(Vector base, Vector v, const std::int32_t* from, std::uint32_t valid) {
#if defined(__AVX512F__)
  const __m512i index = _mm512_loadu_si512(from);
  return (Vector)_mm512_mask_permutexvar_ps((__m512)base, (__mmask16)valid, index, (__m512)v);
#elif defined(__AVX2__)
  const Integers bit = {1, 2, 4, 8, 16, 32, 64, 128};
  const __m256i index = _mm256_loadu_si256((const __m256i*)from);
  const Vector moved = (Vector)_mm256_permutevar8x32_ps((__m256)v, index);
  return (static_cast<std::int32_t>(valid) & bit) != 0 ? moved : base;
#elif defined(__ARM_NEON)
  const Integers bit = {1, 2, 4, 8};
  const Vector moved = look_up(v, load_integers(from));
  return (static_cast<std::int32_t>(valid) & bit) != 0 ? moved : base;
#else
  for (int i = 0; i < LANES; ++i) base[i] = valid >> i & 1 ? v[from[i]] : base[i];
  return base;
#endif
}

// Lane i is p[from[i] - LANES], or zero where from[i] is 0.
inline Vector load_shifted(const float* p, const std::int32_t* from) {
#if defined(__AVX512F__)
  return (Vector)_mm512_permutex2var_ps(_mm512_setzero_ps(), _mm512_load_si512(from), _mm512_loadu_ps(p));
#elif defined(__AVX2__)
  const __m256i index = _mm256_load_si256((const __m256i*)from);
  const Vector moved = (Vector)_mm256_permutevar8x32_ps(_mm256_loadu_ps(p), index);  // looks at three bits of an index
  return (Integers)index > 0 ? moved : Vector{};
#elif defined(__ARM_NEON)
  return look_up(load(p), load_integers(from) - LANES);  // below the lanes is beyond them, too
#else
  Vector result;
  for (int i = 0; i < LANES; ++i) result[i] = from[i] ? p[from[i] - LANES] : 0.0f;
  return result;
#endif
}

// One bit per lane of a comparison, and the comparison that gives these bits.
inline unsigned bits_of(Integers mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
#else
  unsigned bits = 0;
  for (int i = 0; i < LANES; ++i) bits |= (mask[i] & 1u) << i;
  return bits;
#endif
}

inline Integers mask_of(unsigned bits) {
#if defined(__AVX512F__)
  return (Integers)_mm512_movm_epi32((__mmask16)bits);
#else
  Integers bit;
  for (int i = 0; i < LANES; ++i) bit[i] = 1 << i;
  return (static_cast<std::int32_t>(bits) & bit) != 0;
#endif
}

inline void store_first(float* p, Vector v, int lanes) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << lanes) - 1), (__m512)v);
#else
  if (lanes == LANES) {
    store(p, v);
  } else {
    for (int i = 0; i < lanes; ++i) p[i] = v[i];
  }
#endif
}

// As many lanes as there are numbers; the others are those of `rest`.
inline Vector load_first(const float* p, int lanes, Vector rest) {
#if defined(__AVX512F__)
  return (Vector)_mm512_mask_loadu_ps((__m512)rest, (__mmask16)((1u << lanes) - 1), p);
#else
  __builtin_memcpy(&rest, p, static_cast<unsigned>(lanes) * sizeof(float));
  return rest;
#endif
}

inline float sum_of(Vector v) {
  float lane[LANES];
  store(lane, v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// (exp(r) - 1 - r) / r² near zero.
inline Vector exponential_rest(Vector r) {
  Vector p = spread(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p;
}

// exp, to about one unit in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]. Saturates; keeps NaN.
inline Vector exponential(Vector x) {
  const Vector limited = at_most(at_least(x, spread(-87.3f)), spread(88.3f));
  const Vector magic = spread(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
  const Vector n = (limited * 1.44269504f + magic) - magic;
  const Vector r = (limited - n * 0.693359375f) + n * 2.12194440e-4f;
  const Vector p = exponential_rest(r) * r * r + r + 1.0f;
  const Vector finite = n == n ? n : spread(0.0f);
  const Integers power = (__builtin_convertvector(finite, Integers) + 127) << 23;
  return p * (Vector)power;
}

}  // namespace
