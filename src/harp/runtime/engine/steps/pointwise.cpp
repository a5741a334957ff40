#include <cstring>
#include <utility>

#include "steps.h"

namespace harp {

PointwiseStep::PointwiseStep(const Node& node, const Kernels* kernels, std::vector<const Place*> from, const Place* out,
                             const Place* bits)
    : Step(kernels, std::move(from), out), node_(node), bits_(bits) {}

void PointwiseStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y) {
      const float* x = in[0]->at(memory, group) + channel * from.channel() + from.at(y, 0);
      float* result = out->at(memory, group) + channel * to.channel() + to.at(y, 0);
      if (node_.kind == Kind::affine) {
        kernels->scale(result, x, to.columns, node_.scales->scale[channel],
                       node_.shifts ? node_.scales->shift[channel] : 0.0f);
      } else if (node_.kind == Kind::activation) {
        if (result != x) std::memcpy(result, x, sizeof(float) * to.columns * to.lanes);
      } else {
        const Layout& other = in[1]->layout;
        const bool broadcast = other.size.height * other.size.width == 1 && to.size.height * to.size.width > 1;
        const float* b = in[1]->at(memory, group) + channel * other.channel() + other.at(broadcast ? 0 : y, 0);
        kernels->combine(result, x, b, to.columns, node_.kind == Kind::multiply, broadcast);
      }
      if (bits_)
        kernels->back.signs(bits_->bits(memory, group) + channel * bits_->bits_channel() + y * bits_->bits_row(),
                            result, to.columns, node_.activation);
      if (node_.activation != Activation::none) kernels->activate(result, to.columns, node_.activation, node_.slope);
    }
  fill_frame(out->at(memory, group), begin, end);
}

SoftmaxStep::SoftmaxStep(const Kernels* kernels, const Place* from, const Place* out) : Step(kernels, {from}, out) {}

void SoftmaxStep::run(const Memory& memory, int group, int, int, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  for (int y = 0; y < to.rows; ++y)
    for (int x = 0; x < to.columns; ++x)
      kernels->softmax(out->at(memory, group) + to.at(y, x), to.channel(), in[0]->at(memory, group) + from.at(y, x),
                       from.channel(), to.size.channels);
  fill_frame(out->at(memory, group), 0, to.size.channels);
}

}  // namespace harp
