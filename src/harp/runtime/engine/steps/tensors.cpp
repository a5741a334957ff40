#include "tensors.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "../tuning.h"

namespace harp {
namespace {

constexpr std::size_t BOX_NUMBERS = 3 + 3 * MOST_AXES;

void need(bool sound) {
  if (!sound) throw std::invalid_argument("a step that reaches beyond its tensors");
}

std::array<std::int64_t, MOST_AXES> axes(const std::vector<std::int64_t>& numbers, std::size_t first) {
  std::array<std::int64_t, MOST_AXES> all{};
  std::copy_n(numbers.begin() + static_cast<std::ptrdiff_t>(first), MOST_AXES, all.begin());
  return all;
}

// Of rows of `length` numbers: how many make a piece of work worth a thread's turn.
int grain_of(std::int64_t length) {
  return static_cast<int>(std::max<std::int64_t>(1, tuning::NUMBERS_PER_THREAD / std::max<std::int64_t>(length, 1)));
}

}  // namespace

std::int64_t Walk::rows() const {
  std::int64_t count = 1;
  for (int axis = 0; axis + 1 < MOST_AXES; ++axis) count *= extents[axis];
  return count;
}

std::int64_t Walk::row(std::int64_t index) const {
  std::int64_t place = from;
  for (int axis = MOST_AXES - 2; axis >= 0 && index > 0; --axis) {
    place += index % extents[axis] * strides[axis];
    index /= extents[axis];
  }
  return place;
}

void Walk::check(std::int64_t floats) const {
  constexpr std::int64_t LARGEST = std::int64_t{1} << 31;
  std::int64_t least = from, most = from, count = 1;
  for (int axis = 0; axis < MOST_AXES; ++axis) {
    need(extents[axis] >= 1 && extents[axis] < LARGEST && strides[axis] > -LARGEST && strides[axis] < LARGEST);
    count *= extents[axis];
    need(count < LARGEST);
    const std::int64_t reach = (extents[axis] - 1) * strides[axis];
    (reach < 0 ? least : most) += reach;
  }
  need(least >= 0 && most < floats);
}

std::int64_t numbers_in(const Place& place) {
  return place.constant ? static_cast<std::int64_t>(place.constant->size()) : place.layout.floats();
}

TensorStep::TensorStep(const Node& node, const Kernels* kernels, std::vector<const Place*> in, const Place* out)
    : Step(kernels, std::move(in), out), node_(node) {
  need(node.details != nullptr);
}

const float* TensorStep::source(const Memory& memory, int group, std::size_t input) const {
  return in[input]->at(memory, group);
}

CopyStep::CopyStep(const Node& node, const Kernels* kernels, std::vector<const Place*> from, const Place* out)
    : TensorStep(node, kernels, std::move(from), out) {
  const auto& numbers = details().numbers;
  need(numbers.size() % BOX_NUMBERS == 0);
  std::int64_t units = 0, longest = 1;
  for (std::size_t i = 0; i < numbers.size(); i += BOX_NUMBERS) {
    Box box{static_cast<int>(numbers[i]), static_cast<int>(units), {}, {}};
    box.from.extents = box.to.extents = axes(numbers, i + 1);
    box.from.from = numbers[i + 1 + MOST_AXES];
    box.from.strides = axes(numbers, i + 2 + MOST_AXES);
    box.to.from = numbers[i + 2 + 2 * MOST_AXES];
    box.to.strides = axes(numbers, i + 3 + 2 * MOST_AXES);
    need(numbers[i] >= -1 && numbers[i] < static_cast<std::int64_t>(in.size()));
    const auto floats = box.input < 0 ? static_cast<std::int64_t>(details().values.size()) : numbers_in(*in[box.input]);
    box.from.check(floats);
    box.to.check(numbers_in(*out));
    units += box.to.rows();
    longest = std::max(longest, box.to.extents[MOST_AXES - 1]);
    need(units < std::int64_t{1} << 31);
    boxes_.push_back(box);
  }
  units_ = static_cast<int>(units);
  grain_ = grain_of(longest);
}

void CopyStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  float* to = out->at(memory, group);
  for (std::size_t i = 0; i < boxes_.size(); ++i) {
    const Box& box = boxes_[i];
    const int last = std::min(end, i + 1 < boxes_.size() ? boxes_[i + 1].first : units_);
    const float* from =
        box.input < 0 ? details().values.data() : source(memory, group, static_cast<std::size_t>(box.input));
    constexpr int INNER = MOST_AXES - 1;
    for (int unit = std::max(begin, box.first); unit < last; ++unit)
      kernels->tensors.copy(to + box.to.row(unit - box.first), box.to.strides[INNER],
                            from + box.from.row(unit - box.first), box.from.strides[INNER],
                            static_cast<std::size_t>(box.to.extents[INNER]));
  }
}

