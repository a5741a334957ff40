// A network as its file describes it: a list of nodes in the order in which they run, and what each must be given.
// Value 0 is the image, node i computes value i + 1; the last value is the output.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "../reading/json.h"
#include "../reading/packing.h"
#include "shape.h"

namespace harp::graphs {

// As Python names the types in graph.py: a tuple is a pair, a list has any length.
enum class Type { pair, list, integer, real, boolean, text };

// The signature of an operation. `inputs` is -1 for two or more.
struct Op {
  std::string_view name;
  int inputs;
  std::vector<std::pair<std::string_view, Type>> attributes = {};
  std::vector<std::string_view> tensors = {}, optional = {};
};

// Null for a name that is no operation.
const Op* find_op(std::string_view name);

// Whether it is computed number by number, with at most one parameter.
bool is_activation(std::string_view op);

constexpr std::array<std::string_view, 5> REDUCTIONS{"sum", "mean", "maximum", "minimum", "norm"};

// What an attribute may be once it was checked.
using Attribute = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>>;

struct Node {
  std::string op;
  std::vector<std::int64_t> inputs;
  std::map<std::string, Attribute, std::less<>> attributes;
  std::map<std::string, std::shared_ptr<const Tensor>, std::less<>> tensors;
  std::string name;

  // Of attributes that the signature lists.
  std::int64_t integer(std::string_view name) const { return std::get<std::int64_t>(attributes.find(name)->second); }
  double real(std::string_view name) const { return std::get<double>(attributes.find(name)->second); }
  bool flag(std::string_view name) const { return std::get<bool>(attributes.find(name)->second); }
  const std::string& word(std::string_view name) const { return std::get<std::string>(attributes.find(name)->second); }
  const std::vector<std::int64_t>& list(std::string_view name) const {
    return std::get<std::vector<std::int64_t>>(attributes.find(name)->second);
  }
  bool has(std::string_view name) const { return attributes.find(name) != attributes.end(); }
  // Null where it has none of this name.
  const Tensor* tensor(std::string_view name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : found->second.get();
  }
};

struct Graph {
  Shape input;  // (c, h, w) it was traced with
  std::vector<Node> nodes;
};

}  // namespace harp::graphs
