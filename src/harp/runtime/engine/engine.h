// A network with its plans, threads and memory: what one session holds. Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tuple>
#include <vector>

#include "prepared.h"
#include "workers.h"

namespace harp {

class Engine {
 public:
  Engine(Network network, const Kernels* kernels, int threads);

  // `sizes` are those of every value for these images. With `tune`, a new plan is measured before it is used.
  void run(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune);
  // The same in memory of the caller's: so many floats at an address that is a multiple of 64, whatever is in them. All
  // threads share each chunk of images. Returns how many floats it takes, and does nothing when there are fewer.
  std::size_t run_within(float* memory, std::size_t floats, const Images& in, int count, const std::vector<Size>& sizes,
                         float* out);
  std::size_t floats_within(int count, const std::vector<Size>& sizes, bool tune);
  // The same as run, and what going back needs. No bit depends on the number of threads.
  Tape record(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune);
  // The gradient with respect to the images of a tape, given that with respect to its results. Throws when the weights
  // have changed since.
  void back(const Tape& tape, const float* upstream, float* gradient);

  // Takes over the weights of a network of the same structure, in the plans that are there, when no call is running;
  // false, and nothing changes, when the structure is another.
  bool update(Network network);

  std::vector<std::string> describe(int count, const std::vector<Size>& sizes, bool tune);
  std::size_t plans();  // that are kept
  const Kernels* kernels() const { return kernels_; }
  int threads() const { return workers_.threads(); }

 private:
  using Work = std::function<void(const Chunk& chunk, const Run& run)>;

  int chunk(int count) const;
  std::vector<Chunk> chunks(int count, int images, const std::vector<Size>& sizes, bool tune, bool taped);
  std::shared_ptr<Prepared> prepare(int images, const std::vector<Size>& sizes, bool tune, bool taped);
  void together(const std::vector<Chunk>& chunks, const Work& work);
  void apart(const std::vector<Chunk>& chunks, const Work& work);
  std::size_t floats_of(const std::vector<Chunk>& chunks) const;
  int default_positions() const;

  std::shared_ptr<const Network> network_;
  const Kernels* kernels_;
  Workers workers_;
  std::mutex plans_mutex_;
  std::map<std::tuple<int, int, int, bool>, std::shared_ptr<Prepared>> plans_;  // by height, width, images, taped
  std::int64_t calls_ = 0;
  std::shared_mutex weights_mutex_;  // shared by who computes with them
  std::int64_t updates_ = 0;
};

}  // namespace harp
