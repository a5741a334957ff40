// How a network runs for one image size and one number of images at a time: layouts, steps, and where things lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "network.h"
#include "steps/conv.h"
#include "steps/steps.h"
#include "workers.h"

namespace harp {

// Images as they come: float32 (n, c, h, w), or bytes (n, h, w, c) that stand for 255ths.
struct Images {
  const void* data = nullptr;
  bool bytes = false;
};

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

// Steps that run after each other for one group of images before the next group comes.
struct Segment {
  std::size_t begin, end;
  int images;
};

// What planning decides, see planning/planner.h.
struct Schedule {
  std::deque<Place> places;  // deques: steps point into them
  std::deque<Node> nodes;    // beside those of the network
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<ConvStep*> convs;  // among the steps
  std::vector<Segment> segments;
  const Place *first = nullptr, *last = nullptr;  // of the image and of the result
  std::size_t arena_floats = 0, scratch_floats = 0;
};

class Plan {
 public:
  Plan(std::shared_ptr<const Network> network, const Kernels* kernels, int images, Schedule schedule);

  std::size_t arena_floats() const { return schedule_.arena_floats; }
  std::size_t scratch_floats() const { return schedule_.scratch_floats; }
  std::vector<std::string> describe() const;

  // Computes `count` images, at most those planned for. Thread `index` of those that share the barrier does its part.
  void run(const Images& in, int count, float* out, float* arena, float* scratch, int index, int team,
           Barrier& barrier) const;
  const std::vector<ConvStep*>& convs() const { return schedule_.convs; }  // for who chooses their variants

 private:
  void read(const Images& in, int first, int count, float* arena, int group, int begin, int end) const;
  void write(float* out, int first, int count, float* arena, int group, int begin, int end) const;

  std::shared_ptr<const Network> network_;  // steps point into it
  const Kernels* kernels_;
  int images_;
  Schedule schedule_;
  std::vector<std::int32_t> in_from_, out_from_;
};

}  // namespace harp
