// The kernels: everything that touches numbers. Compiled once per instruction set, with HARP_KERNELS naming the table.
//
// Uses no inline function of the standard library, see kernels.h.

#include "kernels.h"
#include "vector.h"

namespace harp {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif
constexpr int MOST_POSITIONS = REGISTERS == 32 ? 24 : 12;
constexpr int MOST_DENSE = REGISTERS == 32 ? 6 : 3;
#define UNROLLED _Pragma("GCC unroll 24")

// Keeps the compiler from rewriting a pointer plus constants as many additions: loads have room for a constant.
inline const float* opaque(const float* p) {
  __asm__("" : "+r"(p));
  return p;
}

void activate(float* x, std::size_t vectors, Activation activation, float slope);

inline bool simple(Activation a) { return static_cast<int>(a) <= static_cast<int>(Activation::leaky); }

inline Vector apply_simple(Vector x, Activation activation, float slope) {
  if (activation == Activation::none) return x;
  if (activation == Activation::leaky) return x < 0.0f ? x * slope : x;
  x = at_least(x, spread(0.0f));
  return activation == Activation::relu6 ? at_most(x, spread(6.0f)) : x;
}

// Residual, activation, pooling, and the write of one output channel's tile.
template <int R, int Q>
inline void finish(Vector (&sums)[R * Q], const Store& to, int channel) {
  if (to.add) {
    const float* add = to.add + channel * to.add_channel;
    UNROLLED for (int r = 0; r < R; ++r)
      UNROLLED for (int q = 0; q < Q; ++q) sums[r * Q + q] += load(add + r * to.add_row + q * LANES);
  }
  if (to.activation == Activation::relu) {
    UNROLLED for (int i = 0; i < R * Q; ++i) sums[i] = at_least(sums[i], spread(0.0f));
  } else if (simple(to.activation)) {
    UNROLLED for (int i = 0; i < R * Q; ++i) sums[i] = apply_simple(sums[i], to.activation, to.slope);
  } else {
    float copy[R * Q * LANES];  // so that no pointer to the sums leaves: they must stay in registers
    UNROLLED for (int i = 0; i < R * Q; ++i) store(copy + i * LANES, sums[i]);
    activate(copy, R * Q, to.activation, to.slope);
    UNROLLED for (int i = 0; i < R * Q; ++i) sums[i] = load(copy + i * LANES);
  }
  float* out = to.out + channel * to.out_channel;
  if constexpr (R % 2 == 0 && Q % 2 == 0) {
    if (to.pool) {
      UNROLLED for (int r = 0; r < R; r += 2)
        UNROLLED for (int q = 0; q < Q; q += 2) {
          const Vector upper = larger(sums[r * Q + q], sums[r * Q + q + 1]);
          const Vector lower = larger(sums[(r + 1) * Q + q], sums[(r + 1) * Q + q + 1]);
          store(out + r / 2 * to.out_row + q / 2 * LANES, larger(upper, lower));
        }
      return;
    }
  }
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int q = 0; q < Q; ++q) store(out + r * to.out_row + q * LANES, sums[r * Q + q]);
}

// The heart: one load and one multiply-add per non-zero and vector of positions; the sums never leave the registers.
// With few positions, several non-zeros go to sums of their own, to hide the latency of the multiply-add.
template <int R, int Q, int STEP>
void sparse(const SparseTask& t) {
  constexpr int P = R * Q, UNROLL = P <= 2 ? 4 : P <= 4 ? 2 : 1;
  const float* const origin = t.in;
  const std::ptrdiff_t row = t.in_row;
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sums[UNROLL][P];
    float* partial = t.partial ? t.partial + static_cast<std::ptrdiff_t>(channel) * P * LANES : nullptr;
    UNROLLED for (int i = 0; i < P; ++i) sums[0][i] = t.bias ? spread(t.bias[channel]) : load(partial + i * LANES);
    UNROLLED for (int u = 1; u < UNROLL; ++u)
      UNROLLED for (int i = 0; i < P; ++i) sums[u][i] = Vector{};
    const Tap *tap = t.taps + t.rows[channel], *end = t.taps + t.rows[channel + 1];
    for (; tap + UNROLL <= end; tap += UNROLL)
      UNROLLED for (int u = 0; u < UNROLL; ++u) {
        const float* in = opaque(origin + tap[u].offset);
        const Vector weight = spread(tap[u].weight);
        UNROLLED for (int r = 0; r < R; ++r, in = opaque(in + row))
          UNROLLED for (int q = 0; q < Q; ++q) sums[u][r * Q + q] += weight * load(in + q * STEP * LANES);
      }
    for (; UNROLL > 1 && tap < end; ++tap) {
      const float* in = opaque(origin + tap->offset);
      const Vector weight = spread(tap->weight);
      UNROLLED for (int r = 0; r < R; ++r, in = opaque(in + row))
        UNROLLED for (int q = 0; q < Q; ++q) sums[0][r * Q + q] += weight * load(in + q * STEP * LANES);
    }
    UNROLLED for (int u = 1; u < UNROLL; ++u)
      UNROLLED for (int i = 0; i < P; ++i) sums[0][i] += sums[u][i];
    if (t.last) {
      finish<R, Q>(sums[0], t.store, channel);
    } else {
      UNROLLED for (int i = 0; i < P; ++i) store(partial + i * LANES, sums[0][i]);
    }
  }
}

