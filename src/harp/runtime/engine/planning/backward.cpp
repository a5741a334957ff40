// The way back: for each sketch, from the last to the first, sketches of what its inputs get from its result.
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "../arithmetic.h"
#include "../steps/backward.h"
#include "sketch.h"
#include "transposed.h"

namespace harp {
namespace {

// The gradient with respect to one place, as far as it has been added up.
struct Gradient {
  Place* place = nullptr;
  int missing = 0;        // contributions of steps that are still to come
  bool masked = false;    // it has gone through the activation that made the value
};

bool is_single(const Layout& l) { return l.size.height * l.size.width == 1; }

class Returner {
 public:
  explicit Returner(Draft& draft) : draft_(draft) {}
  void draw();

 private:
  void count_contributions();
  void back(const Sketch& s);
  void back_convolution(const Sketch& s, Place* from);
  void back_pool(const Sketch& s, Place* from);
  void back_pair(const Sketch& s, Place* from);
  void back_move(const Sketch& s, Place* from);
  Place* before_activation(const Sketch& s);

  Place* place(const Layout& layout);
  Place* like(const Place* p) { return place(without_frame(p->layout)); }
  Sketch& step(std::vector<Place*> in, Place* out);
  Place* pointwise(Node node, std::vector<Place*> in, const Place* as);
  void give(Place* to, Place* made);
  Sketch* mask_of(const Place* p, const Gradient& gradient);

