// What the kernels are told. One table of functions per instruction set; table.cpp is compiled once for each.
//
// Plain structs and pointers only: a header with inline functions would be compiled with AVX-512 in one unit and
// without in another, and the linker keeps one of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace harp {

constexpr int MOST_LANES = 16;

// One non-zero weight: where its input lies, in floats from the origin of the tile, and its value.
struct Tap {
  std::int32_t offset;
  float weight;
};

// Those with a number take it as `slope`: leaky, elu, power, at_least and at_most.
// clang-format off
enum class Activation : int {
  none, relu, relu6, leaky, sigmoid, silu, hardswish, hardsigmoid, gelu, gelu_tanh,
  tanh, elu, mish, softplus, exp, log, sqrt, rsqrt, abs, sin, cos, erf, power, at_least, at_most
};
// clang-format on

// Of a maximum of 2 x 2: its column, its row, and whether the activation lets a gradient pass.
constexpr int POOL_BITS = 3;

// What happens to a tile of sums before it is written, and where.
struct Store {
  float* out;  // of channel 0
  std::ptrdiff_t out_channel, out_row;
  const float* add;  // a residual, or null
  std::ptrdiff_t add_channel, add_row;
  Activation activation;
  float slope;
  bool pool;  // write the maxima of 2 x 2 positions
  // Going forward with a tape: where to write, for each vector, which lanes let a gradient pass the activation; with
  // pooling three numbers for each vector, POOL_BITS. Null: no tape.
  std::uint16_t* bits;
  std::ptrdiff_t bits_channel, bits_row;
  // Going back: such bits, by which the sums are multiplied before they are written; lanes without get `leak` times
  // what they had. Null: none.
  const std::uint16_t* mask;
  std::ptrdiff_t mask_channel, mask_row;
  float leak;
};

// One tile of positions, for output channels begin to end, over one block of input channels.
struct SparseTask {
  const float* in;
  std::ptrdiff_t in_row;      // floats from one row of the tile to the next, in the input
  const Tap* taps;
  const std::uint32_t* rows;  // the taps of channel o are rows[o] to rows[o + 1]
  const float* bias;
  float* partial;             // sums of the blocks before, or null in the first
  bool last;                  // of the blocks: finish and store
  int begin, end;
  Store store;
};

constexpr int MOST_TILE_STEP = 2;  // vectors between adjacent inputs of a tile that is wider than one position

constexpr int DENSE_ROWS = 4;  // output channels that a dense tile computes at once

struct DenseTask {
  const float* in;
  std::ptrdiff_t in_row;
  const std::int32_t* offsets;  // of every tap, the same for all output channels
  int taps;
  const float* weights;         // [channel / 4][tap][4]
  const float* bias;            // padded to a multiple of 4
  int begin, end;
  Store store;
};

// For maps whose parts are of at most four positions: no frame, the neighbour's lanes are fetched at every tap.
constexpr int MOST_WRAPPED = 4;
constexpr int MOST_PLACES = 16;  // of a window: what fits below a tap's offset

// Lane i of a shifted vector is lane from[i] - LANES of the vector there, or zero where from[i] is 0.
struct alignas(64) Shift {
  std::int32_t from[MOST_LANES];
};

// Taps are packed: the offset of the channel's first vector (of the very vector, for a single position), times
// MOST_PLACES / LANES, and the place in the window in the bits below, which are free.
struct WrappedTask {
  const float* in;
  const Tap* taps;
  const std::uint32_t* rows;
  const Shift* shifts;         // [place][position]
  const std::int32_t* vectors; // [place][position]: which vector of the channel, in floats
  const float* bias;
  int begin, end;
  Store store;
};

using WrappedKernel = void (*)(const WrappedTask&);
using SparseKernel = void (*)(const SparseTask&);
using DenseKernel = void (*)(const DenseTask&);

// Rearranges the lanes of a vector, where bit i of `valid` says whether lane i gets from[i] or the fill value.
struct Permutation {
  std::int32_t from[MOST_LANES];
  std::uint32_t valid;
};

// One vector of the frame around a map (or one with lanes outside of the image) and where it comes from.
struct FrameEntry {
  std::int32_t to, from, permutation;
};

