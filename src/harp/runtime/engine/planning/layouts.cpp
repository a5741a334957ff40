// A layout for each value, a sketch of a step for each node, and moves where a node needs another layout.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>

#include "../arithmetic.h"
#include "../tuning.h"
#include "sketch.h"

namespace harp {
namespace {

// A convolution with its pooling as two nodes, for where it cannot pool on the way out.
Node unpooled(Node node) {
  node.pool = false;
  return node;
}

Node two_by_two() {
  Node node;
  node.kind = Kind::max_pool;
  for (int axis = 0; axis < 2; ++axis) node.kernel[axis] = node.stride[axis] = 2;
  return node;
}

// Whether every part of the result comes from the same part of the input, so that no number changes its lane.
bool fits(const Node& node, const Layout& in, Size out) {
  const int factor = node.pool ? 2 : 1;
  const auto axis = [](int parts, int length, int step, int wanted) {
    return parts == 1 || (length % step == 0 && parts * (length / step) >= wanted);
  };
  return axis(in.down, in.rows, node.stride[0] * factor, out.height) &&
         axis(in.across, in.columns, node.stride[1] * factor, out.width);
}

// Whether a window that slides over a map leaves it, for results of this size.
bool reaches_out(const Node& node, Size out, Size map) {
  const auto reaches = [&](int axis, int count, int length) {
    return node.padding[axis] > 0 || (count - 1) * node.stride[axis] + node.kernel[axis] > length;
  };
  return reaches(0, out.height, map.height) || reaches(1, out.width, map.width);
}

// Of a tensor: its numbers one after the other.
Layout tensor_layout(Size size) {
  Layout l;
  l.size = size;
  l.lanes = 1;
  l.rows = size.height;
  l.columns = size.width;
  return l;
}

// The one with the largest map, of equals the one with the most images.
std::size_t leader(const std::vector<Place*>& places) {
  const auto area = [](const Place* p) { return p->layout.size.height * p->layout.size.width; };
  const auto found = std::max_element(places.begin(), places.end(), [&](const Place* a, const Place* b) {
    return area(a) != area(b) ? area(a) < area(b) : a->layout.images < b->layout.images;
  });
  return static_cast<std::size_t>(found - places.begin());
}

class Sketcher {
 public:
  explicit Sketcher(const Task& task);
  Draft draw();

 private:
  Place* place(const Layout& layout);
  Place* move(Place* from, Layout to, MoveStep::How how = MoveStep::How::pixels);
  Place* same_lanes(Place* from, const Layout& as);
  Place* filled(Place* in, bool shared, const Node& node, Size out);
  Layout fitting(const Node& node, const Layout& from, Size out) const;
  Layout image_layout() const;
  Layout window_layout(const Node& node, Place*& in, Size out);
  Layout common_layout(const std::vector<Place*>& in, Size out) const;
  Place* add(int index, const Node& node, const std::vector<Place*>& in, const Layout& out);

  Place* tape_for(const Node& node, const Layout& out);
  std::vector<const Node*> parts_of(const Node& node);

  Place* value(int index);
  Place* node(int index, const Node& node, std::vector<Place*> in, bool shared, Size size);
  bool does_nothing(const Node& node, Size before, Size out) const;
  Place* tensor(int index, const Node& node, const std::vector<Place*>& in, Size size);
  Place* window(int index, const Node& node, Size size, Place* in);
  Place* one_window(int index, const Node& node, Size size, Place* in);
  Place* concat(const std::vector<Place*>& parts, Size size);
  void settle(int value, Place* natural);

