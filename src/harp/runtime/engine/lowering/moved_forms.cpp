// Operations that move numbers, in the forms that the engine runs them on: other views where that is possible.
#include <algorithm>
#include <map>

#include "forms.h"

namespace harp::lowering {
namespace {

using graphs::Node;

Forms later(const Shape& shape, std::function<View()> make) {
  Forms forms;
  forms.shape = shape;
  forms.make = std::move(make);
  return forms;
}

Forms constant(Writer& writer, const Node& node, const Shape& shape, const Given&) {
  return as_view(shape, writer.constant(node.tensors.find("value")->second));
}

Forms reshape(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  if (node.op == "flatten" && value.map(0) >= 0 && value.shape.size() == 3)
    return as_map(shape, 0, writer.emit({}, "flatten", {writer.exact_map(value)}, shape));
  return seen_as(value, shape, [&writer, &value, shape] {
    const View view = writer.view_of(value);
    const std::optional<View> seen = view.reshaped(shape);
    return seen ? *seen : whole(writer.in_order(view).source, shape);
  });
}

Forms permute(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  const auto& axes = node.list("order");
  const Order order(axes.begin(), axes.end());
  Forms forms = later(shape, [&writer, &value, order] { return writer.view_of(value).permuted(order); });
  if (value.view) forms.view = value.view->permuted(order);
  for (const auto& [axis, number] : value.maps) {
    Order others = order;
    others.erase(std::find(others.begin(), others.end(), axis));
    if (std::is_sorted(others.begin(), others.end()))
      forms.maps.emplace_back(std::find(order.begin(), order.end(), axis) - order.begin(), number);
  }
  return forms;
}

Forms expand(Writer& writer, const Node&, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  return later(shape, [&writer, &value, shape] { return writer.view_of(value).expanded(shape); });
}

struct Stretch {
  std::int64_t start, step, count;
};

// Numbers as parts of equal steps.
std::vector<Stretch> stretches(const std::vector<std::int64_t>& index) {
  std::vector<Stretch> found;
  for (std::size_t place = 0, end = 0; place < index.size(); place = end) {
    const std::int64_t step = place + 1 < index.size() ? index[place + 1] - index[place] : 1;
    for (end = place + 1; end < index.size() && index[end] - index[end - 1] == step;) ++end;
    found.push_back({index[place], step, static_cast<std::int64_t>(end - place)});
  }
  return found;
}

// Where along one axis a part of a fresh tensor begins.
std::vector<std::int64_t> at(std::size_t rank, std::size_t axis, std::int64_t place) {
  std::vector<std::int64_t> starts(rank, 0);
  starts[axis] = place;
  return starts;
}

View taken(Writer& writer, const View& view, std::size_t axis, const std::vector<std::int64_t>& index,
           const Shape& shape) {
  const std::vector<Stretch> found = stretches(index);
  if (found.size() == 1) return view.part(axis, found[0].start, found[0].step, found[0].count);
  std::vector<Box> boxes;
  std::int64_t place = 0;
  for (const Stretch& s : found) {
    const View part = view.part(axis, s.start, s.step, s.count);
    boxes.push_back({0, part, slots(shape, at(shape.size(), axis, place), part.shape)});
    place += s.count;
  }
  return writer.copied({view.source}, shape, boxes);
}

Forms take(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  const auto axis = static_cast<std::size_t>(node.integer("axis"));
  const auto& index = node.list("index");
  const std::int64_t number = value.map(axis);
  if (number >= 0) {
    Shape form = writer.shape_of(number);
    form[0] = static_cast<std::int64_t>(index.size());
    Made made;
    made.numbers = index;
    return as_map(shape, axis, writer.emit(std::move(made), "channels", {number}, form));
  }
  return later(shape, [&writer, &value, &index, axis, shape] {
    return taken(writer, writer.view_of(value), axis, index, shape);
  });
}

View joined(Writer& writer, const Given& parts, std::size_t axis, const Shape& shape) {
  std::vector<View> views;
  std::vector<std::int64_t> sources;
  for (Forms* part : parts) views.push_back(writer.view_of(*part));
  std::vector<Box> boxes;
  std::int64_t place = 0;
  for (std::size_t source = 0; source < views.size(); ++source) {
    const View& view = views[source];
    boxes.push_back({static_cast<std::int64_t>(source), view, slots(shape, at(shape.size(), axis, place), view.shape)});
    sources.push_back(view.source);
    place += view.shape[axis];
  }
  return writer.copied(sources, shape, boxes);
}

Forms join(Writer& writer, const Node& node, const Shape& shape, const Given& parts) {
  const std::size_t axis = node.has("axis") ? static_cast<std::size_t>(node.integer("axis")) : 0;
  if (std::all_of(parts.begin(), parts.end(), [&](const Forms* part) { return part->map(axis) >= 0; })) {
    std::vector<std::int64_t> numbers;
    for (Forms* part : parts) numbers.push_back(node.op == "concat" ? writer.exact_map(*part) : part->map(axis));
    Shape form = writer.shape_of(numbers[0]);
    const auto fits = [&](std::int64_t number) {
      const Shape& other = writer.shape_of(number);
      return std::equal(form.begin() + 1, form.end(), other.begin() + 1, other.end());
    };
    if (std::all_of(numbers.begin(), numbers.end(), fits)) {
      form[0] = shape[axis];
      return as_map(shape, axis, writer.emit({}, "concat", numbers, form));
    }
  }
  return later(shape, [&writer, parts, axis, shape] { return joined(writer, parts, axis, shape); });
}

// Slabs of the filling before and after, axis by axis, which do not overlap; then the numbers themselves.
View padded(Writer& writer, const View& view, const Node& node, const Shape& shape) {
  const auto &before = node.list("before"), &after = node.list("after");
  std::vector<Box> boxes{{0, view, slots(shape, before, view.shape)}};
  Shape starts(shape.size(), 0), sizes = shape;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t size = view.shape[axis];
    for (const auto& [start, thick] : {std::pair{std::int64_t{0}, before[axis]}, {before[axis] + size, after[axis]}}) {
      if (thick == 0) continue;
      Shape here = starts, slab = sizes;
      here[axis] = start;
      slab[axis] = thick;
      boxes.push_back({-1, View{0, slab, Strides(slab.size(), 0), 0}, slots(shape, here, slab)});
    }
    starts[axis] = before[axis];
    sizes[axis] = size;
  }
  return writer.copied({view.source}, shape, boxes, node.real("value"));
}

Forms pad(Writer& writer, const Node& node, const Shape& shape, const Given& given) {
  Forms& value = *given[0];
  Forms forms =
      later(shape, [&writer, &value, &node, shape] { return padded(writer, writer.view_of(value), node, shape); });
  const auto &before = node.list("before"), &after = node.list("after");
  if (shape.size() == 3 && node.real("value") == 0 && before[0] == 0 && after[0] == 0) {
    forms.inside = &value;
    forms.before = before;
    forms.after = after;
  }
  return forms;
}

}  // namespace

Handler moved(std::string_view op) {
  static const std::map<std::string_view, Handler> handlers{
      {"constant", constant}, {"reshape", reshape}, {"flatten", reshape}, {"permute", permute}, {"expand", expand},
      {"take", take},         {"join", join},       {"concat", join},     {"pad", pad}};
  const auto found = handlers.find(op);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace harp::lowering