template <int P>
inline void add_wrapped(Vector (&sums)[P], const WrappedTask& t, const float* origin, Tap tap) {
  const auto packed = static_cast<std::uint32_t>(tap.offset);
  const std::size_t place = packed % MOST_PLACES;
  const float* in = origin + packed / MOST_PLACES * LANES;
  UNROLLED for (int i = 0; i < P; ++i) {
    const float* vector = P == 1 ? in : in + t.vectors[place * P + i];
    sums[i] += tap.weight * load_shifted(vector, t.shifts[place * P + i].from);
  }
}

// The whole map at once, of few positions. Costs a permutation for every multiply-add, and touches a fraction of the
// memory that a framed map takes: a part of one position would have a frame of eight.
template <int R, int Q>
void wrapped(const WrappedTask& t) {
  constexpr int P = R * Q, UNROLL = P == 1 ? 4 : 2;
  const float* const origin = t.in;
  for (int channel = t.begin; channel < t.end; ++channel) {
    Vector sums[UNROLL][P];
    UNROLLED for (int i = 0; i < P; ++i) sums[0][i] = spread(t.bias[channel]);
    UNROLLED for (int u = 1; u < UNROLL; ++u)
      UNROLLED for (int i = 0; i < P; ++i) sums[u][i] = Vector{};
    const Tap *tap = t.taps + t.rows[channel], *end = t.taps + t.rows[channel + 1];
    for (; tap + UNROLL <= end; tap += UNROLL)
      UNROLLED for (int u = 0; u < UNROLL; ++u) add_wrapped(sums[u], t, origin, tap[u]);
    for (; tap < end; ++tap) add_wrapped(sums[0], t, origin, *tap);
    UNROLLED for (int u = 1; u < UNROLL; ++u)
      UNROLLED for (int i = 0; i < P; ++i) sums[0][i] += sums[u][i];
    finish<R, Q>(sums[0], t.store, channel);
  }
}

WrappedKernel choose_wrapped(int rows, int columns) {
#if defined(__AVX2__)
  if (rows == 1 && columns == 1) return wrapped<1, 1>;
  if (rows == 1 && columns == 2) return wrapped<1, 2>;
  if (rows == 2 && columns == 1) return wrapped<2, 1>;
  if (rows == 2 && columns == 2) return wrapped<2, 2>;
#else
  (void)rows, (void)columns;  // a permutation takes too many instructions
#endif
  return nullptr;
}

// Four output channels share every load.
template <int R, int Q, int STEP>
void dense(const DenseTask& t) {
  constexpr int P = R * Q;
  const float* const origin = t.in;
  const std::ptrdiff_t row = t.in_row;
  for (int channel = t.begin; channel < t.end; channel += DENSE_ROWS) {
    Vector sums[DENSE_ROWS][P];
    UNROLLED for (int o = 0; o < DENSE_ROWS; ++o)
      UNROLLED for (int i = 0; i < P; ++i) sums[o][i] = spread(t.bias[channel + o]);
    const float* weights = t.weights + static_cast<std::ptrdiff_t>(channel) * t.taps;
    for (int k = 0; k < t.taps; ++k, weights += DENSE_ROWS) {
      const float* in = opaque(origin + t.offsets[k]);
      Vector x[P];
      UNROLLED for (int r = 0; r < R; ++r, in = opaque(in + row))
        UNROLLED for (int q = 0; q < Q; ++q) x[r * Q + q] = load(in + q * STEP * LANES);
      UNROLLED for (int o = 0; o < DENSE_ROWS; ++o)
        UNROLLED for (int i = 0; i < P; ++i) sums[o][i] += spread(weights[o]) * x[i];
    }
    UNROLLED for (int o = 0; o < DENSE_ROWS; ++o)
      if (channel + o < t.end) finish<R, Q>(sums[o], t.store, channel + o);
  }
}

