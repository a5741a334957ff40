// Steps on tensors: numbers that lie row by row, one image at a time. What each is told is in Node::details, `numbers`
// in the order below; offsets and strides are in floats, and outputs lie row by row where no strides are given for
// them. A step that would reach beyond its tensors is refused when it is made.
//
//   copy            boxes, 21 numbers each: input (-1: values[0]), 6 extents, from, 6 strides, to, 6 strides
//   pairwise        Pairing, 6 extents, from, 6 strides of the first, from, 6 strides of the second
//   rows_softmax    numbers in a row
//   rows_normalise  numbers in a row, centred, scaled, shifted (0 or 1 each); values: eps, scales, shifts
//   rows_reduce     numbers in a row, Reduction
//   matmul          4 extents of the batch, rows, columns, steps of the sum; of each factor from, 4 strides of the
//                   batch, strides of row and step (of step and column, for the second); values: a factor
//   pack            from, strides of channel, row and column
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../network.h"
#include "step.h"

namespace harp {

constexpr int MOST_AXES = 6;

// Where a box of numbers lies.
struct Walk {
  std::int64_t from = 0;
  std::array<std::int64_t, MOST_AXES> extents{}, strides{};

  // Of the first number of a row along the last axis, the rows counted through.
  std::int64_t row(std::int64_t index) const;
  std::int64_t rows() const;
  // Throws std::invalid_argument unless all of it lies in so many floats.
  void check(std::int64_t floats) const;
};

// Numbers that a place holds, those that fill up its last cache line not counted.
std::int64_t numbers_in(const Place& place);

class TensorStep : public Step {
 public:
  TensorStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out);
  int units() const override { return units_; }
  int grain() const override { return grain_; }

 protected:
  const Details& details() const { return *node_.details; }
  const float* source(const Memory& memory, int group, std::size_t input = 0) const;

  const Node& node_;
  int units_ = 1, grain_ = 1;
};

// Boxes of numbers to other places: permutations, parts, paddings, concatenations, repetitions.
class CopyStep : public TensorStep {
 public:
  CopyStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  struct Box {
    int input, first;  // unit
    Walk from, to;
  };
  std::vector<Box> boxes_;
};

class PairwiseStep : public TensorStep {
 public:
  PairwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  Walk walks_[2];
};

// An activation, by blocks of numbers.
class ElementwiseStep : public TensorStep {
 public:
  ElementwiseStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
};

// A softmax, normalisation or reduction of each row.
class RowsStep : public TensorStep {
 public:
  RowsStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  std::int64_t count_;
};

// What a node is told of a normalisation, from its numbers `first` on.
Normalisation normalisation_of(const Details& details, std::size_t first, std::size_t count);
void check_normalisation(const Details& details, std::size_t first, std::size_t count);

// Products of matrices: a unit is a panel of columns of one of the batch, packed before it is used.
class MatmulStep : public TensorStep {
 public:
  MatmulStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
  std::size_t scratch_floats() const override;

 private:
  void pack(const float* b, int columns, float* panel) const;

  Walk batches_[2];
  std::int64_t rows_, columns_, steps_, a_row_, a_step_, b_step_, b_column_;
  int panels_;
};

// A tensor as a map, of one image in a vector of several perhaps.
class PackStep : public TensorStep {
 public:
  PackStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  std::int64_t first_ = 0;
  std::vector<std::int32_t> from_;
};

// A map as a tensor, channel by channel.
class UnpackStep : public TensorStep {
 public:
  UnpackStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;

 private:
  std::vector<std::int32_t> from_;
};

// The channels of each position of a map, normalised.
class NormaliseStep : public TensorStep {
 public:
  NormaliseStep(const Node& node, const Kernels* kernels, const Place* in, const Place* out);
  void run(const Memory& memory, int group, int begin, int end, float* scratch) const override;
};

}  // namespace harp