  Draft& draft_;
  std::map<const Place*, Gradient> gradients_;
  std::map<const Place*, std::size_t> makers_;
};

Place* Returner::place(const Layout& layout) {
  draft_.places.push_back({layout});
  return &draft_.places.back();
}

Sketch& Returner::step(std::vector<Place*> in, Place* out) {
  Sketch s;
  s.in = std::move(in);
  s.out = out;
  s.images = out->layout.images;
  draft_.sketches.push_back(std::move(s));
  return draft_.sketches.back();
}

// A sum, product or scale of gradients and kept values, in the layout of a place.
Place* Returner::pointwise(Node node, std::vector<Place*> in, const Place* as) {
  draft_.nodes.push_back(std::move(node));
  Place* out = like(as);
  step(std::move(in), out).node = &draft_.nodes.back();
  return out;
}

Node of_kind(Kind kind) {
  Node node;
  node.kind = kind;
  return node;
}

// A contribution to the gradient with respect to a place, which `made` holds in the lanes of that place.
void Returner::give(Place* to, Place* made) {
  Gradient& gradient = gradients_[to];
  --gradient.missing;
  gradient.place = gradient.place ? pointwise(of_kind(Kind::add), {gradient.place, made}, to) : made;
}

// Only steps whose result reaches the output contribute.
void Returner::count_contributions() {
  gradients_[draft_.values.back()];
  for (std::size_t i = draft_.forward; i-- > 0;) {
    const Sketch& s = draft_.sketches[i];
    makers_[s.out] = i;
    if (gradients_.find(s.out) == gradients_.end()) continue;
    for (const Place* p : s.in) ++gradients_[p].missing;
    if (s.residual) ++gradients_[s.residual].missing;
  }
}

void Returner::draw() {
  count_contributions();
  draft_.upstream = gradients_[draft_.values.back()].place = like(draft_.values.back());
  for (std::size_t i = draft_.forward; i-- > 0;) back(Sketch(draft_.sketches[i]));
  draft_.gradient = gradients_[draft_.values.front()].place;
}

void Returner::back(const Sketch& s) {
  if (gradients_[s.out].place == nullptr) return;
  if (!s.node) {
    back_move(s, gradients_[s.out].place);
    return;
  }
  Place* from = before_activation(s);
  switch (s.node->kind) {
    case Kind::conv: back_convolution(s, from); break;
    case Kind::max_pool:
    case Kind::avg_pool: back_pool(s, from); break;
    case Kind::activation: give(s.in[0], from); break;
    case Kind::affine: {
      Node scaled = of_kind(Kind::affine);
      scaled.scales = s.node->scales;
      scaled.shifts = false;
      give(s.in[0], pointwise(std::move(scaled), {from}, s.in[0]));
      break;
    }
    case Kind::softmax: {
      Place* out = like(s.in[0]);
      step({from, s.out}, out).make = [=](const Kernels* k) {
        return std::make_unique<SoftmaxBackStep>(k, from, s.out, out);
      };
      give(s.in[0], out);
      break;
    }
    case Kind::adaptive_pool: {
      Place* out = like(s.in[0]);
      step({from}, out).make = [=](const Kernels* k) { return std::make_unique<AdaptiveBackStep>(k, from, out); };
      give(s.in[0], out);
      break;
    }
    default: back_pair(s, from);
  }
}

// The gradient with respect to what went into the step's activation and its pooling.
Place* Returner::before_activation(const Sketch& s) {
  const Gradient& gradient = gradients_[s.out];
  Place* from = gradient.place;
  const Node& node = *s.node;
  Place* bits = s.tape;
  if (node.kind == Kind::conv && node.pool) {
    Layout whole = without_frame(s.out->layout);
    whole.size.height *= 2, whole.size.width *= 2, whole.rows *= 2, whole.columns *= 2;
    Place* out = place(whole);
    Sketch& sketch = step({from, bits}, out);
    sketch.make = [=](const Kernels* k) { return std::make_unique<UnpoolStep>(k, from, bits, out); };
    return out;
  }
  if (node.activation == Activation::none || gradient.masked) return from;
  Place* out = like(s.out);
  if (keeps_bits(node.activation)) {
    const float leak = leak_of(node);
    step({from, bits}, out).make = [=](const Kernels* k) {
      return std::make_unique<MaskStep>(k, from, bits, out, leak);
    };
  } else {
    Place* input = s.in[0];
    const Activation activation = node.activation;
    step({from, input}, out).make = [=](const Kernels* k) {
      return std::make_unique<SlopeStep>(k, from, input, out, activation);
    };
  }
  return out;
}

// The sketch whose bits may mask the gradient with respect to its result on the way out of its last contribution.
Sketch* Returner::mask_of(const Place* p, const Gradient& gradient) {
  const auto maker = makers_.find(p);
  if (gradient.missing > 0 || maker == makers_.end()) return nullptr;
  Sketch& s = draft_.sketches[maker->second];
  const bool bits = s.node && s.tape && keeps_bits(s.node->activation) && !s.node->pool;
  return bits ? &s : nullptr;
}

void Returner::back_convolution(const Sketch& s, Place* from) {
  if (s.residual) give(s.residual, from);
  Transposed way = transposed(*s.node);
  draft_.nodes.push_back(std::move(way.node));
  const Node* node = &draft_.nodes.back();
  draft_.ways.push_back({s.node, node});
  const int (&stride)[2] = s.node->stride;
  const bool whole = stride[0] * stride[1] == 1;
  if (!whole) {
    Layout phases = without_frame(s.in[0]->layout);
    phases.rows = ceil_div(phases.rows, stride[0]);
    phases.columns = ceil_div(phases.columns, stride[1]);
    phases.size = {node->weights->outputs, ceil_div(phases.size.height, stride[0]),
                   ceil_div(phases.size.width, stride[1])};
    Place* cut = place(phases);
    step({from}, cut).node = node;
    from = cut;
  }
  Gradient& gradient = gradients_[s.in[0]];
  --gradient.missing;
  Sketch& sketch = step({from}, like(s.in[0]));
  sketch.residual = gradient.place;
  gradient.place = sketch.out;
  if (const Sketch* maker = mask_of(s.in[0], gradient)) {
    gradient.masked = true;
    sketch.mask = maker->tape;
    sketch.leak = leak_of(*maker->node);
  }
  if (whole) {
    sketch.node = node;
  } else {
    const ConvPlaces places{from, sketch.out, sketch.residual, nullptr, sketch.mask, sketch.leak};
    sketch.make = [=](const Kernels* k) { return std::make_unique<InterleaveStep>(k, places, way.down, way.across); };
  }
}

void Returner::back_pool(const Sketch& s, Place* from) {
  Place *out = like(s.in[0]), *places = s.tape;
  const Node* node = s.node;
  Sketch& sketch = step(places ? std::vector<Place*>{from, places} : std::vector<Place*>{from}, out);
  sketch.spreads = node;
  sketch.make = [=](const Kernels* k) { return std::make_unique<PoolBackStep>(*node, k, from, places, out); };
  give(s.in[0], out);
}

// A sum or product of two maps, or of a map and a number for each channel.
void Returner::back_pair(const Sketch& s, Place* from) {
  const bool product = s.node->kind == Kind::multiply;
  for (int i = 0; i < 2; ++i) {
    Place *to = s.in[i], *other = product ? s.in[1 - i] : nullptr;
    if (is_single(to->layout) && !is_single(s.out->layout)) {
      Place* out = like(to);
      step(other ? std::vector<Place*>{from, other} : std::vector<Place*>{from}, out).make = [=](const Kernels* k) {
        return std::make_unique<SumStep>(k, from, other, out);
      };
      give(to, out);
    } else {
      give(to, other ? pointwise(of_kind(Kind::multiply), {from, other}, to) : from);
    }
  }
}

void Returner::back_move(const Sketch& s, Place* from) {
  Place* out = like(s.in[0]);
  Sketch& sketch = step({from}, out);
  if (s.how == MoveStep::How::broadcast) {
    sketch.make = [=](const Kernels* k) { return std::make_unique<LaneSumStep>(k, from, out); };
  } else {
    sketch.make = [=, how = s.how, first = s.first_channel](const Kernels* k) {
      return std::make_unique<MoveBackStep>(k, from, out, how, first);
    };
  }
  give(s.in[0], out);
}

}  // namespace

void draw_back(Draft& draft) { Returner(draft).draw(); }

}  // namespace harp
