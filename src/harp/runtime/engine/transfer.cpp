#include "transfer.h"

#include <cstddef>

namespace harp {

Transfer::Transfer(const Place* place) : place_(place) {
  const Layout& l = place->layout;
  for (int y = -l.top; y < l.rows + l.bottom; ++y)
    for (int x = -l.left; x < l.columns + l.right; ++x)
      for (int part = 0; part < l.parts(); ++part) {
        const int py = part / l.across * l.rows + y, px = part % l.across * l.columns + x;
        const bool inside = py >= 0 && py < l.size.height && px >= 0 && px < l.size.width;
        from_.push_back(inside ? py * l.size.width + px : -1);
      }
  for (int y = 0; y < l.size.height; ++y)
    for (int x = 0; x < l.size.width; ++x) to_.push_back(static_cast<std::int32_t>(l.pixel(0, y, x)));
}

void Transfer::read(const Kernels* kernels, const Images& in, int first, int count, const Memory& memory, int group,
                    int begin, int end) const {
  const Layout& l = place_->layout;
  const int pixels = l.size.height * l.size.width;
  GatherTask task{};
  task.dst_channel = l.channel();
  task.dst_step = l.lanes;
  task.src_channel = pixels;
  task.from = from_.data();
  task.count = static_cast<int>(from_.size()) / l.parts();
  task.lanes = l.parts();
  for (int image = 0; image < count; ++image) {
    task.dst = place_->at(memory, group) + static_cast<std::ptrdiff_t>(image) * l.parts();
    const std::ptrdiff_t start = static_cast<std::ptrdiff_t>(first + image) * l.size.channels * pixels;
    for (int channel = begin; channel < end; ++channel) {
      if (in.bytes) {
        read_bytes(static_cast<const unsigned char*>(in.data) + start + channel, task.dst + channel * task.dst_channel);
      } else {
        kernels->gather(task, static_cast<const float*>(in.data) + start, channel);
      }
    }
  }
}

// One channel of one image, whose pixels lie as many bytes apart as there are channels.
void Transfer::read_bytes(const unsigned char* pixels, float* dst) const {
  const Layout& l = place_->layout;
  const std::int32_t* from = from_.data();
  for (std::size_t i = 0; i < from_.size(); i += l.parts(), from += l.parts(), dst += l.lanes)
    for (int lane = 0; lane < l.parts(); ++lane)
      dst[lane] = from[lane] < 0
                      ? 0.0f
                      : static_cast<float>(pixels[static_cast<std::ptrdiff_t>(from[lane]) * l.size.channels]) / 255.0f;
}

void Transfer::write(float* out, int first, int count, const Memory& memory, int group, int begin, int end) const {
  const Layout& l = place_->layout;
  const float* map = place_->at(memory, group);
  for (int image = 0; image < count; ++image)
    for (int channel = begin; channel < end; ++channel) {
      const float* from = map + channel * l.channel() + static_cast<std::ptrdiff_t>(image) * l.parts();
      float* to = out + (static_cast<std::ptrdiff_t>(first + image) * l.size.channels + channel) * to_.size();
      for (std::size_t i = 0; i < to_.size(); ++i) to[i] = from[to_[i]];
    }
}

}  // namespace harp
