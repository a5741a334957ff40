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
#include "transfer.h"
#include "workers.h"

namespace harp {

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

// A convolution, and the one that goes back through it.
struct Way {
  const Node *forward, *back;
};

// What planning decides, see planning/planner.h.
struct Schedule {
  std::deque<Place> places;  // deques: steps point into them
  std::deque<Node> nodes;    // beside those of the network
  std::vector<Way> ways;
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<ConvStep*> convs;  // among the steps
  std::vector<Segment> segments;
  std::size_t forward_segments = 0;                        // the rest goes back
  const Place *first = nullptr, *last = nullptr;           // of the image and of the result
  const Place *upstream = nullptr, *gradient = nullptr;    // with respect to the result and to the image
  std::size_t arena_floats = 0, tape_floats = 0, scratch_floats = 0;
};

// Who runs a plan, and where: thread `index` of those that share the barrier.
struct Run {
  Memory memory;
  float* scratch;
  int index, team;
  Barrier* barrier;
};

class Plan {
 public:
  Plan(std::shared_ptr<const Network> network, const Kernels* kernels, Schedule schedule);

  std::size_t arena_floats() const { return schedule_.arena_floats + MOST_LANES; }  // loads may reach beyond a value
  std::size_t tape_floats() const { return schedule_.tape_floats + MOST_LANES; }
  std::size_t scratch_floats() const { return schedule_.scratch_floats; }
  std::vector<std::string> describe() const;
  // Takes over new weights of the network, in the layouts and variants that are there; or only new values of the same.
  void refresh_weights();
  void refresh_values();
  bool goes_back() const { return schedule_.upstream != nullptr; }
  const std::vector<ConvStep*>& convs() const { return schedule_.convs; }  // for who chooses their variants

  // Computes `count` images, at most those planned for.
  void run(const Images& in, int count, float* out, const Run& run) const;
  // Afterwards, on the same tape: from the gradient with respect to the results to that with respect to the images.
  void back(const float* upstream, int count, float* gradient, const Run& run) const;

 private:
  void run_segment(const Segment& segment, int group, const Run& run) const;
  void read_group(const Transfer& transfer, const Images& in, int count, int group, const Run& run) const;
  void write_all(const Transfer& transfer, float* out, int count, const Run& run) const;

  std::shared_ptr<const Network> network_;  // steps point into it
  const Kernels* kernels_;
  Schedule schedule_;
  Transfer image_, result_, upstream_, gradient_;
};

}  // namespace harp
