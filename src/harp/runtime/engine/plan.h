// How a network runs for one image size and one number of images at a time: layouts, steps, and where things lie.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "network.h"
#include "steps.h"
#include "workers.h"

namespace harp {

// Images as they come: float32 (n, c, h, w), or bytes (n, h, w, c) that stand for 255ths.
struct Images {
  const void* data = nullptr;
  bool bytes = false;
};

double thread_seconds();

class Arena {
 public:
  explicit Arena(std::size_t floats);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();
  float* data() const { return data_; }

 private:
  float* data_;
};

class Plan {
 public:
  // `sizes` are those of every value; `images` is a power of two, at most the lanes of a vector. `positions` is how
  // many positions a part of a map should have: fewer mean fewer images side by side in a vector, and less memory.
  Plan(std::shared_ptr<const Network> network, const Kernels* kernels, std::vector<Size> sizes, int images,
       int positions);

  int images() const { return images_; }
  Size input() const { return sizes_.front(); }
  Size output() const { return sizes_.back(); }
  std::size_t arena_floats() const { return arena_floats_; }
  std::size_t scratch_floats() const { return scratch_floats_; }
  std::vector<std::string> describe() const;

  // Computes `count` images, at most images(). Thread `index` of those that share the barrier does its part.
  void run(const Images& in, int count, float* out, float* arena, float* scratch, int index, int team,
           Barrier& barrier) const;
  // Tries the variants of every convolution and keeps the fastest; begins no new one when the seconds are over.
  void tune(float* arena, float* scratch, double seconds);

 private:
  friend class Planner;
  struct Segment {  // steps that run after each other for one group of images before the next group comes
    std::size_t begin, end;
    int images;
  };

  void read(const Images& in, int first, int count, float* arena, int group, int begin, int end) const;
  void write(float* out, int first, int count, float* arena, int group, int begin, int end) const;

  std::shared_ptr<const Network> network_;
  const Kernels* kernels_;
  std::vector<Size> sizes_;
  int images_;
  std::deque<Place> places_;  // deques: steps point into them
  std::deque<Node> halves_;   // of a convolution and its pooling, where they run one after the other
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<ConvStep*> convs_;
  std::vector<Segment> segments_;
  const Place *first_ = nullptr, *last_ = nullptr;
  std::vector<std::int32_t> in_from_, out_from_;
  std::size_t arena_floats_ = 0, scratch_floats_ = 0;
};

}  // namespace harp
