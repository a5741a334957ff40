// What the engine is told of the steps that are not on maps: numbers and constants, as steps/tensors.h lists them.
#include <algorithm>

#include "layers.h"

namespace harp::lowering {
namespace {

// After `numbers`: whether it is centred, scaled and shifted; eps, scales and shifts.
Details normalisation(const Made& node, std::vector<std::int64_t> numbers) {
  Details told{std::move(numbers), {narrow(node.real("eps"))}};
  told.numbers.push_back(node.has("centred") ? node.flag("centred") : 1);
  for (const char* name : {"scale", "shift"}) {
    const Tensor* tensor = node.tensor(name);
    told.numbers.push_back(tensor ? 1 : 0);
    if (!tensor) continue;
    const std::vector<float> numbers_of = tensor->dense();
    told.values.insert(told.values.end(), numbers_of.begin(), numbers_of.end());
  }
  return told;
}

std::int64_t reduction(const std::string& how) {
  return std::find(graphs::REDUCTIONS.begin(), graphs::REDUCTIONS.end(), how) - graphs::REDUCTIONS.begin();
}

}  // namespace

std::optional<Details> details_of(const Made& node) {
  if (node.op == "channels" || node.op == "pack" || node.op == "copy" || node.op == "matmul" || node.op == "pairwise")
    return Details{node.numbers, node.values};
  if (node.op == "unpack" || node.op == "elementwise") return Details{};
  if (node.op == "constant") return Details{{}, node.tensor("value")->dense()};
  if (node.op == "normalise") return normalisation(node, {});
  if (node.op == "rows_normalise") return normalisation(node, {node.count});
  if (node.op == "rows_softmax") return Details{{node.count}, {}};
  if (node.op == "rows_reduce") return Details{{node.count, reduction(node.word("how"))}, {}};
  return std::nullopt;
}

}  // namespace harp::lowering
