#include "engine.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "arithmetic.h"
#include "measuring.h"
#include "planning/planner.h"
#include "tuning.h"

namespace harp {
namespace {

Images from(const Images& in, const Size& size, int first) {
  const std::ptrdiff_t skip = static_cast<std::ptrdiff_t>(first) * size.channels * size.height * size.width;
  const auto* start = static_cast<const unsigned char*>(in.data);
  return {start + skip * (in.bytes ? 1 : sizeof(float)), in.bytes};
}

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
std::shared_ptr<Engine::Prepared> Engine::prepare(int images, const std::vector<Size>& sizes, bool tune) {
  std::lock_guard lock(plans_mutex_);
  const std::tuple key{sizes.front().height, sizes.front().width, images};
  auto found = plans_.find(key);
  if (found == plans_.end()) {
    const MakePlan make = [&](int positions) {
      return std::make_unique<Plan>(network_, kernels_, images,
                                    make_schedule(*network_, kernels_, sizes, images, positions));
    };
    auto fresh = std::make_shared<Prepared>();
    fresh->plan = tune ? fastest_plan(make, default_positions(), images, sizes) : make(default_positions());
    if (plans_.size() >= tuning::MOST_PLANS)
      plans_.erase(std::min_element(plans_.begin(), plans_.end(),
                                    [](const auto& a, const auto& b) { return a.second->used < b.second->used; }));
    found = plans_.emplace(key, std::move(fresh)).first;
  }
  found->second->used = ++calls_;
  return found->second;
}

Engine::Room Engine::take(Prepared& prepared, int threads) {
  Room room;
  {
    std::lock_guard lock(rooms_mutex_);
    if (!prepared.rooms.empty()) {
      room = std::move(prepared.rooms.back());
      prepared.rooms.pop_back();
    }
  }
  if (!room.arena) room.arena = std::make_unique<Arena>(prepared.plan->arena_floats());
  while (static_cast<int>(room.scratch.size()) < threads)
    room.scratch.push_back(std::make_unique<Arena>(prepared.plan->scratch_floats()));
  return room;
}

void Engine::give(Prepared& prepared, Room room) {
  std::lock_guard lock(rooms_mutex_);
  prepared.rooms.push_back(std::move(room));
}

// Few images: all threads share each layer.
void Engine::together(Prepared& prepared, const Images& in, int count, float* out) {
  Room room = take(prepared, threads());
  std::unique_ptr<Barrier> barrier;
  int team = 1;
  workers_.run(
      [&](int n) {
        team = n;
        barrier = std::make_unique<Barrier>(n);
      },
      [&](int index) {
        prepared.plan->run(in, count, out, room.arena->data(), room.scratch[index]->data(), index, team, *barrier);
      });
  give(prepared, std::move(room));
}

void Engine::run(const Images& in, int count, const std::vector<Size>& sizes, float* out, bool tune) {
  const int images = chunk(count), whole = count / images, rest = count % images;
  const std::size_t result = static_cast<std::size_t>(sizes.back().channels) * sizes.back().height * sizes.back().width;
  const std::shared_ptr<Prepared> main = prepare(images, sizes, tune);
  const std::shared_ptr<Prepared> tail = rest ? prepare(power_above(rest), sizes, tune) : main;
  if (count < threads()) {
    together(count < images ? *tail : *main, in, count, out);
    return;
  }
  // Every thread takes chunks, with memory of its own, taken before they start: nothing inside can fail.
  std::vector<Room> main_rooms, tail_rooms;
  for (int i = 0; i < std::min(threads(), whole); ++i) main_rooms.push_back(take(*main, 1));
  if (rest) tail_rooms.push_back(take(*tail, 1));
  std::atomic<int> next{0}, room{0};
  workers_.run([](int) {},
               [&](int) {
                 Barrier alone(1);
                 int mine = -1;
                 for (int i = next++; i < whole + (rest > 0); i = next++) {
                   const bool last = i == whole;
                   if (!last && mine < 0) mine = room++;
                   const Room& r = last ? tail_rooms[0] : main_rooms[mine];
                   (last ? tail : main)
                       ->plan->run(from(in, sizes[0], i * images), last ? rest : images, out + i * images * result,
                                   r.arena->data(), r.scratch[0]->data(), 0, 1, alone);
                 }
               });
  for (Room& r : main_rooms) give(*main, std::move(r));
  for (Room& r : tail_rooms) give(*tail, std::move(r));
}

std::vector<std::string> Engine::describe(int count, const std::vector<Size>& sizes, bool tune) {
  return prepare(chunk(count), sizes, tune)->plan->describe();
}

std::size_t Engine::plans() {
  std::lock_guard lock(plans_mutex_);
  return plans_.size();
}

}  // namespace harp
