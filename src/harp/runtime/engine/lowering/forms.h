// How the engine holds the values of a graph: as maps, whose channels are any one of their axes, or as tensors, which
// lie in memory row by row. A value gets the form that is asked for when it is asked for.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../graphs/graph.h"
#include "views.h"

namespace harp::lowering {

// A node that the engine runs: of the graph, or one of the steps on tensors, with what these are told.
struct Made : graphs::Node {
  std::vector<std::int64_t> numbers;
  std::vector<float> values;
  std::int64_t count = 0;                             // of a row
  std::int64_t margins[2][2] = {{0, 0}, {0, 0}};      // rows, then columns of zeros before and after a kernel
  const graphs::Node* activation = nullptr;           // of elementwise
};

// What runs, and the shape of each of its values. A map's is (c, h, w) or (c), that of a tensor (1, numbers).
struct Arranged {
  std::vector<Made> nodes;
  std::vector<Shape> shapes;
};

// A value of the graph: maps by the axis that is their channels, the view of a tensor, or what makes it.
struct Forms {
  Shape shape;
  std::vector<std::pair<std::size_t, std::int64_t>> maps;  // in the order in which they were made
  std::optional<View> view;
  std::function<View()> make;  // of a value that is only made if somebody asks for it
  // Of a map with zeros around it: what is inside, and how many are before and after along each axis.
  Forms* inside = nullptr;
  std::vector<std::int64_t> before, after;

  // The map with these channels, or -1.
  std::int64_t map(std::size_t axis) const;
};

Forms as_map(Shape shape, std::size_t axis, std::int64_t number);
Forms as_view(Shape shape, View view);

// Numbers to copy: which input they come from (-1: a filling), where they are, and where they go.
struct Box {
  std::int64_t input;
  View from, to;
};

class Writer {
 public:
  explicit Writer(const Shape& image) { arranged.shapes.push_back(image); }

  std::int64_t emit(Made node, std::string op, std::vector<std::int64_t> inputs, Shape shape);
  // A node that writes the numbers of a tensor in their order.
  View tensor(Made node, std::string op, std::vector<std::int64_t> inputs, const Shape& shape);
  View constant(std::shared_ptr<const Tensor> value);
  View copied(std::vector<std::int64_t> inputs, const Shape& shape, const std::vector<Box>& boxes,
              double filling = 0.0);

  // The tensor alone in a buffer of its own, its numbers in their order.
  View in_order(const View& view);
  View view_of(Forms& value);
  // The map whose channels are an axis, its positions in whatever rows and columns.
  std::int64_t map_of(Forms& value, std::size_t axis);
  // The map of a value of shape (c, h, w) or (c), its positions where they are.
  std::int64_t exact_map(Forms& value) { return map_like(value, 0, value.shape); }
  // The map whose channels are an axis, of the shape `form`.
  std::int64_t map_like(Forms& value, std::size_t axis, const Shape& form);
  const Shape& shape_of(std::int64_t value) const { return arranged.shapes[static_cast<std::size_t>(value)]; }
  std::int64_t last() const { return static_cast<std::int64_t>(arranged.nodes.size()); }

  Arranged arranged;
  std::string name;

 private:
  View unpacked(std::int64_t number, const Shape& shape, std::size_t axis);
  std::int64_t packed(const View& view, std::size_t axis, const Shape* form);
};

// The same numbers in their order as a value of another shape: maps whose channels are still an axis stay.
Forms seen_as(const Forms& value, const Shape& shape, std::function<View()> make);

// The part of a fresh tensor that begins at `starts`.
View slots(const Shape& shape, const std::vector<std::int64_t>& starts, const Shape& sizes);

float narrow(double value);

// How an operation is arranged; null where there is no such.
using Given = std::vector<Forms*>;
using Handler = Forms (*)(Writer& writer, const graphs::Node& node, const Shape& shape, const Given& given);
Handler computed(std::string_view op);
Handler moved(std::string_view op);

}  // namespace harp::lowering