template <int R, int Q>
constexpr SparseKernel sparse_kernel(int step) {
  if constexpr (R * Q <= MOST_POSITIONS) return step == 2 ? sparse<R, Q, 2> : sparse<R, Q, 1>;
  return nullptr;
}

template <int R>
SparseKernel sparse_rows(int columns, int step) {
  switch (columns) {
    case 1: return sparse_kernel<R, 1>(step);
    case 2: return sparse_kernel<R, 2>(step);
    case 3: return sparse_kernel<R, 3>(step);
    case 4: return sparse_kernel<R, 4>(step);
    case 5: return sparse_kernel<R, 5>(step);
    case 6: return sparse_kernel<R, 6>(step);
    case 7: return sparse_kernel<R, 7>(step);
    case 8: return sparse_kernel<R, 8>(step);
    default: return nullptr;
  }
}

SparseKernel choose_sparse(int rows, int columns, int step) {
  switch (rows) {
    case 1: return sparse_rows<1>(columns, step);
    case 2: return sparse_rows<2>(columns, step);
    case 3: return sparse_rows<3>(columns, step);
    case 4: return sparse_rows<4>(columns, step);
    default: return nullptr;
  }
}

template <int R, int Q>
constexpr DenseKernel dense_kernel(int step) {
  if constexpr (R * Q <= MOST_DENSE) return step == 2 ? dense<R, Q, 2> : dense<R, Q, 1>;
  return nullptr;
}

DenseKernel choose_dense(int rows, int columns, int step) {
  switch (rows * 8 + columns) {
    case 9: return dense_kernel<1, 1>(step);
    case 10: return dense_kernel<1, 2>(step);
    case 11: return dense_kernel<1, 3>(step);
    case 12: return dense_kernel<1, 4>(step);
    case 13: return dense_kernel<1, 5>(step);
    case 14: return dense_kernel<1, 6>(step);
    case 17: return dense_kernel<2, 1>(step);
    case 18: return dense_kernel<2, 2>(step);
    case 19: return dense_kernel<2, 3>(step);
    default: return nullptr;
  }
}

void frame(const Frame& f, float* map) {
  for (int i = 0; i < f.count; ++i) {
    const FrameEntry& e = f.entries[i];
    if (e.permutation < 0) {
      store(map + e.to, spread(f.fill));
    } else {
      const Permutation& p = f.permutations[e.permutation];
      store(map + e.to, permute_onto(spread(f.fill), load(map + e.from), p.from, p.valid));
    }
  }
}

// Entries with the same target follow each other: their lanes come from several vectors.
void move(const Frame& f, float* dst, const float* src, int lanes) {
  Vector v{};
  for (int i = 0; i < f.count; ++i) {
    const FrameEntry& e = f.entries[i];
    if (i == 0 || f.entries[i - 1].to != e.to) v = spread(f.fill);
    if (e.permutation >= 0) {
      const Permutation& p = f.permutations[e.permutation];
      v = permute_onto(v, load(src + e.from), p.from, p.valid);
    }
    if (i + 1 == f.count || f.entries[i + 1].to != e.to) store_first(dst + e.to, v, lanes);
  }
}

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }
inline Vector hard(Vector x) { return at_most(at_least(x + 3.0f, spread(0.0f)), spread(6.0f)) * (1.0f / 6.0f); }

inline Vector gelu(Vector x) {
  Vector y;
  for (int i = 0; i < LANES; ++i) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
  return y;
}

inline Vector apply(Vector x, Activation activation, float slope) {
  switch (activation) {
    case Activation::sigmoid: return sigmoid(x);
    case Activation::silu: return x * sigmoid(x);
    case Activation::hardswish: return x * hard(x);
    case Activation::hardsigmoid: return hard(x);
    case Activation::gelu: return gelu(x);
    case Activation::gelu_tanh: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    default: return apply_simple(x, activation, slope);
  }
}

