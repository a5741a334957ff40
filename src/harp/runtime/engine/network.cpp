#include "network.h"

#include <algorithm>
#include <stdexcept>

namespace harp {
namespace {

bool same_window(const Node& a, const Node& b) {
  const auto same = [](const int (&x)[2], const int (&y)[2]) { return std::equal(x, x + 2, y); };
  return same(a.kernel, b.kernel) && same(a.stride, b.stride) && same(a.padding, b.padding) &&
         same(a.dilation, b.dilation) && a.count_padding == b.count_padding;
}

bool same_tensors(const Node& a, const Node& b) {
  if (!a.weights != !b.weights || !a.scales != !b.scales) return false;
  if (a.weights && (a.weights->outputs != b.weights->outputs || a.weights->inputs != b.weights->inputs ||
                    a.weights->groups != b.weights->groups))
    return false;
  return !a.scales || a.scales->scale.size() == b.scales->scale.size();
}

bool same_details(const Node& a, const Node& b) {
  if (!a.details || !b.details) return !a.details && !b.details;
  return a.details->numbers == b.details->numbers && a.details->values.size() == b.details->values.size();
}

bool same_node(const Node& a, const Node& b) {
  return a.kind == b.kind && a.inputs == b.inputs && a.residual == b.residual && a.activation == b.activation &&
         a.slope == b.slope && a.pool == b.pool && same_window(a, b) && same_tensors(a, b) && same_details(a, b);
}

}  // namespace

bool same_structure(const Network& a, const Network& b) {
  return std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(), same_node);
}

bool same_weights(const Network& a, const Network& b) {
  return std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(), [](const Node& x, const Node& y) {
    return !x.weights || (x.weights->rows == y.weights->rows && x.weights->columns == y.weights->columns);
  });
}

void check(const Weights& w, const int (&kernel)[2]) {
  bool sound = w.groups > 0 && w.outputs > 0 && w.inputs > 0 && w.outputs % w.groups == 0 &&
               w.rows.size() == static_cast<std::size_t>(w.outputs) + 1 && w.rows.front() == 0 &&
               w.rows.back() == static_cast<std::int64_t>(w.values.size()) && w.columns.size() == w.values.size() &&
               w.values.size() < (std::size_t{1} << 31);
  for (std::size_t o = 0; sound && o < static_cast<std::size_t>(w.outputs); ++o) {
    sound = w.rows[o] <= w.rows[o + 1] && w.rows[o + 1] <= w.rows.back();
    for (std::int64_t k = w.rows[o]; sound && k < w.rows[o + 1]; ++k)
      sound = w.columns[k] >= 0 && w.columns[k] < static_cast<std::int64_t>(w.inputs) * kernel[0] * kernel[1] &&
              (k == w.rows[o] || w.columns[k] > w.columns[k - 1]);
  }
  if (!sound) throw std::invalid_argument("weights whose rows and columns do not fit");
}

}  // namespace harp
