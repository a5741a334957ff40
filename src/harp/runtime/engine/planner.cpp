#include "planner.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace harp {
namespace {

int ceil_div(int a, int b) { return (a + b - 1) / b; }

int power_below(long limit) {
  int power = 1;
  while (2L * power <= limit) power *= 2;
  return power;
}

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

bool is_window(const Node& n) { return n.kind == Kind::conv || n.kind == Kind::max_pool || n.kind == Kind::avg_pool; }

}  // namespace

// The images of a vector never become fewer on the way: then the chunk runs as a few segments. So a value takes as
// many as suit the largest map that is still to come.
Planner::Planner(Plan& plan, int positions) : plan_(plan), nodes_(plan.network_->nodes) {
  const std::size_t count = nodes_.size() + 1;
  values_.resize(count);
  consumers_.resize(count);
  images_.resize(count);
  long largest = 1;
  for (std::size_t v = count; v-- > 0;) {
    largest = std::max(largest, static_cast<long>(plan.sizes_[v].height) * plan.sizes_[v].width);
    const long wanted = std::max(1L, static_cast<long>(positions) * plan.kernels_->lanes / largest);
    images_[v] = std::min(plan.images_, power_below(wanted));
  }
  for (const Node& node : nodes_) {
    for (int value : node.inputs) ++consumers_.at(value);
    if (node.residual >= 0) ++consumers_.at(node.residual);
  }
}

void Planner::build() {
  values_[0] = place(fresh_layout(plan_.sizes_[0], plan_.kernels_->lanes, images_[0]));
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) sketch(i);
  plan_.first_ = values_.front();
  plan_.last_ = values_.back();
  wraps();
  frames();
  segments();
  lifetimes();
  lay_out_arena();
  make_steps();
}

Place* Planner::place(Layout layout) {
  plan_.places_.push_back({layout});
  return &plan_.places_.back();
}

Place* Planner::move(Place* from, Layout to, MoveStep::How how) {
  to.images = std::max(to.images, from->layout.images);
  Sketch s;
  s.in = {from};
  s.out = place(to);
  s.how = how;
  s.images = from->layout.images;
  sketches_.push_back(s);
  return s.out;
}

// The value laid out in lanes as another map of the same size.
Place* Planner::same_lanes(Place* from, const Layout& as) {
  const bool small = from->layout.size.height * from->layout.size.width == 1 && as.size.height * as.size.width > 1;
  if (!small && from->layout.same_lanes(as) && from->layout.rows == as.rows && from->layout.columns == as.columns)
    return from;
  Layout to = as;
  to.size = from->layout.size;
  to.top = to.left = to.bottom = to.right = 0;
  to.fill = 0.0f;
  if (small) to.rows = to.columns = 1;
  return move(from, to, small ? MoveStep::How::broadcast : MoveStep::How::pixels);
}

// Whether every part of the result comes from the same part of the input, so that no number changes its lane.
bool Planner::fits(const Node& node, const Layout& in, Size out) const {
  const int factor = node.pool ? 2 : 1;
  const auto axis = [](int parts, int length, int step, int wanted) {
    return parts == 1 || (length % step == 0 && parts * (length / step) >= wanted);
  };
  return axis(in.down, in.rows, node.stride[0] * factor, out.height) &&
         axis(in.across, in.columns, node.stride[1] * factor, out.width);
}

// The layout that a sliding window gives; when the parts do not fit, its input moves first.
Layout Planner::window(const Node& node, Place*& in, Size size) {
  const int factor = node.pool ? 2 : 1;
  const int steps[2] = {node.stride[0] * factor, node.stride[1] * factor};
  Layout from = in->layout;
  if (!fits(node, from, size)) {
    const Size map = from.size;
    Layout to = fresh_layout(size, from.lanes, from.images);
    to.size = map;
    to.fill = from.fill;
    const auto length = [](int parts, int step, int out, int all) {
      return parts == 1 ? all : step * ceil_div(std::max(out, ceil_div(all, step)), parts);
    };
    to.rows = length(to.down, steps[0], size.height, map.height);
    to.columns = length(to.across, steps[1], size.width, map.width);
    in = move(in, to);
    from = in->layout;
  }
  Layout out = from;
  out.size = size;
  out.rows = from.down == 1 ? size.height : from.rows / steps[0];
  out.columns = from.across == 1 ? size.width : from.columns / steps[1];
  out.top = out.left = out.bottom = out.right = 0;
  out.fill = 0.0f;
  return out;
}