PairwiseStep::PairwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> from, const Place* out)
    : TensorStep(node, kernels, std::move(from), out) {
  const auto& numbers = details().numbers;
  need(numbers.size() == BOX_NUMBERS && in.size() == 2 && numbers[0] >= 0 &&
       numbers[0] <= static_cast<std::int64_t>(Pairing::minimum));
  std::int64_t count = 1;
  for (std::size_t i = 0; i < 2; ++i) {
    walks_[i].extents = axes(numbers, 1);
    walks_[i].from = numbers[1 + MOST_AXES + i * (1 + MOST_AXES)];
    walks_[i].strides = axes(numbers, 2 + MOST_AXES + i * (1 + MOST_AXES));
    walks_[i].check(numbers_in(*in[i]));
  }
  for (std::int64_t extent : walks_[0].extents) count *= extent;
  need(count == numbers_in(*out));
  units_ = static_cast<int>(walks_[0].rows());
  grain_ = grain_of(walks_[0].extents[MOST_AXES - 1]);
}

void PairwiseStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  constexpr int INNER = MOST_AXES - 1;
  const auto length = walks_[0].extents[INNER];
  const float *a = source(memory, group, 0), *b = source(memory, group, 1);
  for (int unit = begin; unit < end; ++unit)
    kernels->tensors.pair(out->at(memory, group) + unit * length,
                          {a + walks_[0].row(unit), b + walks_[1].row(unit), walks_[0].strides[INNER],
                           walks_[1].strides[INNER], static_cast<Pairing>(details().numbers[0])},
                          static_cast<std::size_t>(length));
}

ElementwiseStep::ElementwiseStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : TensorStep(node, kernels, {from}, out) {
  need(numbers_in(*from) == numbers_in(*out));
  units_ = static_cast<int>((numbers_in(*out) + tuning::NUMBERS_PER_THREAD - 1) / tuning::NUMBERS_PER_THREAD);
}

void ElementwiseStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const std::int64_t first = static_cast<std::int64_t>(begin) * tuning::NUMBERS_PER_THREAD;
  const std::int64_t last = std::min(numbers_in(*out), static_cast<std::int64_t>(end) * tuning::NUMBERS_PER_THREAD);
  float* to = out->at(memory, group) + first;
  std::memcpy(to, source(memory, group) + first, static_cast<std::size_t>(last - first) * sizeof(float));
  // A tensor fills its last vector, see Place::group_floats.
  const std::int64_t vectors = (last - first + kernels->lanes - 1) / kernels->lanes;
  kernels->activate(to, static_cast<std::size_t>(vectors), node_.activation, node_.slope);
}

void check_normalisation(const Details& details, std::size_t first, std::size_t count) {
  need(details.numbers.size() == first + 3);
  for (std::size_t i = first; i < first + 3; ++i) need(details.numbers[i] == 0 || details.numbers[i] == 1);
  const auto vectors = static_cast<std::size_t>(details.numbers[first + 1] + details.numbers[first + 2]);
  need(details.values.size() == 1 + count * vectors);
}

Normalisation normalisation_of(const Details& details, std::size_t first, std::size_t count) {
  const bool centred = details.numbers[first] != 0, scaled = details.numbers[first + 1] != 0;
  const bool shifted = details.numbers[first + 2] != 0;
  const float* values = details.values.data() + 1;
  return {scaled ? values : nullptr, shifted ? values + (scaled ? count : 0) : nullptr, details.values[0], centred};
}

RowsStep::RowsStep(const Node& node, const Kernels* kernels, const Place* from, const Place* out)
    : TensorStep(node, kernels, {from}, out) {
  const auto& numbers = details().numbers;
  need(!numbers.empty() && numbers[0] > 0 && numbers_in(*from) % numbers[0] == 0);
  count_ = numbers[0];
  const std::int64_t rows = numbers_in(*from) / count_;
  need(numbers_in(*out) == (node.kind == Kind::rows_reduce ? rows : numbers_in(*from)));
  if (node.kind == Kind::rows_normalise) check_normalisation(details(), 1, static_cast<std::size_t>(count_));
  if (node.kind == Kind::rows_reduce)
    need(numbers.size() == 2 && numbers[1] >= 0 && numbers[1] <= static_cast<std::int64_t>(Reduction::norm));
  units_ = static_cast<int>(rows);
  grain_ = grain_of(count_);
}

void RowsStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const auto count = static_cast<std::size_t>(count_);
  for (int row = begin; row < end; ++row) {
    const float* from = source(memory, group) + row * count_;
    float* to = out->at(memory, group) + (node_.kind == Kind::rows_reduce ? row : row * count_);
    switch (node_.kind) {
      case Kind::rows_softmax: kernels->tensors.softmax(to, from, count); break;
      case Kind::rows_normalise:
        kernels->tensors.normalise(to, from, count, normalisation_of(details(), 1, count));
        break;
      default: *to = kernels->tensors.reduce(from, count, static_cast<Reduction>(details().numbers[1]));
    }
  }
}

}  // namespace harp
