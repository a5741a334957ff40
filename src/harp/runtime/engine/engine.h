// A network with its plans, threads and memory: what one session holds. Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "plan.h"
#include "workers.h"

namespace harp {

class Engine {
 public:
  Engine(Network network, const Kernels* kernels, int threads);

  // `sizes` are those of every value for these images. With `tune`, a new plan is measured before it is used.
  void run(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune);
  std::vector<std::string> describe(int count, const std::vector<Size>& sizes, bool tune);
  std::size_t plans();  // that are kept
  const Kernels* kernels() const { return kernels_; }
  int threads() const { return workers_.threads(); }

 private:
  struct Room {
    std::unique_ptr<Arena> arena;
    std::vector<std::unique_ptr<Arena>> scratch;
  };
  struct Prepared {
    std::unique_ptr<Plan> plan;
    std::vector<Room> rooms;  // not in use
    std::int64_t used = 0;    // when, in calls
  };

  int chunk(int count) const;
  std::shared_ptr<Prepared> prepare(int images, const std::vector<Size>& sizes, bool tune);
  Room take(Prepared& prepared, int threads);
  void give(Prepared& prepared, Room room);
  void together(Prepared& prepared, const Images& in, int count, float* out);
  int default_positions() const;

  std::shared_ptr<const Network> network_;
  const Kernels* kernels_;
  Workers workers_;
  std::mutex plans_mutex_, rooms_mutex_;
  std::map<std::tuple<int, int, int>, std::shared_ptr<Prepared>> plans_;  // by height, width, images
  std::int64_t calls_ = 0;
};

}  // namespace harp