// A maximum must not see the zeros around a map: where its windows reach out, the frame is filled with -infinity.
Place* Planner::filled(int value, Place* in, const Node& node, Size out) {
  const Size map = in->layout.size;
  const auto reaches = [&](int axis, int count, int length) {
    return node.padding[axis] > 0 || (count - 1) * node.stride[axis] + node.kernel[axis] > length;
  };
  if (node.kind != Kind::max_pool || !(reaches(0, out.height, map.height) || reaches(1, out.width, map.width)))
    return in;
  if (consumers_[value] > 1 || in == values_[0]) in = move(in, in->layout);
  in->layout.fill = -std::numeric_limits<float>::infinity();
  return in;
}

Place* Planner::sketch_window(int index, const Node& node, Size size, Place* in) {
  Sketch s;
  s.index = index;
  s.node = &node;
  const Place* residual = node.residual >= 0 ? values_[node.residual] : nullptr;
  if (residual && residual->layout.images > in->layout.images)
    in = move(in, fresh_layout(in->layout.size, in->layout.lanes, residual->layout.images));
  const Layout out = window(node, in, size);
  if (residual) s.residual = same_lanes(values_[node.residual], out);
  s.in = {in};
  s.out = place(out);
  s.images = out.images;
  sketches_.push_back(s);
  return s.out;
}

void Planner::sketch(int index) {
  const Node& node = nodes_[index];
  const Size size = plan_.sizes_[index + 1];
  std::vector<Place*> in;
  for (int value : node.inputs) in.push_back(values_.at(value));
  const Size before = in[0]->layout.size;
  const bool nothing = node.kind == Kind::flatten ? before.height * before.width == 1
                                                  : node.kind == Kind::adaptive_pool && before.height == size.height &&
                                                        before.width == size.width;
  if (nothing) {
    settle(index + 1, in[0]);
    return;
  }
  if (is_window(node)) {
    in[0] = filled(node.inputs[0], in[0], node, size);
    const Size whole{size.channels, size.height * 2, size.width * 2};
    if (node.pool && !fits(node, in[0]->layout, size) && fits(unpooled(node), in[0]->layout, whole)) {
      // Moving the small result of the convolution costs less than computing it in lanes that are mostly empty.
      plan_.halves_.push_back(unpooled(node));
      in[0] = sketch_window(index, plan_.halves_.back(), whole, in[0]);
      plan_.halves_.push_back(two_by_two());
      settle(index + 1, sketch_window(-1, plan_.halves_.back(), size, in[0]));
      return;
    }
    settle(index + 1, sketch_window(index, node, size, in[0]));
    return;
  }
  Sketch s;
  s.index = index;
  s.node = &node;
  Layout out;
  if (node.kind == Kind::flatten) {
    settle(index + 1, move(in[0], fresh_layout(size, in[0]->layout.lanes, std::max(images_[index + 1], in[0]->layout.images)),
                           MoveStep::How::flatten));
    return;
  } else if (node.kind == Kind::adaptive_pool) {
    out = fresh_layout(size, in[0]->layout.lanes, in[0]->layout.images);
  } else {
    const auto area = [](const Place* p) { return p->layout.size.height * p->layout.size.width; };
    const auto leader = std::max_element(in.begin(), in.end(), [&](const Place* a, const Place* b) {
      return area(a) != area(b) ? area(a) < area(b) : a->layout.images < b->layout.images;
    });
    out = (*leader)->layout;
    for (Place* p : in)
      if (p->layout.images > out.images) out = fresh_layout(out.size, out.lanes, p->layout.images);
    out.size = size;
    out.top = out.left = out.bottom = out.right = 0;
    out.fill = 0.0f;
    if (node.kind == Kind::concat) {
      Place* joined = place(out);
      int channel = 0;
      for (Place* p : in) {
        Sketch part;
        part.in = {p};
        part.out = joined;
        part.first_channel = channel;
        part.images = p->layout.images;
        channel += p->layout.size.channels;
        sketches_.push_back(part);
      }
      settle(index + 1, joined);
      return;
    }
    std::iter_swap(in.begin(), in.begin() + (leader - in.begin()));
    for (Place*& p : in) p = same_lanes(p, out);
  }
  s.in = in;
  s.out = place(out);
  s.images = out.images;
  sketches_.push_back(s);
  settle(index + 1, s.out);
}