  const Task& task_;
  const std::vector<Node>& nodes_;
  std::vector<int> images_;  // wanted for each value
  std::vector<int> consumers_;
  Draft draft_;
};

// The images of a vector never become fewer on the way: then the chunk runs as a few segments. So a value takes as
// many as suit the largest map that is still to come.
Sketcher::Sketcher(const Task& task) : task_(task), nodes_(task.network.nodes) {
  const std::size_t count = nodes_.size() + 1;
  draft_.values.resize(count);
  consumers_.resize(count);
  images_.resize(count);
  std::int64_t largest = 1;
  for (std::size_t v = count; v-- > 0;) {
    if (v == 0 || !is_tensor(nodes_[v - 1].kind))
      largest = std::max(largest, static_cast<std::int64_t>(task.sizes[v].height) * task.sizes[v].width);
    const std::int64_t lanes = static_cast<std::int64_t>(task.positions) * task.kernels->lanes;
    images_[v] = std::min(task.images, power_below(std::max<std::int64_t>(1, lanes / largest)));
  }
  for (const Node& node : nodes_) {
    for (int value : node.inputs) ++consumers_.at(value);
    if (node.residual >= 0) ++consumers_.at(node.residual);
  }
}

Draft Sketcher::draw() {
  draft_.values[0] = place(image_layout());
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) settle(i + 1, value(i));
  return std::move(draft_);
}

Place* Sketcher::place(const Layout& layout) {
  draft_.places.push_back({layout});
  return &draft_.places.back();
}

Place* Sketcher::move(Place* from, Layout to, MoveStep::How how) {
  to.images = std::max(to.images, from->layout.images);
  Sketch s;
  s.in = {from};
  s.out = place(to);
  s.how = how;
  s.images = from->layout.images;
  draft_.sketches.push_back(s);
  return s.out;
}

Place* Sketcher::add(int index, const Node& node, const std::vector<Place*>& in, const Layout& out) {
  Sketch s;
  s.index = index;
  s.node = &node;
  s.in = in;
  s.out = place(out);
  s.images = out.images;
  if (task_.taped) s.tape = tape_for(node, out);
  draft_.sketches.push_back(s);
  return s.out;
}

// What going back will ask this step for; null: nothing, or a value.
Place* Sketcher::tape_for(const Node& node, const Layout& out) {
  int bytes = 0;
  if (node.kind == Kind::max_pool) {
    bytes = static_cast<int>(sizeof(std::int32_t)) * out.lanes;
  } else if (node.pool) {
    bytes = static_cast<int>(sizeof(std::uint16_t)) * POOL_BITS;
  } else if (keeps_bits(node.activation)) {
    bytes = static_cast<int>(sizeof(std::uint16_t));
  }
  if (bytes == 0) return nullptr;
  Place* tape = place(out);
  tape->vector_bytes = bytes;
  return tape;
}

// With a tape, an activation that keeps its input is a step of its own; so is a pooling behind what keeps no bit, or
// behind an activation that may turn the order round.
std::vector<const Node*> Sketcher::parts_of(const Node& node) {
  const bool smooth = node.activation != Activation::none && !keeps_bits(node.activation);
  const bool apart = node.pool && (smooth || node.activation == Activation::leaky);
  if (!task_.taped || (!apart && (!smooth || node.kind == Kind::activation))) return {&node};
  std::vector<const Node*> parts;
  const auto add = [&](const Node& part) {
    draft_.nodes.push_back(part);
    parts.push_back(&draft_.nodes.back());
  };
  Node first = node;
  if (smooth) first.activation = Activation::none;
  if (apart) first.pool = false;
  add(first);
  if (smooth) {
    Node second;
    second.kind = Kind::activation;
    second.activation = node.activation;
    add(second);
  }
  if (apart) add(two_by_two());
  return parts;
}

// The value laid out in lanes as another map of the same size.
Place* Sketcher::same_lanes(Place* from, const Layout& as) {
  const bool small = from->layout.size.height * from->layout.size.width == 1 && as.size.height * as.size.width > 1;
  if (!small && from->layout.same_lanes(as) && from->layout.rows == as.rows && from->layout.columns == as.columns)
    return from;
  Layout to = without_frame(as);
  to.size = from->layout.size;
  if (small) to.rows = to.columns = 1;
  return move(from, to, small ? MoveStep::How::broadcast : MoveStep::How::pixels);
}

// A maximum must not see the zeros around a map: where its windows reach out, the frame is filled with -infinity.
Place* Sketcher::filled(Place* in, bool shared, const Node& node, Size out) {
  if (node.kind != Kind::max_pool || !reaches_out(node, out, in->layout.size)) return in;
  if (shared || in == draft_.values[0]) in = move(in, in->layout);
  in->layout.fill = -std::numeric_limits<float>::infinity();
  return in;
}

// The same map in parts that fit the window.
Layout Sketcher::fitting(const Node& node, const Layout& from, Size size) const {
  const int factor = node.pool ? 2 : 1;
  Layout to = fresh_layout(size, from.lanes, from.images);
  to.size = from.size;
  to.fill = from.fill;
  const auto length = [](int parts, int step, int out, int all) {
    return parts == 1 ? all : step * ceil_div(std::max(out, ceil_div(all, step)), parts);
  };
  to.rows = length(to.down, node.stride[0] * factor, size.height, to.size.height);
  to.columns = length(to.across, node.stride[1] * factor, size.width, to.size.width);
  return to;
}

// Of the images: where one window reads them, and nothing else, they come in parts that fit it.
Layout Sketcher::image_layout() const {
  const Layout fresh = fresh_layout(task_.sizes[0], task_.kernels->lanes, images_[0]);
  for (std::size_t i = 0; i < nodes_.size() && consumers_[0] == 1; ++i) {
    const Node& node = nodes_[i];
    const Size size = task_.sizes[i + 1];
    if (!node.inputs.empty() && node.inputs[0] == 0 && is_window(node.kind) && !node.pool && !fits(node, fresh, size))
      return fitting(node, fresh, size);
  }
  return fresh;
}

// The layout that a sliding window gives; when the parts do not fit, its input moves first.
Layout Sketcher::window_layout(const Node& node, Place*& in, Size size) {
  const int factor = node.pool ? 2 : 1;
  const int steps[2] = {node.stride[0] * factor, node.stride[1] * factor};
  Layout from = in->layout;
  if (!fits(node, from, size)) {
    in = move(in, fitting(node, from, size));
    from = in->layout;
  }
  Layout out = without_frame(from);
  out.size = size;
  out.rows = from.down == 1 ? size.height : from.rows / steps[0];
  out.columns = from.across == 1 ? size.width : from.columns / steps[1];
  return out;
}

// What an elementwise step gives: the layout of its largest input, with as many images as any has.
Layout Sketcher::common_layout(const std::vector<Place*>& in, Size size) const {
  Layout out = in[leader(in)]->layout;
  for (const Place* p : in)
    if (p->layout.images > out.images) out = fresh_layout(out.size, out.lanes, p->layout.images);
  out.size = size;
  return without_frame(out);
}

bool Sketcher::does_nothing(const Node& node, Size before, Size out) const {
  if (node.kind == Kind::flatten) return before.height * before.width == 1;
  return node.kind == Kind::adaptive_pool && before.height == out.height && before.width == out.width;
}

// What one node of the network computes, in its natural layout.
Place* Sketcher::value(int index) {
  const Node& whole = nodes_[index];
  const Size size = task_.sizes[index + 1];
  std::vector<Place*> in;
  in.reserve(whole.inputs.size());
  for (int value : whole.inputs) in.push_back(draft_.values.at(value));
  if (whole.kind >= Kind::channels) return tensor(index, whole, in, size);
  const std::vector<const Node*> parts = parts_of(whole);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool pooled_later = whole.pool && !parts[i]->pool && i + 1 < parts.size();
    const Size here = pooled_later ? Size{size.channels, size.height * 2, size.width * 2} : size;
    const bool shared = i == 0 && consumers_.at(whole.inputs[0]) > 1;
    in = {node(i == 0 ? index : -1, *parts[i], in, shared, here)};
  }
  return in[0];
}

