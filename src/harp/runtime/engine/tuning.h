// Every number that was chosen by measuring, or that could be chosen otherwise, and why it is what it is.
//
// Measured with VGG16 and ResNet-18 for 32 x 32 images at 0.1 to 50 % of their weights on Zen 3 (AVX2) and Sapphire
// Rapids (AVX-512). None of them changes what is computed beyond the order of sums.
//
// Constants alone, no functions: the kernels include this file, see kernels/kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace harp::tuning {

// --- kernels: sums that stay in registers ---

// Positions of a sparse tile at most. Each holds a register; the rest are for the weight and what is loaded. More
// positions read a tap less often per position.
constexpr int MOST_POSITIONS_OF_32_REGISTERS = 24, MOST_POSITIONS_OF_16_REGISTERS = 12;

// The same for a dense tile, of which each position holds four sums and one input.
constexpr int MOST_DENSE_POSITIONS_OF_32_REGISTERS = 6, MOST_DENSE_POSITIONS_OF_16_REGISTERS = 3;

// Chains of sums in a sparse tile of one or two positions, and of three or four: a multiply-add takes four cycles and
// two begin in each, so that one chain would wait. Larger tiles have chains enough.
constexpr int CHAINS_OF_TWO_POSITIONS = 4, CHAINS_OF_FOUR_POSITIONS = 2;

// --- convolutions: which kernel, which tile ---

// Density above which four output channels that share each load beat skipping zeros.
constexpr double DENSE_ABOVE = 0.3;
// Density above which measuring may find that they do.
constexpr double DENSE_WORTH_TRYING = 0.12;

// Positions of a sparse tile unless measured: 4 x 4 reads its neighbourhood the fewest times for its registers.
constexpr int USUAL_POSITIONS = 16, USUAL_SIDE = 4;
// Positions that measuring tries.
constexpr int POSITIONS_TO_TRY[] = {4, 8, 16, 24};
// Sides of a sparse tile at most: what kernels are compiled for.
constexpr int MOST_TILE_ROWS = 4, MOST_TILE_COLUMNS = 8;
// What a tile costs beside its inputs, in vectors read: the start of its loop over taps.
constexpr double TILE_START = 8.0;

// What the inputs of a tile may take of the first-level cache, in floats: 32 KB. Above, input channels are cut into
// blocks.
constexpr int CACHE_FLOATS = 8 * 1024;
// Taps a channel should have in each block: with fewer, starting a block costs more than the misses it saves.
constexpr double TAPS_PER_BLOCK = 12, TAPS_PER_BLOCK_TO_TRY = 5;
constexpr int MOST_BLOCKS_TO_TRY = 32;

// Taps per output channel below which a map without a frame is faster, for one position a part and for two to four.
// Each tap then costs a permutation, and a framed map takes up to nine times the memory.
constexpr double WRAP_ONE_POSITION = 150, WRAP_FEW_POSITIONS = 40;

// Output channels computed before their frames are filled, so that they are still in the first-level cache.
constexpr int CHANNELS_BEFORE_FRAMES = 8;

// --- layouts ---

// Positions a part should have: where less than 3 % of the weights are left, the maps of fewer images take less memory
// than the weights need registers.
constexpr double SPARSE_BELOW = 0.03;
constexpr int DENSE_POSITIONS = 16, SPARSE_POSITIONS = 4;
// What measuring tries beside these.
constexpr int PART_POSITIONS_TO_TRY[] = {1, 4, 16, 64};

// What a part of rows x columns costs: each position is computed, each of its border is copied from other parts, which
// takes a quarter of that. Counted by rows + columns, half of the border.
constexpr std::int64_t COST_OF_A_POSITION = 64, COST_OF_HALF_A_BORDER = 32;

// A value moves to a layout with less waste when that saves this factor of positions: a move reads and writes all.
constexpr double WASTE_WORTH_A_MOVE = 1.6;

// --- layers that learn ---

// Columns of a strip of positions: what a window of 3 x 3 reads of 64 channels and 128 images is then 1 MB.
constexpr int LEARNING_STRIP = 8;
// Positions whose share of the gradients of a channel's weights is added at once: the sums are then in the first cache.
constexpr int LEARNING_POSITIONS = 4;

// --- threads ---

// Channels that a thread takes at least when threads share a layer: dense tiles compute several at once, and two
// threads should not write to one cache line.
constexpr int CHANNELS_PER_THREAD = 8;
// Numbers of a tensor that a thread takes at least. A multiple of all numbers of lanes.
constexpr int NUMBERS_PER_THREAD = 2048;
// Rounds that a barrier spins before it yields: layers take microseconds, and waking up takes more.
constexpr int SPINS = 4000;

// --- measuring ---

// Seconds for measuring the layers of one plan. The first call with a new size waits for it.
constexpr double MEASURING_S = 0.3;
// What another choice must save to be taken: times differ by some 3 % by themselves.
constexpr double CLEARLY_FASTER = 0.97;
// A choice whose first time is within this factor of the best is measured again: of plans, and of layers.
constexpr double PLAN_WORTH_REPEATING = 1.2, LAYER_WORTH_REPEATING = 1.3;
// Repetitions where a run is short, and what counts as short.
constexpr double SHORT_PLAN_S = 0.01, SHORT_LAYER_S = 2e-4;
constexpr int REPEATS_OF_SHORT_PLAN = 3, REPEATS_OF_SHORT_LAYER = 6;

// Plans that are kept, by image size and number of images. Each holds the weights once more.
constexpr std::size_t MOST_PLANS = 16;

}  // namespace harp::tuning
