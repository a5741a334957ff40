#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tensors.h"

namespace harp {
namespace {

constexpr std::size_t BATCH_AXES = 4, NUMBERS = BATCH_AXES + 3 + 2 * (BATCH_AXES + 3);

// With the batch in the first axes and a matrix in the last two.
Walk factor(const std::vector<std::int64_t>& numbers, std::size_t first, std::int64_t rows, std::int64_t columns) {
  Walk walk;
  walk.from = numbers[first];
  for (std::size_t axis = 0; axis < BATCH_AXES + 2; ++axis) {
    walk.extents[axis] = axis < BATCH_AXES ? numbers[axis] : axis == BATCH_AXES ? rows : columns;
    walk.strides[axis] = numbers[first + 1 + axis];
  }
  return walk;
}

// The same with the batch alone, for Walk::row.
Walk batch(const Walk& walk) {
  Walk alone;
  alone.from = walk.from;
  alone.extents.fill(1);
  for (std::size_t axis = 0; axis < BATCH_AXES; ++axis) {
    alone.extents[axis + 1] = walk.extents[axis];
    alone.strides[axis + 1] = walk.strides[axis];
  }
  return alone;
}

}  // namespace

MatmulStep::MatmulStep(const Node& node, const Kernels* kernels, std::vector<const Place*> from, const Place* out)
    : TensorStep(node, kernels, std::move(from), out) {
  const auto& numbers = details().numbers;
  if (numbers.size() != NUMBERS || in.size() != 2 || details().values.size() != 1)
    throw std::invalid_argument("a product of matrices that is not described");
  rows_ = numbers[BATCH_AXES], columns_ = numbers[BATCH_AXES + 1], steps_ = numbers[BATCH_AXES + 2];
  const Walk a = factor(numbers, BATCH_AXES + 3, rows_, steps_);
  const Walk b = factor(numbers, 2 * BATCH_AXES + 6, steps_, columns_);
  a.check(numbers_in(*in[0]));
  b.check(numbers_in(*in[1]));
  a_row_ = a.strides[BATCH_AXES], a_step_ = a.strides[BATCH_AXES + 1];
  b_step_ = b.strides[BATCH_AXES], b_column_ = b.strides[BATCH_AXES + 1];
  batches_[0] = batch(a);
  batches_[1] = batch(b);
  if (batches_[0].rows() * rows_ * columns_ != numbers_in(*out))
    throw std::invalid_argument("a product of matrices whose result does not fit");
  panels_ = static_cast<int>((columns_ + kernels->tensors.panel_columns - 1) / kernels->tensors.panel_columns);
  units_ = static_cast<int>(batches_[0].rows() * panels_);
}

std::size_t MatmulStep::scratch_floats() const {
  return static_cast<std::size_t>(steps_) * static_cast<std::size_t>(kernels->tensors.panel_columns);
}

// By rows where these lie together, else by columns: the panel is small enough for the cache.
void MatmulStep::pack(const float* b, int columns, float* panel) const {
  const int width = kernels->tensors.panel_columns;
  if (columns < width) std::fill_n(panel, steps_ * width, 0.0f);
  if (b_column_ == 1) {
    for (std::int64_t k = 0; k < steps_; ++k)
      kernels->tensors.copy(panel + k * width, 1, b + k * b_step_, 1, static_cast<std::size_t>(columns));
  } else {
    for (int column = 0; column < columns; ++column)
      kernels->tensors.copy(panel + column, width, b + column * b_column_, b_step_, static_cast<std::size_t>(steps_));
  }
}

void MatmulStep::run(const Memory& memory, int group, int begin, int end, float* scratch) const {
  const int width = kernels->tensors.panel_columns;
  for (int unit = begin; unit < end; ++unit) {
    const int which = unit / panels_, first = unit % panels_ * width;
    const int columns = static_cast<int>(std::min<std::int64_t>(width, columns_ - first));
    pack(source(memory, group, 1) + batches_[1].row(which) + first * b_column_, columns, scratch);
    kernels->tensors.product({source(memory, group, 0) + batches_[0].row(which), a_row_, a_step_, scratch,
                              static_cast<int>(rows_), static_cast<int>(steps_), columns,
                              out->at(memory, group) + which * rows_ * columns_ + first, columns_,
                              details().values[0]});
  }
}

}  // namespace harp