// `shared`: others read its input, too.
Place* Sketcher::node(int index, const Node& node, std::vector<Place*> in, bool shared, Size size) {
  const Layout& first = in[0]->layout;
  if (does_nothing(node, first.size, size)) return in[0];
  if (is_window(node.kind)) return window(index, node, size, filled(in[0], shared, node, size));
  if (node.kind == Kind::flatten) {
    const int images = std::max(images_[index + 1], first.images);
    return move(in[0], fresh_layout(size, first.lanes, images), MoveStep::How::flatten);
  }
  if (node.kind == Kind::adaptive_pool) return add(index, node, in, fresh_layout(size, first.lanes, first.images));
  if (node.kind == Kind::concat) return concat(in, size);
  const Layout out = common_layout(in, size);
  std::iter_swap(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(leader(in)));
  for (Place*& p : in) p = same_lanes(p, out);
  return add(index, node, in, out);
}

// What runs on tensors runs for one image at a time; so does what leads to tensors and back.
Place* Sketcher::tensor(int index, const Node& node, const std::vector<Place*>& in, Size size) {
  if (task_.taped) throw std::invalid_argument("an operation that has no way back");
  if (node.kind == Kind::constant) {
    Place* held = place(tensor_layout(size));
    held->constant = &node.details->values;
    return held;
  }
  if (node.kind == Kind::channels || node.kind == Kind::normalise) {
    Layout out = without_frame(in[0]->layout);
    out.size = size;
    return add(index, node, in, out);
  }
  const bool packed = node.kind == Kind::pack;
  const Layout map = fresh_layout(size, task_.kernels->lanes, images_[index + 1]);
  Place* out = add(index, node, in, packed ? map : tensor_layout(size));
  draft_.sketches.back().images = 1;
  return out;
}