struct Frame {
  const FrameEntry* entries;
  int count;
  const Permutation* permutations;
  float fill;
};

// The rows of one channel's map, of rows x columns vectors.
struct Rows {
  int rows, columns;
  std::ptrdiff_t row;
};

// dst[to] = src[from[i]] for a table of lanes; the inner loop of every change of layout.
struct GatherTask {
  float* dst;
  std::ptrdiff_t dst_channel, dst_step;  // dst_step: between two entries of `lanes` lanes
  std::ptrdiff_t src_channel;            // of the source, in elements
  const std::int32_t* from;              // [count][lanes], -1: fill
  int count, lanes;
  float fill;
  const float *scale, *shift;            // one a channel, or null
};

// Of a window: the rows and columns that it covers of a map, from its first vector on.
struct Window {
  int rows, columns;
  std::ptrdiff_t row;  // floats from one to the next, of the map
};

// Position x of a row is position x / stride of the row of phase index[x % stride]; zero where that is -1.
struct Interleave {
  const float* row;  // of phase 0, or null: all is zero
  std::ptrdiff_t phase;
  const int* index;
  int stride;
  const float* add;            // a row to add, or null
  const std::uint16_t* mask;   // bits to mask with afterwards, or null
  float leak;
};

// What going back takes beside the tiles.
struct BackwardKernels {
  // Which lanes of x let a gradient pass the activation, a number for each vector.
  void (*signs)(std::uint16_t* bits, const float* x, std::size_t vectors, Activation);
  // g where a bit is set, leak times g elsewhere.
  void (*mask)(float* out, const float* g, const std::uint16_t* bits, std::size_t vectors, float leak);
  // g times the slope of a smooth activation at x.
  void (*slopes)(float* out, const float* g, const float* x, std::size_t vectors, Activation);
  // A row of gradients of maxima of 2 x 2, to two rows of what they were taken of.
  void (*unpool)(float* out, std::ptrdiff_t out_row, const float* g, const std::uint16_t* bits, std::size_t vectors);
  // For one maximum: the place in the window that it came from, in every lane.
  void (*argmax)(std::int32_t* places, const float* in, Window);
  // One gradient of a maximum, to the place it came from; of a mean, times its divisors, to all places.
  void (*spread_to_argmax)(float* map, Window, const float* g, const std::int32_t* places);
  void (*spread_mean)(float* map, Window, const float* g, const float* divisors);
  // Adds the frame around a map to what it is a copy of.
  void (*fold)(const Frame&, float* map);
  // A row of a map whose every stride-th position, from each phase on, is a row of its own; see Interleave.
  void (*interleave)(float* out, const Interleave&, int columns);
  // The sum over all positions of g, or of g times x where x is not null.
  void (*sum)(float* out, const float* g, std::ptrdiff_t g_row, const float* x, std::ptrdiff_t x_row, int rows,
              int columns);
  // (g - sum of g y over channels) y.
  void (*softmax)(float* out, std::ptrdiff_t out_channel, const float* g, std::ptrdiff_t g_channel, const float* y,
                  std::ptrdiff_t y_channel, int channels);
};

// Of two tensors of equally many numbers, each so many apart; 0: one number for all.
enum class Pairing : int { add, subtract, multiply, divide, maximum, minimum };
struct Pair {
  const float *a, *b;
  std::ptrdiff_t a_step, b_step;
  Pairing how;
};

// Numbers at mean 0 and variance 1, or at a root of the mean square of 1 where they are not centred; then scaled and
// shifted by what they get each, where that is not null.
struct Normalisation {
  const float *scale, *shift;
  float eps;
  bool centred;
};

enum class Reduction : int { sum, mean, maximum, minimum, norm };

// Rows of a product of matrices: a (row, step), of any strides, and a panel of b, packed as [step][panel_columns].
struct ProductTask {
  const float* a;
  std::ptrdiff_t a_row, a_step;
  const float* panel;
  int rows, steps, columns;  // columns: of the panel that are written
  float* out;
  std::ptrdiff_t out_row;
  float factor;
};