void activate(float* x, std::size_t vectors, Activation activation, float slope) {
  for (std::size_t i = 0; i < vectors; ++i) store(x + i * LANES, apply(load(x + i * LANES), activation, slope));
}

void scale(float* out, const float* x, std::size_t vectors, float factor, float shift) {
  for (std::size_t i = 0; i < vectors; ++i) store(out + i * LANES, load(x + i * LANES) * factor + shift);
}

void combine(float* out, const float* a, const float* b, std::size_t vectors, bool multiply, bool broadcast) {
  for (std::size_t i = 0; i < vectors; ++i) {
    const Vector x = load(a + i * LANES), y = load(broadcast ? b : b + i * LANES);
    store(out + i * LANES, multiply ? x * y : x + y);
  }
}

void pool(float* out, const float* in, std::ptrdiff_t in_row, int rows, int columns, const float* divisors) {
  Vector result = load(in);
  for (int r = 0; r < rows; ++r)
    for (int q = r == 0; q < columns; ++q) {
      const Vector x = load(in + r * in_row + q * LANES);
      result = divisors ? result + x : larger(result, x);
    }
  store(out, divisors ? result * load(divisors) : result);
}

void mean(const float* in, Rows map, int images, float count, float* out, std::ptrdiff_t out_image) {
  Vector sum{};
  for (int r = 0; r < map.rows; ++r)
    for (int q = 0; q < map.columns; ++q) sum += load(in + r * map.row + q * LANES);
  float lanes[LANES];
  store(lanes, sum);
  const int each = LANES / images;
  for (int image = 0; image < images; ++image) {
    float total = 0;
    for (int lane = 0; lane < each; ++lane) total += lanes[image * each + lane];
    out[image * out_image] = total / count;
  }
}

void softmax(float* out, std::ptrdiff_t out_channel, const float* in, std::ptrdiff_t in_channel, int channels) {
  Vector largest = load(in), sum{};
  for (int c = 1; c < channels; ++c) largest = larger(largest, load(in + c * in_channel));
  for (int c = 0; c < channels; ++c) {
    const Vector e = exponential(load(in + c * in_channel) - largest);
    sum += e;
    store(out + c * out_channel, e);
  }
  for (int c = 0; c < channels; ++c) store(out + c * out_channel, load(out + c * out_channel) / sum);
}

void gather(const GatherTask& t, const float* src, int channel) {
  const float* from_channel = src + channel * t.src_channel;
  float* dst = t.dst + channel * t.dst_channel;
  const float factor = t.scale ? t.scale[channel] : 1.0f, shift = t.shift ? t.shift[channel] : 0.0f;
  const std::int32_t* from = t.from;
  for (int i = 0; i < t.count; ++i, from += t.lanes, dst += t.dst_step)
    for (int lane = 0; lane < t.lanes; ++lane)
      dst[lane] = from[lane] < 0 ? t.fill : from_channel[from[lane] * t.src_pixel] * factor + shift;
}

// Ten chains of multiply-adds, enough to keep two units with a latency of five busy.
double peak(std::int64_t rounds) {
  constexpr int CHAINS = 10;
  Vector sums[CHAINS];
  UNROLLED for (int i = 0; i < CHAINS; ++i) sums[i] = spread(0.5f + i);
  Vector a = spread(0.999f), b = spread(0.001f);
  for (std::int64_t k = 0; k < rounds; ++k) {
    UNROLLED for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * a + b;
    __asm__ volatile("" ::: "memory");
  }
  float used = 0;
  UNROLLED for (int i = 0; i < CHAINS; ++i) used += sums[i][0];
  __asm__ volatile("" : : "m"(used));
  return 2.0 * CHAINS * LANES * static_cast<double>(rounds);
}

#if defined(__AVX512F__)
constexpr const char* ISA = "AVX-512";
#elif defined(__AVX2__)
constexpr const char* ISA = "AVX2";
#elif defined(__aarch64__)
constexpr const char* ISA = "NEON";
#else
constexpr const char* ISA = "baseline";
#endif

const Kernels TABLE{ISA,   LANES,    MOST_POSITIONS, MOST_DENSE, choose_sparse, choose_dense, choose_wrapped, frame, move, activate,
                    scale, combine,  pool,           mean,       softmax,       gather,       peak};

}  // namespace

const Kernels* HARP_KERNELS() { return &TABLE; }

}  // namespace harp
