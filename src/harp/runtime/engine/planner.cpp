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

// The layout that a sliding window gives without any number changing its lane: a part of the result comes from the
// same part of the input. When the parts do not fit, the input moves first.
Layout Planner::window(const Node& node, Place*& in, Size size) {
  const int factor = node.pool ? 2 : 1;
  const int steps[2] = {node.stride[0] * factor, node.stride[1] * factor};
  const auto fits = [](int parts, int length, int step, int wanted) {
    return parts == 1 || (length % step == 0 && parts * (length / step) >= wanted);
  };
  Layout from = in->layout;
  if (!fits(from.down, from.rows, steps[0], size.height) || !fits(from.across, from.columns, steps[1], size.width)) {
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
  Sketch s;
  s.node = index;
  Layout out;
  if (is_window(node)) {
    in[0] = filled(node.inputs[0], in[0], node, size);
    if (node.residual >= 0 && values_[node.residual]->layout.images > in[0]->layout.images)
      in[0] = move(in[0], fresh_layout(in[0]->layout.size, in[0]->layout.lanes, values_[node.residual]->layout.images));
    out = window(node, in[0], size);
    if (node.residual >= 0) s.residual = same_lanes(values_[node.residual], out);
  } else if (node.kind == Kind::flatten) {
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

void Planner::frames() {
  for (const Sketch& s : sketches_) {
    if (s.node < 0 || !is_window(nodes_[s.node])) continue;
    const Node& n = nodes_[s.node];
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

void Planner::segments() {
  for (std::size_t i = 0; i < sketches_.size(); ++i) {
    if (plan_.segments_.empty() || plan_.segments_.back().images != sketches_[i].images)
      plan_.segments_.push_back({i, i, sketches_[i].images});
    plan_.segments_.back().end = i + 1;
  }
  if (plan_.segments_.empty()) plan_.segments_.push_back({0, 0, values_[0]->layout.images});
}

// A value that outlives its segment is kept for all groups of the chunk, from the segment's begin to its reader's end.
void Planner::lifetimes() {
  const auto segment_of = [&](int step) {
    std::size_t s = 0;
    while (s + 1 < plan_.segments_.size() && plan_.segments_[s].end <= static_cast<std::size_t>(step)) ++s;
    return s;
  };
  const int end = static_cast<int>(sketches_.size());
  for (Place& p : plan_.places_) p.first = end, p.last = 0;
  for (int i = 0; i < end; ++i) {
    std::vector<Place*> touched = sketches_[i].in;
    touched.push_back(sketches_[i].out);
    if (sketches_[i].residual) touched.push_back(sketches_[i].residual);
    for (Place* p : touched) {
      p->first = std::min(p->first, i);
      p->last = std::max(p->last, i);
    }
  }
  values_.front()->first = 0;
  values_.back()->last = std::max(values_.back()->last, end - 1);
  for (Place& p : plan_.places_) {
    if (p.first > p.last) p.first = p.last;
    const std::size_t from = segment_of(p.first), to = segment_of(p.last);
    if (from == to && p.layout.images == plan_.segments_[from].images) continue;
    p.copies = plan_.images_ / p.layout.images;
    p.first = static_cast<int>(plan_.segments_[from].begin);
    p.last = static_cast<int>(plan_.segments_[to].end) - 1;
  }
}

// First fit: each value at the lowest place where nothing lies that is alive at the same time.
void Planner::lay_out_arena() {
  std::vector<Place*> placed;
  for (Place& p : plan_.places_) {
    const std::size_t size = static_cast<std::size_t>(p.layout.floats()) * p.copies;
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (const Place* other : placed)
      if (other->first <= p.last && p.first <= other->last)
        taken.emplace_back(other->offset, other->offset + static_cast<std::size_t>(other->layout.floats()) * other->copies);
    std::sort(taken.begin(), taken.end());
    std::size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + size <= begin) break;
      offset = std::max(offset, end);
    }
    p.offset = offset;
    plan_.arena_floats_ = std::max(plan_.arena_floats_, offset + size);
    placed.push_back(&p);
  }
}

void Planner::make_steps() {
  const Kernels* kernels = plan_.kernels_;
  for (const Sketch& s : sketches_) {
    const std::vector<const Place*> in(s.in.begin(), s.in.end());
    std::unique_ptr<Step> step;
    if (s.node < 0) {
      step = std::make_unique<MoveStep>(kernels, in[0], s.out, s.how, s.first_channel);
    } else {
      const Node& node = nodes_[s.node];
      switch (node.kind) {
        case Kind::conv: {
          auto conv = std::make_unique<ConvStep>(node, kernels, in[0], s.residual, s.out);
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
      step->node = s.node;
    }
    plan_.scratch_floats_ = std::max(plan_.scratch_floats_, step->scratch_floats());
    plan_.steps_.push_back(std::move(step));
  }
}

}  // namespace harp