// Of tensors, whose numbers lie row by row; see steps/tensors.h.
struct TensorKernels {
  int panel_columns;
  void (*pair)(float* out, const Pair&, std::size_t count);
  void (*softmax)(float* out, const float* in, std::size_t count);
  void (*normalise)(float* out, const float* in, std::size_t count, const Normalisation&);
  float (*reduce)(const float* in, std::size_t count, Reduction);
  void (*product)(const ProductTask&);
  void (*copy)(float* out, std::ptrdiff_t out_step, const float* in, std::ptrdiff_t in_step, std::size_t count);
};

// Of layers that learn, see kernels/learning.h. A tap reads `channel` at one of the places of the window.
struct MapTap {
  std::int32_t channel, place;
  float weight;
};

// All images at one position, for output channels begin to end.
struct MapTask {
  const float* in;
  std::ptrdiff_t in_channel;
  const std::ptrdiff_t* places;  // where in a channel each place of the window lies, -1: in the padding
  const MapTap* taps;
  const std::uint32_t* rows;     // the taps of channel o are rows[o] to rows[o + 1]
  const float* bias;             // or null
  int begin, end, images;
  float* out;
  std::ptrdiff_t out_channel;
};

// The same position's share of the gradients of weights: a vector of sums for every tap.
struct DotsTask {
  const float* in;
  std::ptrdiff_t in_channel;
  const std::ptrdiff_t* places;
  const MapTap* taps;
  const std::uint32_t* rows;
  int begin, end, images;
  const float* upstream;
  std::ptrdiff_t upstream_channel;
  float* sums;
};

// (x - centre) * scale + shift, and factor times another, if there is one.
struct CentredScale {
  float centre, scale, shift;
  const float* add;
  float factor;
};

// The maximum over the places of one window, for all images; or its gradient, added to where each maximum came from.
struct PeakTask {
  const float* in;
  const std::ptrdiff_t* places;
  int count, images;
  float* out;             // of the window; of the input, going back
  const float* upstream;  // going back, or null
};

struct LearningKernels {
  void (*products)(const MapTask&);
  void (*dots)(const DotsTask&);
  // The sum of a - centre, or of that times b where it is not null; of its square where b is a.
  double (*sum)(const float* a, float centre, const float* b, std::ptrdiff_t count);
  void (*scale)(float* out, const float* x, const CentredScale&, std::ptrdiff_t count);
  void (*maximum)(const PeakTask&);
};

struct Kernels {
  const char* isa;
  int lanes;
  int most_positions;       // of a sparse tile
  int most_dense_positions;
  SparseKernel (*sparse_tile)(int rows, int columns, int step);  // step: up to MOST_TILE_STEP
  DenseKernel (*dense_tile)(int rows, int columns, int step);
  WrappedKernel (*wrapped_map)(int rows, int columns);  // null when there is none
  void (*frame)(const Frame&, float* map);
  void (*move)(const Frame&, float* dst, const float* src, int lanes);  // one channel into the first lanes of another
  void (*activate)(float* x, std::size_t vectors, Activation, float slope);
  void (*scale)(float* out, const float* x, std::size_t vectors, float scale, float shift);
  void (*combine)(float* out, const float* a, const float* b, std::size_t vectors, bool multiply, bool broadcast);
  void (*pool)(float* out, const float* in, std::ptrdiff_t in_row, int kernel_rows, int kernel_columns,
               const float* divisors);  // one output vector; divisors null: maximum
  void (*mean)(const float* in, Rows, int images, float count, float* out, std::ptrdiff_t out_image);
  void (*softmax)(float* out, std::ptrdiff_t out_channel, const float* in, std::ptrdiff_t in_channel, int channels);
  BackwardKernels back;
  // The channels of one vector of positions.
  void (*normalise)(float* out, std::ptrdiff_t out_channel, const float* in, std::ptrdiff_t in_channel, int channels,
                    const Normalisation&);
  TensorKernels tensors;
  void (*gather)(const GatherTask&, const float* src, int channel);
  double (*peak)(std::int64_t rounds);  // floating-point operations done
  LearningKernels learn;
};

const Kernels* baseline_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* neon_kernels();

}  // namespace harp