// What a value's consumers get: its natural layout, or one of more images when its map has become small.
void Planner::settle(int value, Place* natural) {
  const Layout& l = natural->layout;
  const int images = std::max(images_[value], l.images);
  const Layout fresh = fresh_layout(l.size, l.lanes, images);
  const bool wasteful = 1.6 * fresh.rows * fresh.columns * l.images < 1.0 * l.rows * l.columns * images;
  const bool last = value == static_cast<int>(nodes_.size());
  values_[value] = !last && (images > l.images || wasteful) ? move(natural, fresh) : natural;
}

void Planner::wraps() {
  for (Sketch& s : sketches_)
    s.wrapped = s.node && s.node->kind == Kind::conv &&
                ConvStep::should_wrap(*s.node, plan_.kernels_, s.in[0]->layout, s.out->layout);
}

void Planner::frames() {
  for (const Sketch& s : sketches_) {
    if (!s.node || s.wrapped || !is_window(*s.node)) continue;
    const Node& n = *s.node;
    Layout &in = s.in[0]->layout, &out = s.out->layout;
    const int factor = n.pool ? 2 : 1;
    const auto beyond = [&](int axis, int count, int length) {
      return (count * factor - 1) * n.stride[axis] + n.dilation[axis] * (n.kernel[axis] - 1) - n.padding[axis] - (length - 1);
    };
    in.top = std::max(in.top, n.padding[0]);
    in.left = std::max(in.left, n.padding[1]);
    in.bottom = std::max(in.bottom, beyond(0, out.rows, in.rows));
    in.right = std::max(in.right, beyond(1, out.columns, in.columns));
  }
  for (const Place& p : plan_.places_)
    if (p.layout.channel() > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("a map of this size is too large for the engine");
}

void Planner::make_steps() {
  const Kernels* kernels = plan_.kernels_;
  for (const Sketch& s : sketches_) {
    const std::vector<const Place*> in(s.in.begin(), s.in.end());
    std::unique_ptr<Step> step;
    if (!s.node) {
      step = std::make_unique<MoveStep>(kernels, in[0], s.out, s.how, s.first_channel);
    } else {
      const Node& node = *s.node;
      switch (node.kind) {
        case Kind::conv: {
          auto conv = std::make_unique<ConvStep>(node, kernels, in[0], s.residual, s.out, s.wrapped);
          conv->choose(conv->guess());
          plan_.convs_.push_back(conv.get());
          step = std::move(conv);
          break;
        }
        case Kind::max_pool:
        case Kind::avg_pool: step = std::make_unique<PoolStep>(node, kernels, in[0], s.out); break;
        case Kind::adaptive_pool: step = std::make_unique<AdaptiveStep>(kernels, in[0], s.out); break;
        case Kind::softmax: step = std::make_unique<SoftmaxStep>(kernels, in[0], s.out); break;
        default: step = std::make_unique<PointwiseStep>(node, kernels, in, s.out);
      }
      step->node = s.index;
    }
    plan_.scratch_floats_ = std::max(plan_.scratch_floats_, step->scratch_floats());
    plan_.steps_.push_back(std::move(step));
  }
}

}  // namespace harp
