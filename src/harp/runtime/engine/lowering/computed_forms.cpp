// Operations that compute with numbers, in the forms that the engine runs them on.
#include <algorithm>
#include <map>

#include "arranging.h"
#include "forms.h"

namespace harp::lowering {
namespace {

using graphs::Node;

// With the attributes and tensors of a node.
Made made_of(const Node& node) {
  Made made;
  made.attributes = node.attributes;
  made.tensors = node.tensors;
  return made;
}

std::size_t last_axis(const Shape& shape) { return shape.size() - 1; }

// On maps

Forms on_map(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  return as_map(shape, 0, writer.emit(made_of(node), node.op, {writer.exact_map(*given[0])}, shape));
}

// With the zeros that a padding puts around its input as padding of its own: more on one side is a larger kernel.
Forms conv(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const Forms& value = *given[0];
  if (!value.inside || !value.maps.empty() || value.view) return on_map(writer, node, shape, given);
  Made made = made_of(node);
  std::vector<std::int64_t> padding = node.list("padding");
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t first = value.before[1 + axis], last = value.after[1 + axis];
    const std::int64_t reach = node.list("dilation")[axis];
    if ((first - last) % reach != 0) return on_map(writer, node, shape, given);
    made.margins[axis][0] = std::max<std::int64_t>(0, last - first) / reach;
    made.margins[axis][1] = std::max<std::int64_t>(0, first - last) / reach;
    padding[axis] += std::max(first, last);
  }
  made.attributes.find("padding")->second = padding;
  return as_map(shape, 0, writer.emit(std::move(made), "conv", {writer.exact_map(*value.inside)}, shape));
}

// A softmax or affine along the first axis.
Forms along_channels(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const std::int64_t number = writer.map_of(*given[0], 0);
  const Shape form = writer.shape_of(number);
  return as_map(shape, 0, writer.emit(made_of(node), node.op, {number}, form));
}

// A convolution of 1 x 1 with a matrix as its weight.
std::int64_t multiplied(Writer& writer, std::int64_t number, std::shared_ptr<const Tensor> matrix,
                        std::shared_ptr<const Tensor> bias) {
  const Shape& form = writer.shape_of(number);
  const Shape positions{matrix->shape()[0], form.size() > 1 ? form[1] : 1, form.size() > 2 ? form[2] : 1};
  using Pair = std::vector<std::int64_t>;
  Made made;
  made.attributes = {
      {"stride", Pair{1, 1}}, {"padding", Pair{0, 0}}, {"dilation", Pair{1, 1}}, {"groups", std::int64_t{1}}};
  made.tensors.emplace("weight", std::move(matrix));
  if (bias) made.tensors.emplace("bias", std::move(bias));
  return writer.emit(std::move(made), "conv", {number}, positions);
}

std::shared_ptr<const Tensor> held(const Node& node, std::string_view name) {
  const auto found = node.tensors.find(name);
  return found == node.tensors.end() ? nullptr : found->second;
}

// Along the last axis; each position of the others is one of a map's.
Forms linear(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const std::size_t axis = last_axis(shape);
  const std::int64_t number = writer.map_of(*given[0], axis);
  if (axis == 0) return as_map(shape, 0, writer.emit(made_of(node), "linear", {number}, shape));
  return as_map(shape, axis, multiplied(writer, number, held(node, "weight"), held(node, "bias")));
}

Forms resample(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const auto axis = static_cast<std::size_t>(node.integer("axis"));
  const std::int64_t number = writer.map_of(*given[0], axis);
  return as_map(shape, axis, multiplied(writer, number, held(node, "matrix"), nullptr));
}

// One number at a time

Forms activation(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  if (!value.maps.empty()) {
    const auto [axis, number] = value.maps.front();
    const Shape form = writer.shape_of(number);
    return as_map(shape, axis, writer.emit(made_of(node), node.op, {number}, form));
  }
  View view = writer.view_of(value);
  if (!view.covers(product(writer.shape_of(view.source)))) view = writer.in_order(view);
  const Shape form = writer.shape_of(view.source);
  Made made;
  made.activation = &node;
  view.source = writer.emit(std::move(made), "elementwise", {view.source}, form);
  return as_view(shape, view);
}

// The result lies in memory as the larger of the two does.
View pairwise(Writer& writer, std::int64_t pairing, const View& first, const View& second, const Shape& shape) {
  const View& lead = product(first.shape) >= product(second.shape) ? first : second;
  const Order order = lead.expanded(shape).by_stride();
  const View a = first.expanded(shape).permuted(order), b = second.expanded(shape).permuted(order);
  const Walked w = walk(a.shape, a.strides, b.strides);
  Made made;
  made.numbers = {pairing};
  const auto add = [&](const std::vector<std::int64_t>& some) {
    made.numbers.insert(made.numbers.end(), some.begin(), some.end());
  };
  add(w.extents);
  add({a.offset});
  add(w.first);
  add({b.offset});
  add(w.second);
  Order back(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) back[order[i]] = i;
  return writer.tensor(std::move(made), "pairwise", {a.source, b.source}, a.shape).permuted(back);
}

constexpr std::string_view PAIRINGS[]{"add", "sub", "mul", "div", "maximum", "minimum"};

std::int64_t pairing_of(std::string_view op) {
  return std::find(std::begin(PAIRINGS), std::end(PAIRINGS), op) - std::begin(PAIRINGS);
}

bool is_all(const Tensor& tensor, float neutral) {
  const std::vector<float> numbers = tensor.dense();
  return std::all_of(numbers.begin(), numbers.end(), [&](float v) { return v == neutral; });
}

Forms affine_last(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  const std::size_t axis = last_axis(shape);
  const std::int64_t number = value.map(axis);
  if (number >= 0) {
    const Shape form = writer.shape_of(number);
    return as_map(shape, axis, writer.emit(made_of(node), "affine", {number}, form));
  }
  View view = writer.view_of(value);
  struct Part {
    std::string_view how, name;
    float neutral;
  };
  for (const Part& part : {Part{"mul", "scale", 1.0f}, Part{"add", "shift", 0.0f}}) {
    const auto numbers = held(node, part.name);
    if (!is_all(*numbers, part.neutral))
      view = pairwise(writer, pairing_of(part.how), view, writer.constant(numbers), shape);
  }
  return as_view(shape, view);
}

std::optional<Forms> pair_of_maps(Writer& writer, const Node& node, const Shape& shape, Forms& first, Forms& second) {
  if (!per_channel(first.shape, second.shape)) return std::nullopt;
  if (first.shape != second.shape) {
    const Forms& larger = first.shape == shape ? first : second;
    if (larger.map(0) < 0) return std::nullopt;
    const std::int64_t a = writer.exact_map(first), b = writer.exact_map(second);
    return as_map(shape, 0, writer.emit({}, node.op, {a, b}, shape));
  }
  std::vector<std::size_t> axes;
  for (const auto& [axis, number] : first.maps)
    if (second.map(axis) >= 0) axes.push_back(axis);
  for (const auto& [axis, number] : first.maps) axes.push_back(axis);
  for (const auto& [axis, number] : second.maps) axes.push_back(axis);
  if (axes.empty()) return std::nullopt;
  const std::size_t axis = axes.front();
  const Shape form = writer.shape_of(first.map(axis) >= 0 ? first.map(axis) : second.map(axis));
  const std::int64_t a = writer.map_like(first, axis, form), b = writer.map_like(second, axis, form);
  return as_map(shape, axis, writer.emit({}, node.op, {a, b}, form));
}

Forms pair(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  if (node.op == "add" || node.op == "mul")
    if (auto made = pair_of_maps(writer, node, shape, *given[0], *given[1])) return *made;
  const View first = writer.view_of(*given[0]), second = writer.view_of(*given[1]);
  return as_view(shape, pairwise(writer, pairing_of(node.op), first, second, shape));
}

// Rows

View rows(Writer& writer, const char* op, Forms& value, const Shape& shape, Made made, std::int64_t count) {
  const View view = writer.in_order(writer.view_of(value));
  made.count = count;
  return whole(writer.emit(std::move(made), op, {view.source}, {1, product(shape)}), shape);
}

Forms layer_norm(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const std::size_t axis = last_axis(shape);
  const std::int64_t number = given[0]->map(axis), axes = node.integer("axes");
  if (axes == 1 && number >= 0) {
    const Shape form = writer.shape_of(number);
    return as_map(shape, axis, writer.emit(made_of(node), "normalise", {number}, form));
  }
  const std::int64_t count = product(shape, shape.size() - static_cast<std::size_t>(axes), shape.size());
  return as_view(shape, rows(writer, "rows_normalise", *given[0], shape, made_of(node), count));
}

std::shared_ptr<const Tensor> filled(std::int64_t size, float value) {
  Blueprint plan{{size}, "f32", size, -1};
  return std::make_shared<Tensor>(Tensor{plan, false, {}, std::vector<float>(static_cast<std::size_t>(size), value)});
}

Forms group_norm(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Made plain = made_of(node);
  plain.tensors.clear();
  const std::int64_t count = product(shape) / node.integer("groups");
  Forms made = as_view(shape, rows(writer, "rows_normalise", *given[0], shape, std::move(plain), count));
  if (node.tensors.empty()) return made;
  const auto scale = held(node, "scale"), shift = held(node, "shift");
  Made affine;
  affine.tensors.emplace("scale", scale ? scale : filled(shape[0], 1.0f));
  affine.tensors.emplace("shift", shift ? shift : filled(shape[0], 0.0f));
  const std::int64_t number = shape.size() == 3 ? writer.exact_map(made) : writer.map_of(made, 0);
  const Shape form = writer.shape_of(number);
  return as_map(shape, 0, writer.emit(std::move(affine), "affine", {number}, form));
}

Forms softmax_last(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  return as_view(shape, rows(writer, "rows_softmax", *given[0], shape, made_of(node), shape.back()));
}

Forms reduce(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  return as_view(shape, rows(writer, "rows_reduce", *given[0], shape, made_of(node), given[0]->shape.back()));
}

// Of views: a factor may be transposed, or a part of something, for nothing.
Forms matmul(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  const std::size_t rank = shape.size();
  const std::int64_t steps = given[0]->shape.back();
  Shape left = shape, right = shape;
  left[rank - 1] = right[rank - 2] = steps;
  const View a = writer.view_of(*given[0]).expanded(left), b = writer.view_of(*given[1]).expanded(right);
  const auto batch = [&](const auto& all) { return std::vector<std::int64_t>(all.begin(), all.end() - 2); };
  const Walked w = walk(batch(shape), batch(a.strides), batch(b.strides));
  Made made;
  made.values = {narrow(node.real("factor"))};
  const auto add = [&](const std::vector<std::int64_t>& some, std::size_t from) {
    made.numbers.insert(made.numbers.end(), some.begin() + static_cast<std::ptrdiff_t>(from), some.end());
  };
  add(w.extents, 2);
  add({shape[rank - 2], shape[rank - 1], steps, a.offset}, 0);
  add(w.first, 2);
  add({a.strides[rank - 2], a.strides[rank - 1], b.offset}, 0);
  add(w.second, 2);
  add({b.strides[rank - 2], b.strides[rank - 1]}, 0);
  return as_view(shape, writer.tensor(std::move(made), "matmul", {a.source, b.source}, shape));
}

}  // namespace

Handler computed(std::string_view op) {
  static const std::map<std::string_view, Handler> handlers{{"max_pool", on_map},
                                                            {"avg_pool", on_map},
                                                            {"adaptive_avg_pool", on_map},
                                                            {"conv", conv},
                                                            {"softmax", along_channels},
                                                            {"affine", along_channels},
                                                            {"linear", linear},
                                                            {"resample", resample},
                                                            {"affine_last", affine_last},
                                                            {"layer_norm", layer_norm},
                                                            {"group_norm", group_norm},
                                                            {"reduce", reduce},
                                                            {"softmax_last", softmax_last},
                                                            {"matmul", matmul}};
  if (graphs::is_activation(op)) return activation;
  if (std::find(std::begin(PAIRINGS), std::end(PAIRINGS), op) != std::end(PAIRINGS)) return pair;
  const auto found = handlers.find(op);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace harp::lowering
