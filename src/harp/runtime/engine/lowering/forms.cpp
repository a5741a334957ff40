#include "forms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace harp::lowering {
namespace {

Order without(std::size_t axis, std::size_t rank) {
  Order others;
  for (std::size_t i = 0; i < rank; ++i)
    if (i != axis) others.push_back(i);
  return others;
}

}  // namespace

float narrow(double value) {
  const double most = std::numeric_limits<float>::max();
  // What lies half a step beyond the largest float still rounds to it.
  if (std::fabs(value) <= most) return static_cast<float>(value);
  const bool rounds = std::fabs(value) < most + std::ldexp(1.0, 103);
  return static_cast<float>(std::copysign(rounds ? most : std::numeric_limits<double>::infinity(), value));
}

std::int64_t Forms::map(std::size_t axis) const {
  for (const auto& [channels, number] : maps)
    if (channels == axis) return number;
  return -1;
}

Forms as_map(Shape shape, std::size_t axis, std::int64_t number) {
  Forms forms;
  forms.shape = std::move(shape);
  forms.maps.emplace_back(axis, number);
  return forms;
}

Forms as_view(Shape shape, View view) {
  Forms forms;
  forms.shape = std::move(shape);
  forms.view = std::move(view);
  return forms;
}

std::int64_t Writer::emit(Made node, std::string op, std::vector<std::int64_t> inputs, Shape shape) {
  node.op = std::move(op);
  node.inputs = std::move(inputs);
  node.name = name;
  arranged.nodes.push_back(std::move(node));
  arranged.shapes.push_back(std::move(shape));
  return last();
}

View Writer::tensor(Made node, std::string op, std::vector<std::int64_t> inputs, const Shape& shape) {
  return whole(emit(std::move(node), std::move(op), std::move(inputs), {1, product(shape)}), shape);
}

View Writer::constant(std::shared_ptr<const Tensor> value) {
  const Shape shape = value->shape();
  Made node;
  node.tensors.emplace("value", std::move(value));
  return tensor(std::move(node), "constant", {}, shape);
}

View Writer::copied(std::vector<std::int64_t> inputs, const Shape& shape, const std::vector<Box>& boxes,
                    double filling) {
  Made node;
  node.values = {narrow(filling)};
  const auto add = [&](const std::vector<std::int64_t>& some) {
    node.numbers.insert(node.numbers.end(), some.begin(), some.end());
  };
  for (const Box& box : boxes) {
    const Walked w = walk(box.from.shape, box.from.strides, box.to.strides);
    add({box.input});
    add(w.extents);
    add({box.from.offset});
    add(w.first);
    add({box.to.offset});
    add(w.second);
  }
  return tensor(std::move(node), "copy", std::move(inputs), shape);
}

View Writer::in_order(const View& view) {
  if (view.in_order() && view.covers(product(shape_of(view.source)))) return view;
  return copied({view.source}, view.shape, {{0, view, whole(0, view.shape)}});
}

View Writer::view_of(Forms& value) {
  if (!value.view) {
    if (value.maps.empty()) {
      value.view = value.make();
    } else {
      const auto [axis, number] = value.maps.front();
      value.view = unpacked(number, value.shape, axis);
    }
  }
  return *value.view;
}

// A map's numbers lie channel by channel in its tensor.
View Writer::unpacked(std::int64_t number, const Shape& shape, std::size_t axis) {
  const std::int64_t source = emit({}, "unpack", {number}, {1, product(shape)});
  Shape channels_first{shape[axis]};
  Order order;
  for (std::size_t i : without(axis, shape.size())) channels_first.push_back(shape[i]);
  for (std::size_t i = 0; i < shape.size(); ++i) order.push_back(i < axis ? i + 1 : i == axis ? 0 : i);
  return whole(source, channels_first).permuted(order);
}

std::int64_t Writer::map_of(Forms& value, std::size_t axis) {
  const std::int64_t found = value.map(axis);
  if (found >= 0) return found;
  const std::int64_t made = packed(view_of(value), axis, nullptr);
  value.maps.emplace_back(axis, made);
  return made;
}

std::int64_t Writer::map_like(Forms& value, std::size_t axis, const Shape& form) {
  const std::int64_t found = value.map(axis);
  if (found >= 0 && shape_of(found) == form) return found;
  const std::int64_t made = packed(view_of(value), axis, &form);
  if (found < 0) value.maps.emplace_back(axis, made);
  return made;
}

std::int64_t Writer::packed(const View& view, std::size_t axis, const Shape* form) {
  const Shape& shape = view.shape;
  Order order{axis};
  for (std::size_t i : without(axis, shape.size())) order.push_back(i);
  const View channels_first = view.permuted(order);
  std::vector<Shape> forms;
  if (form) {
    forms = {*form};
  } else {
    const bool as_it_is = shape.size() == 1 || shape.size() == 3;
    const std::int64_t positions = product(channels_first.shape, 1, shape.size());
    forms = {as_it_is ? channels_first.shape : Shape{shape[axis], positions, 1},
             {shape[axis], product(shape, 0, axis), product(shape, axis + 1, shape.size())}};
  }
  std::optional<View> seen;
  for (const Shape& some : forms)
    if (!seen) seen = channels_first.reshaped(some);
  if (!seen) seen = in_order(channels_first).reshaped(forms[0]);
  Made node;
  node.numbers = {seen->offset};
  for (std::size_t i = 0; i < 3; ++i) node.numbers.push_back(i < seen->strides.size() ? seen->strides[i] : 0);
  return emit(std::move(node), "pack", {seen->source}, seen->shape);
}

Forms seen_as(const Forms& value, const Shape& shape, std::function<View()> make) {
  Forms forms;
  forms.shape = shape;
  forms.make = std::move(make);
  if (value.view) forms.view = value.view->reshaped(shape);
  for (const auto& [axis, number] : value.maps)
    for (std::size_t fresh = 0; fresh < shape.size(); ++fresh)
      if (shape[fresh] == value.shape[axis] && product(shape, 0, fresh) == product(value.shape, 0, axis)) {
        const auto same = [&a = fresh](const auto& map) { return map.first == a; };
        const auto found = std::find_if(forms.maps.begin(), forms.maps.end(), same);
        if (found != forms.maps.end()) {
          found->second = number;
        } else {
          forms.maps.emplace_back(fresh, number);
        }
        break;
      }
  return forms;
}

View slots(const Shape& shape, const std::vector<std::int64_t>& starts, const Shape& sizes) {
  const Strides strides = row_by_row(shape);
  return {0, sizes, strides, std::inner_product(starts.begin(), starts.end(), strides.begin(), std::int64_t{0})};
}

}  // namespace harp::lowering
