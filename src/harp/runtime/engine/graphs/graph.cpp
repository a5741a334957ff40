#include "graph.h"

#include <algorithm>

namespace harp::graphs {
namespace {

const std::vector<Op>& ops() {
  using T = Type;
  static const std::vector<Op> all{
      {"conv",
       1,
       {{"stride", T::pair}, {"padding", T::pair}, {"dilation", T::pair}, {"groups", T::integer}},
       {"weight"},
       {"bias"}},
      {"linear", 1, {}, {"weight"}, {"bias"}},
      {"affine", 1, {}, {"scale", "shift"}},
      {"relu", 1},
      {"relu6", 1},
      {"leaky_relu", 1, {{"slope", T::real}}},
      {"sigmoid", 1},
      {"silu", 1},
      {"hardswish", 1},
      {"hardsigmoid", 1},
      {"gelu", 1, {{"tanh", T::boolean}}},
      {"softmax", 1},
      {"max_pool", 1, {{"kernel", T::pair}, {"stride", T::pair}, {"padding", T::pair}, {"ceil", T::boolean}}},
      {"avg_pool",
       1,
       {{"kernel", T::pair},
        {"stride", T::pair},
        {"padding", T::pair},
        {"ceil", T::boolean},
        {"count_padding", T::boolean}}},
      {"adaptive_avg_pool", 1, {{"size", T::pair}}},
      {"add", 2},
      {"mul", 2},
      {"concat", -1},
      {"flatten", 1},
      {"tanh", 1},
      {"elu", 1, {{"alpha", T::real}}},
      {"mish", 1},
      {"softplus", 1},
      {"exp", 1},
      {"log", 1},
      {"sqrt", 1},
      {"rsqrt", 1},
      {"abs", 1},
      {"sin", 1},
      {"cos", 1},
      {"erf", 1},
      {"power", 1, {{"exponent", T::real}}},
      {"at_least", 1, {{"bound", T::real}}},
      {"at_most", 1, {{"bound", T::real}}},
      {"sub", 2},
      {"div", 2},
      {"maximum", 2},
      {"minimum", 2},
      {"constant", 0, {}, {"value"}},
      {"reshape", 1, {{"shape", T::list}}},
      {"permute", 1, {{"order", T::list}}},
      {"take", 1, {{"axis", T::integer}, {"index", T::list}}},
      {"expand", 1, {{"shape", T::list}}},
      {"pad", 1, {{"before", T::list}, {"after", T::list}, {"value", T::real}}},
      {"join", -1, {{"axis", T::integer}}},
      {"affine_last", 1, {}, {"scale", "shift"}},
      {"layer_norm", 1, {{"axes", T::integer}, {"eps", T::real}, {"centred", T::boolean}}, {}, {"scale", "shift"}},
      {"group_norm", 1, {{"groups", T::integer}, {"eps", T::real}}, {}, {"scale", "shift"}},
      {"softmax_last", 1},
      {"reduce", 1, {{"how", T::text}}},
      {"matmul", 2, {{"factor", T::real}}},
      {"resample", 1, {{"axis", T::integer}}, {"matrix"}},
  };
  return all;
}

}  // namespace

const Op* find_op(std::string_view name) {
  static const auto table = [] {
    std::map<std::string_view, const Op*> found;
    for (const Op& op : ops()) found.emplace(op.name, &op);
    return found;
  }();
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

bool is_activation(std::string_view op) {
  constexpr std::string_view ALL[]{"relu",        "relu6", "leaky_relu", "sigmoid",  "silu",   "hardswish",
                                   "hardsigmoid", "gelu",  "tanh",       "elu",      "mish",   "softplus",
                                   "exp",         "log",   "sqrt",       "rsqrt",    "abs",    "sin",
                                   "cos",         "erf",   "power",      "at_least", "at_most"};
  return std::find(std::begin(ALL), std::end(ALL), op) != std::end(ALL);
}

}  // namespace harp::graphs
