#include "engine.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <utility>

#include "arithmetic.h"
#include "measuring.h"
#include "planning/planner.h"
#include "tuning.h"

namespace harp {
namespace {

std::size_t numbers_of(const Size& size) { return static_cast<std::size_t>(size.channels) * size.height * size.width; }

Images from(const Images& in, const Size& size, int first) {
  const auto* start = static_cast<const unsigned char*>(in.data);
  return {start + first * numbers_of(size) * (in.bytes ? 1 : sizeof(float)), in.bytes};
}

// Floats that fill up lines of the cache.
std::size_t whole_lines(std::size_t floats) { return (floats + 15) / 16 * 16; }

float* tape_of(const Chunk& chunk) { return chunk.tape ? chunk.tape->data() : nullptr; }

}  // namespace

Engine::Engine(Network network, const Kernels* kernels, int threads)
    : network_(std::make_shared<const Network>(std::move(network))), kernels_(kernels), workers_(threads) {}

// Images that run side by side: as many as a vector has lanes, unless a thread would get none.
int Engine::chunk(int count) const {
  const int each = ceil_div(count, threads());
  return std::min(kernels_->lanes, power_above(count < threads() ? count : each));
}

int Engine::default_positions() const {
  double kept = 0.0, all = 1.0;
  for (const Node& n : network_->nodes) {
    if (!n.weights) continue;
    kept += static_cast<double>(n.weights->values.size());
    all += 1.0 * n.weights->outputs * n.weights->inputs * n.kernel[0] * n.kernel[1];
  }
  return kept / all > tuning::SPARSE_BELOW ? tuning::DENSE_POSITIONS : tuning::SPARSE_POSITIONS;
}

// The plan for this size. Who runs one holds it, so that it may be forgotten meanwhile.
std::shared_ptr<Prepared> Engine::prepare(int images, const std::vector<Size>& sizes, bool tune, bool taped) {
  std::lock_guard lock(plans_mutex_);
  const std::tuple key{sizes.front().height, sizes.front().width, images, taped};
  auto found = plans_.find(key);
  if (found == plans_.end()) {
    const MakePlan make = [&](int positions) {
      return std::make_unique<Plan>(network_, kernels_,
                                    make_schedule(*network_, kernels_, sizes, images, positions, taped));
    };
    auto fresh = std::make_shared<Prepared>(tune ? fastest_plan(make, default_positions(), images, sizes)
                                                 : make(default_positions()));
    if (plans_.size() >= tuning::MOST_PLANS)
      plans_.erase(std::min_element(plans_.begin(), plans_.end(),
                                    [](const auto& a, const auto& b) { return a.second->used < b.second->used; }));
    found = plans_.emplace(key, std::move(fresh)).first;
  }
  found->second->used = ++calls_;
  return found->second;
}

// As many images each as the plan takes, and what is left over by a smaller plan.
std::vector<Chunk> Engine::chunks(int count, int images, const std::vector<Size>& sizes, bool tune, bool taped) {
  std::vector<Chunk> all;
  for (int first = 0; first < count; first += images) {
    const int here = std::min(images, count - first);
    auto prepared =
        !all.empty() && here == images ? all.front().prepared : prepare(power_above(here), sizes, tune, taped);
    all.push_back({prepared, first, here, taped ? prepared->take_tape() : nullptr});
  }
  return all;
}

// Calls work(index, how many there are, their barrier) on every thread.
template <class Work>
void as_team(Workers& workers, const Work& work) {
  std::unique_ptr<Barrier> barrier;
  int team = 1;
  workers.run(
      [&](int n) {
        team = n;
        barrier = std::make_unique<Barrier>(n);
      },
      [&](int index) { work(index, team, barrier.get()); });
}

// Few chunks: all threads share each layer.
void Engine::together(const std::vector<Chunk>& chunks, const Work& work) {
  for (const Chunk& chunk : chunks) {
    Room room = chunk.prepared->take_room(threads());
    as_team(workers_, [&](int index, int team, Barrier* barrier) {
      work(chunk, {{room.arena->data(), tape_of(chunk)}, room.scratch[index]->data(), index, team, barrier});
    });
    chunk.prepared->give_room(std::move(room));
  }
}

// Every thread takes chunks, with memory of its own, taken before they start: nothing inside can fail.
void Engine::apart(const std::vector<Chunk>& chunks, const Work& work) {
  const std::shared_ptr<Prepared> main = chunks.front().prepared, tail = chunks.back().prepared;
  const int whole = static_cast<int>(chunks.size()) - (tail == main ? 0 : 1);
  std::vector<Room> rooms;
  for (int i = 0; i < std::min(threads(), whole); ++i) rooms.push_back(main->take_room(1));
  if (tail != main) rooms.push_back(tail->take_room(1));
  std::atomic<int> next{0}, free_room{0};
  workers_.run([](int) {},
               [&](int) {
                 Barrier alone(1);
                 int mine = -1;
                 for (int i = next++; i < static_cast<int>(chunks.size()); i = next++) {
                   if (i < whole && mine < 0) mine = free_room++;
                   const Room& r = i < whole ? rooms[mine] : rooms.back();
                   work(chunks[i], {{r.arena->data(), tape_of(chunks[i])}, r.scratch[0]->data(), 0, 1, &alone});
                 }
               });
  if (tail != main) {
    tail->give_room(std::move(rooms.back()));
    rooms.pop_back();
  }
  for (Room& r : rooms) main->give_room(std::move(r));
}

void Engine::run(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune) {
  std::shared_lock weights(weights_mutex_);
  const std::vector<Chunk> all = chunks(count, chunk(count), sizes, tune, false);
  const Work work = [&](const Chunk& c, const Run& run) {
    c.prepared->plan().run(from(in, sizes.front(), c.first), c.count, out + c.first * numbers_of(sizes.back()), run);
  };
  if (count < threads()) {
    together(all, work);
  } else {
    apart(all, work);
  }
}

// That they take one after the other: an arena, and scratch for each thread.
std::size_t Engine::floats_of(const std::vector<Chunk>& chunks) const {
  std::size_t most = 0;
  for (const Chunk& c : chunks) {
    const Plan& plan = c.prepared->plan();
    most = std::max(most, whole_lines(plan.arena_floats()) + threads() * whole_lines(plan.scratch_floats()));
  }
  return most;
}

std::size_t Engine::floats_within(int count, const std::vector<Size>& sizes, bool tune) {
  std::shared_lock weights(weights_mutex_);
  return floats_of(chunks(count, chunk(count), sizes, tune, false));
}

std::size_t Engine::run_within(float* memory, std::size_t floats, const Images& in, int count,
                               const std::vector<Size>& sizes, float* out) {
  std::shared_lock weights(weights_mutex_);
  const std::vector<Chunk> all = chunks(count, chunk(count), sizes, false, false);
  const std::size_t wanted = floats_of(all);
  if (floats < wanted) return wanted;
  for (const Chunk& c : all) {
    const Plan& plan = c.prepared->plan();
    float* scratch = memory + whole_lines(plan.arena_floats());
    as_team(workers_, [&](int index, int team, Barrier* barrier) {
      plan.run(from(in, sizes.front(), c.first), c.count, out + c.first * numbers_of(sizes.back()),
               {{memory, nullptr}, scratch + index * whole_lines(plan.scratch_floats()), index, team, barrier});
    });
  }
  return wanted;
}

Tape Engine::record(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune) {
  std::shared_lock weights(weights_mutex_);
  Tape tape;
  tape.count = count;
  tape.updates = updates_;
  tape.image = sizes.front();
  tape.result = sizes.back();
  tape.chunks = chunks(count, std::min(kernels_->lanes, power_above(count)), sizes, tune, true);
  const Work work = [&](const Chunk& c, const Run& run) {
    c.prepared->plan().run(from(in, tape.image, c.first), c.count, out + c.first * numbers_of(tape.result), run);
  };
  if (static_cast<int>(tape.chunks.size()) < threads()) {
    together(tape.chunks, work);
  } else {
    apart(tape.chunks, work);
  }
  return tape;
}

void Engine::back(const Tape& tape, const float* upstream, float* gradient) {
  std::shared_lock weights(weights_mutex_);
  if (tape.updates != updates_)
    throw std::runtime_error("the weights have changed since these images were recorded: record them again");
  const Work work = [&](const Chunk& c, const Run& run) {
    c.prepared->plan().back(upstream + c.first * numbers_of(tape.result), c.count,
                            gradient + c.first * numbers_of(tape.image), run);
  };
  if (static_cast<int>(tape.chunks.size()) < threads()) {
    together(tape.chunks, work);
  } else {
    apart(tape.chunks, work);
  }
}

bool Engine::update(Network network) {
  if (!same_structure(*network_, network)) return false;
  std::unique_lock weights(weights_mutex_);
  std::lock_guard plans(plans_mutex_);
  const bool values_only = same_weights(*network_, network);
  for (std::size_t i = 0; i < network.nodes.size(); ++i) {
    const Node &now = network_->nodes[i], &fresh = network.nodes[i];
    if (now.weights) *now.weights = std::move(*fresh.weights);
    if (now.scales) *now.scales = std::move(*fresh.scales);
    if (now.details) *now.details = std::move(*fresh.details);
  }
  for (auto& [key, prepared] : plans_) {
    if (values_only) {
      prepared->plan().refresh_values();
    } else {
      prepared->plan().refresh_weights();
    }
  }
  ++updates_;
  return true;
}

std::vector<std::string> Engine::describe(int count, const std::vector<Size>& sizes, bool tune) {
  std::shared_lock weights(weights_mutex_);
  return prepare(chunk(count), sizes, tune, false)->plan().describe();
}

std::size_t Engine::plans() {
  std::lock_guard lock(plans_mutex_);
  return plans_.size();
}

}  // namespace harp
