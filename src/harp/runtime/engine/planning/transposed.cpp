#include "transposed.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace harp {
namespace {

// One axis: input position stride · j + phase gets what output position j + shift[tap] has, by each tap of that phase.
struct Axis {
  std::vector<int> phase, shift;  // of every tap
  Phases phases;
  int least = 0, length = 1, dilation = 1;

  Axis(int kernel, int stride, int padding, int dilated) {
    for (int k = 0; k < kernel; ++k) {
      const int reach = dilated * k - padding;  // of the input position, from stride times that of the output
      phase.push_back((reach % stride + stride) % stride);
      shift.push_back((phase.back() - reach) / stride);
    }
    phases.index.assign(stride, -1);
    for (int p = 0; p < stride; ++p)
      if (std::find(phase.begin(), phase.end(), p) != phase.end()) phases.index[p] = phases.count++;
    least = *std::min_element(shift.begin(), shift.end());
    const int most = *std::max_element(shift.begin(), shift.end());
    dilation = stride == 1 ? dilated : 1;
    length = (most - least) / dilation + 1;
  }
  int place(int tap) const { return (shift[tap] - least) / dilation; }
};

// Where the non-zero of an output at a column comes to lie.
struct Turned {
  std::int64_t row;
  std::int32_t column;
};

class Turning {
 public:
  Turning(const Node& node, const Axis& down, const Axis& across)
      : weights_(*node.weights),
        window_(node.kernel[0] * node.kernel[1]),
        phases_(down.phases.count * across.phases.count),
        length_(down.length * across.length) {
    for (int y = 0; y < node.kernel[0]; ++y)
      for (int x = 0; x < node.kernel[1]; ++x) {
        const int row = down.phases.index[down.phase[y]], column = across.phases.index[across.phase[x]];
        phase_.push_back(row * across.phases.count + column);
        place_.push_back(down.place(y) * across.length + across.place(x));
      }
  }

  Turned operator()(int output, std::int32_t column) const {
    const int per_group = weights_.outputs / weights_.groups, group = output / per_group;
    const int input = column / window_, tap = column - input * window_;
    const std::int64_t channel = static_cast<std::int64_t>(group) * weights_.inputs + input;
    return {channel * phases_ + phase_[tap], (output - group * per_group) * length_ + place_[tap]};
  }

 private:
  const Weights& weights_;
  int window_, phases_, length_;
  std::vector<int> phase_, place_;  // of every tap of the window
};

}  // namespace

Transposed transposed(const Node& node) {
  const Weights& w = *node.weights;
  const Axis down(node.kernel[0], node.stride[0], node.padding[0], node.dilation[0]);
  const Axis across(node.kernel[1], node.stride[1], node.padding[1], node.dilation[1]);
  const Turning turned(node, down, across);
  Node result;
  result.kind = Kind::conv;
  const Axis* axes[2] = {&down, &across};
  for (int axis = 0; axis < 2; ++axis) {
    result.kernel[axis] = axes[axis]->length;
    result.padding[axis] = -axes[axis]->least;
    result.dilation[axis] = axes[axis]->dilation;
  }
  auto weights = std::make_shared<Weights>();
  weights->outputs = w.groups * w.inputs * down.phases.count * across.phases.count;
  weights->inputs = w.outputs / w.groups;
  weights->groups = w.groups;
  weights->rows.assign(weights->outputs + std::size_t{1}, 0);
  weights->columns.resize(w.columns.size());
  weights->values.resize(w.values.size());
  weights->origin.resize(w.values.size());
  for (int o = 0; o < w.outputs; ++o)
    for (std::int64_t k = w.rows[o]; k < w.rows[o + 1]; ++k) ++weights->rows[turned(o, w.columns[k]).row + 1];
  for (int row = 0; row < weights->outputs; ++row) weights->rows[row + 1] += weights->rows[row];
  std::vector<std::int64_t> next(weights->rows.begin(), weights->rows.end() - 1);
  for (int o = 0; o < w.outputs; ++o)  // from the last tap on, since windows are turned round: columns ascend
    for (std::int64_t k = w.rows[o + 1]; k-- > w.rows[o];) {
      const Turned to = turned(o, w.columns[k]);
      const std::int64_t place = next[to.row]++;
      weights->columns[place] = to.column;
      weights->values[place] = w.values[k];
      weights->origin[place] = static_cast<std::uint32_t>(k);
    }
  weights->bias.assign(weights->outputs, 0.0f);
  result.weights = std::move(weights);
  return {std::move(result), down.phases, across.phases};
}

}  // namespace harp
