#include "backward.h"

namespace harp {

void MaskStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &to = out->layout;
  const float* source = in[0]->at(memory, group);
  const std::uint16_t* bits = bits_->bits(memory, group);
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y)
      kernels->back.mask(map + channel * to.channel() + to.at(y, 0), source + channel * from.channel() + from.at(y, 0),
                         bits + channel * bits_->bits_channel() + y * bits_->bits_row(), to.columns, leak_);
  fill_frame(map, begin, end);
}

void SlopeStep::run(const Memory& memory, int group, int begin, int end, float*) const {
  const Layout &from = in[0]->layout, &input = in[1]->layout, &to = out->layout;
  float* map = out->at(memory, group);
  for (int channel = begin; channel < end; ++channel)
    for (int y = 0; y < to.rows; ++y)
      kernels->back.slopes(map + channel * to.channel() + to.at(y, 0),
                           in[0]->at(memory, group) + channel * from.channel() + from.at(y, 0),
                           in[1]->at(memory, group) + channel * input.channel() + input.at(y, 0), to.columns,
                           activation_);
  fill_frame(map, begin, end);
}

void SoftmaxBackStep::run(const Memory& memory, int group, int, int, float*) const {
  const Layout &from = in[0]->layout, &result = in[1]->layout, &to = out->layout;
  float* map = out->at(memory, group);
  for (int y = 0; y < to.rows; ++y)
    for (int x = 0; x < to.columns; ++x)
      kernels->back.softmax(map + to.at(y, x), to.channel(), in[0]->at(memory, group) + from.at(y, x), from.channel(),
                            in[1]->at(memory, group) + result.at(y, x), result.channel(), to.size.channels);
  fill_frame(map, 0, to.size.channels);
}

}  // namespace harp