Place* Sketcher::window(int index, const Node& node, Size size, Place* in) {
  const Size whole{size.channels, size.height * 2, size.width * 2};
  // A tile two positions wide, as pooling takes, has kernels for steps of one and two only.
  const bool one_step = node.stride[1] <= MOST_TILE_STEP;
  if (!node.pool || (one_step && (fits(node, in->layout, size) || !fits(unpooled(node), in->layout, whole))))
    return one_window(index, node, size, in);
  // Moving the small result of the convolution costs less than computing it in lanes that are mostly empty.
  draft_.nodes.push_back(unpooled(node));
  Place* map = one_window(index, draft_.nodes.back(), whole, in);
  draft_.nodes.push_back(two_by_two());
  return one_window(-1, draft_.nodes.back(), size, map);
}

Place* Sketcher::one_window(int index, const Node& node, Size size, Place* in) {
  const Place* residual = node.residual >= 0 ? draft_.values[node.residual] : nullptr;
  if (residual && residual->layout.images > in->layout.images)
    in = move(in, fresh_layout(in->layout.size, in->layout.lanes, residual->layout.images));
  const Layout out = window_layout(node, in, size);
  Place* added = residual ? same_lanes(draft_.values[node.residual], out) : nullptr;
  Place* result = add(index, node, {in}, out);
  draft_.sketches.back().residual = added;
  return result;
}

Place* Sketcher::concat(const std::vector<Place*>& parts, Size size) {
  Place* joined = place(common_layout(parts, size));
  int channel = 0;
  for (Place* p : parts) {
    Sketch s;
    s.in = {p};
    s.out = joined;
    s.first_channel = channel;
    s.images = p->layout.images;
    channel += p->layout.size.channels;
    draft_.sketches.push_back(s);
  }
  return joined;
}

// What a value's consumers get: its natural layout, or one of more images when its map has become small.
void Sketcher::settle(int value, Place* natural) {
  if (natural->layout.lanes == 1) {
    draft_.values[value] = natural;
    return;
  }
  const Layout& l = natural->layout;
  const int images = std::max(images_[value], l.images);
  const Layout fresh = fresh_layout(l.size, l.lanes, images);
  const bool wasteful =
      tuning::WASTE_WORTH_A_MOVE * fresh.rows * fresh.columns * l.images < 1.0 * l.rows * l.columns * images;
  const bool last = value == static_cast<int>(nodes_.size());
  draft_.values[value] = !last && (images > l.images || wasteful) ? move(natural, fresh) : natural;
}

}  // namespace

Layout without_frame(Layout layout) {
  layout.top = layout.left = layout.bottom = layout.right = 0;
  layout.fill = 0.0f;
  return layout;
}

bool keeps_bits(Activation activation) {
  return activation == Activation::relu || activation == Activation::relu6 || activation == Activation::leaky;
}

float leak_of(const Node& node) { return node.activation == Activation::leaky ? node.slope : 0.0f; }

Draft choose_layouts(const Task& task) { return Sketcher(task).draw(); }

}  // namespace harp
