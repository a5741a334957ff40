// The shapes that operations on tensors of any rank give, and what they need.
#include <algorithm>
#include <map>
#include <numeric>

#include "../reading/refusal.h"
#include "shapes.h"
#include "signatures.h"

namespace harp::graphs {
namespace {

using Given = std::vector<const Shape*>;

std::size_t axis_of(const Node& node, const Shape& x) {
  const std::int64_t axis = node.integer("axis");
  if (axis >= static_cast<std::int64_t>(x.size()))
    throw Refusal("axis=" + std::to_string(axis) + ": its input has shape " + text_of(x));
  return static_cast<std::size_t>(axis);
}

Shape with(Shape x, std::size_t axis, std::int64_t size) {
  x[axis] = size;
  return x;
}

const Shape& check_rank(const Shape& shape) {
  if (shape.empty() || shape.size() > MOST_AXES)
    throw Refusal("a value of shape " + text_of(shape) + ": expected 1 to " + std::to_string(MOST_AXES) + " axes");
  return shape;
}

Shape constant(const Node& node, const Given&) {
  return tensor_shape(node, "value", check_rank(node.tensor("value")->shape()).size());
}

Shape reshape(const Node& node, const Given& given) {
  const Shape& shape = check_rank(node.list("shape"));
  if (product(shape) != product(*given[0]))
    throw Refusal("shape=" + text_of(shape) + ": its input has shape " + text_of(*given[0]) +
                  ", of another number of entries");
  return shape;
}

Shape permute(const Node& node, const Given& given) {
  const Shape &x = *given[0], &order = node.list("order");
  Shape axes(x.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (!std::is_permutation(order.begin(), order.end(), axes.begin(), axes.end()))
    throw Refusal("order=" + text_of(order) + ": expected each axis of its input once, which has shape " + text_of(x));
  Shape result;
  for (std::int64_t axis : order) result.push_back(x[axis]);
  return result;
}

Shape take(const Node& node, const Given& given) {
  const std::size_t axis = axis_of(node, *given[0]);
  const auto& index = node.list("index");
  if (index.empty() || *std::max_element(index.begin(), index.end()) >= (*given[0])[axis])
    throw Refusal("index=" + text_of(index) + ": expected entries of axis " + std::to_string(axis) +
                  " of its input, which has shape " + text_of(*given[0]));
  return with(*given[0], axis, static_cast<std::int64_t>(index.size()));
}

Shape expand(const Node& node, const Given& given) {
  const Shape& shape = check_rank(node.list("shape"));
  if (shape.size() < given[0]->size() || broadcast(*given[0], shape) != shape)
    throw Refusal("shape=" + text_of(shape) + ": its input has shape " + text_of(*given[0]) +
                  ", which cannot be repeated to it");
  return shape;
}

Shape pad(const Node& node, const Given& given) {
  const auto &before = node.list("before"), &after = node.list("after");
  Shape x = *given[0];
  if (before.size() != x.size() || after.size() != x.size())
    throw Refusal("before=" + text_of(before) + ", after=" + text_of(after) + ": expected one entry for each axis of " +
                  text_of(x));
  for (std::size_t axis = 0; axis < x.size(); ++axis) x[axis] += before[axis] + after[axis];
  return x;
}

Shape join(const Node& node, const Given& given) {
  const std::size_t axis = axis_of(node, *given[0]);
  Shape all = with(*given[0], axis, 0);
  for (const Shape* part : given) {
    if (part->size() <= axis || with(*part, axis, 0) != with(all, axis, 0))
      throw Refusal("its inputs have shapes such as " + text_of(*given[0]) + " and " + text_of(*part) +
                    ": expected all the same but for axis " + std::to_string(axis));
    all[axis] += (*part)[axis];
  }
  return all;
}

Shape affine_last(const Node& node, const Given& given) {
  check_vectors(node, given[0]->back());
  return *given[0];
}

Shape layer_norm(const Node& node, const Given& given) {
  const Shape& x = *given[0];
  const std::int64_t axes = node.integer("axes");
  if (axes > static_cast<std::int64_t>(x.size()))
    throw Refusal("axes=" + std::to_string(axes) + ": its input has shape " + text_of(x));
  check_vectors(node, product(x, x.size() - static_cast<std::size_t>(axes), x.size()));
  return x;
}

Shape group_norm(const Node& node, const Given& given) {
  const std::int64_t groups = node.integer("groups"), channels = given[0]->front();
  if (channels % groups != 0)
    throw Refusal("groups=" + std::to_string(groups) + ": its input has " + std::to_string(channels) + " channels");
  check_vectors(node, channels);
  return *given[0];
}

Shape reduce(const Node& node, const Given& given) {
  if (std::find(REDUCTIONS.begin(), REDUCTIONS.end(), node.word("how")) == REDUCTIONS.end())
    throw Refusal("how='" + node.word("how").substr(0, 20) + "': expected one of sum, mean, maximum, minimum, norm");
  return with(*given[0], given[0]->size() - 1, 1);
}

Shape matmul(const Node&, const Given& given) {
  const Shape &a = *given[0], &b = *given[1];
  if (a.size() < 2 || b.size() < 2 || a.back() != b[b.size() - 2])
    throw Refusal("its inputs have shapes " + text_of(a) + " and " + text_of(b) + ": expected (…, m, k) and (…, k, n)");
  Shape result = broadcast({a.begin(), a.end() - 2}, {b.begin(), b.end() - 2});
  result.push_back(a[a.size() - 2]);
  result.push_back(b.back());
  return result;
}

Shape resample(const Node& node, const Given& given) {
  const std::size_t axis = axis_of(node, *given[0]);
  const Shape& matrix = tensor_shape(node, "matrix", 2);
  if (matrix[1] != (*given[0])[axis])
    throw Refusal("matrix of shape " + text_of(matrix) + ": its input has shape " + text_of(*given[0]) + ", of " +
                  std::to_string((*given[0])[axis]) + " entries along axis " + std::to_string(axis));
  return with(*given[0], axis, matrix[0]);
}

Shape pair(const Node&, const Given& given) { return broadcast(*given[0], *given[1]); }

Shape unchanged(const Node&, const Given& given) { return *given[0]; }

}  // namespace

Shape broadcast(const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape result(rank, 1);
  const auto side = [&](const Shape& x, std::size_t i) { return i + x.size() < rank ? 1 : x[i + x.size() - rank]; };
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t x = side(a, i), y = side(b, i);
    if (x != y && x != 1 && y != 1)
      throw Refusal("its inputs have shapes " + text_of(a) + " and " + text_of(b) +
                    ": expected equal ones, or such that broadcast");
    result[i] = std::max(x, y);
  }
  return result;
}

Rule tensor_rule(std::string_view op) {
  static const std::map<std::string_view, Rule> rules{{"sub", pair},
                                                      {"div", pair},
                                                      {"maximum", pair},
                                                      {"minimum", pair},
                                                      {"constant", constant},
                                                      {"reshape", reshape},
                                                      {"permute", permute},
                                                      {"take", take},
                                                      {"expand", expand},
                                                      {"pad", pad},
                                                      {"join", join},
                                                      {"affine_last", affine_last},
                                                      {"layer_norm", layer_norm},
                                                      {"group_norm", group_norm},
                                                      {"softmax_last", unchanged},
                                                      {"reduce", reduce},
                                                      {"matmul", matmul},
                                                      {"resample", resample}};
  const auto found = rules.find(op);
  return found == rules.end() ? nullptr : found->second;
}

}  // namespace harp::graphs
