#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>

namespace harp {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr double TUNING_S = 0.25;  // of one plan
constexpr int DENSE_POSITIONS = 16, SPARSE_POSITIONS = 4;

int power_above(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

const Images from(const Images& in, const Size& size, int first) {
  const std::ptrdiff_t skip = static_cast<std::ptrdiff_t>(first) * size.channels * size.height * size.width;
  const auto* start = static_cast<const unsigned char*>(in.data);
  return {start + skip * (in.bytes ? 1 : sizeof(float)), in.bytes};
}

}  // namespace

const Kernels* find_kernels(const std::string& isa) {
  std::vector<const Kernels*> known;
#if defined(HARP_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq"))
    known.push_back(avx512_kernels());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) known.push_back(avx2_kernels());
#endif
  known.push_back(baseline_kernels());
  std::string names;
  for (const Kernels* k : known) {
    if (isa.empty() || isa == k->isa) return k;
    names += std::string(names.empty() ? "" : ", ") + k->isa;
  }
  throw std::invalid_argument("isa='" + isa + "': this processor runs " + names);
}

double peak_gflops(const Kernels* kernels, int threads) {
  Workers workers(threads);
  double best = 0.0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::atomic<int> team{1};
    std::vector<double> done(threads, 0.0);
    const auto start = Clock::now();
    workers.run([&](int n) { team = n; }, [&](int index) { done[index] = kernels->peak(2'000'000); });
    double all = 0.0;
    for (double d : done) all += d;
    best = std::max(best, all / since(start) / 1e9);
  }
  return best;
}

Engine::Engine(Network network, const Kernels* kernels, int threads)
    : network_(std::make_shared<const Network>(std::move(network))), kernels_(kernels), workers_(threads) {}

// Images that run side by side: as many as a vector has lanes, unless a thread would get none.
int Engine::chunk(int count) const {
  const int each = (count + threads() - 1) / threads();
  return std::min(kernels_->lanes, power_above(count < threads() ? count : each));
}

int Engine::default_positions() const {
  double kept = 0.0, all = 1.0;
  for (const Node& n : network_->nodes) {
    if (!n.weights) continue;
    kept += static_cast<double>(n.weights->values.size());
    all += 1.0 * n.weights->outputs * n.weights->inputs * n.kernel[0] * n.kernel[1];
  }
  return kept / all > 0.03 ? DENSE_POSITIONS : SPARSE_POSITIONS;
}

Engine::Prepared& Engine::prepare(int images, const std::vector<Size>& sizes, bool tune) {
  std::lock_guard lock(plans_mutex_);
  Prepared& prepared = plans_[{sizes.front().height, sizes.front().width, images}];
  if (!prepared.plan) {
    prepared.plan = tune ? fastest(images, sizes)
                         : std::make_unique<Plan>(network_, kernels_, sizes, images, default_positions());
  }
  return prepared;
}

std::unique_ptr<Plan> Engine::fastest(int images, const std::vector<Size>& sizes) {
  std::vector<int> choices{default_positions()};
  if (images > 1)
    for (int positions : {1, 4, 16, 64})
      if (positions != choices.front()) choices.push_back(positions);
  const std::vector<float> in(static_cast<std::size_t>(images) * sizes[0].channels * sizes[0].height * sizes[0].width);
  std::vector<float> out(static_cast<std::size_t>(images) * sizes.back().channels * sizes.back().height * sizes.back().width);
  std::unique_ptr<Plan> best;
  double least = std::numeric_limits<double>::max();
  Barrier alone(1);
  for (int positions : choices) {
    auto plan = std::make_unique<Plan>(network_, kernels_, sizes, images, positions);
    Arena arena(plan->arena_floats()), scratch(plan->scratch_floats());
    plan->tune(arena.data(), scratch.data(), TUNING_S);
    double time = std::numeric_limits<double>::max();
    for (int repeat = 0; repeat < 3; ++repeat) {
      const double start = thread_seconds();
      plan->run({in.data(), false}, images, out.data(), arena.data(), scratch.data(), 0, 1, alone);
      time = std::min(time, thread_seconds() - start);
    }
    if (time < 0.98 * least) {
      least = time;
      best = std::move(plan);
    }
  }
  return best;
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
  Prepared& main = prepare(images, sizes, tune);
  Prepared& tail = rest ? prepare(power_above(rest), sizes, tune) : main;
  if (count < threads()) {
    together(count < images ? tail : main, in, count, out);
    return;
  }
  // Every thread takes chunks, with memory of its own, taken before they start: nothing inside can fail.
  std::vector<Room> main_rooms, tail_rooms;
  for (int i = 0; i < std::min(threads(), whole); ++i) main_rooms.push_back(take(main, 1));
  if (rest) tail_rooms.push_back(take(tail, 1));
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
                       .plan->run(from(in, sizes[0], i * images), last ? rest : images, out + i * images * result,
                                  r.arena->data(), r.scratch[0]->data(), 0, 1, alone);
                 }
               });
  for (Room& r : main_rooms) give(main, std::move(r));
  for (Room& r : tail_rooms) give(tail, std::move(r));
}

std::vector<std::string> Engine::describe(int count, const std::vector<Size>& sizes, bool tune) {
  return prepare(chunk(count), sizes, tune).plan->describe();
}

std::vector<double> Engine::profile(int count, const std::vector<Size>& sizes, bool tune) {
  Prepared& prepared = prepare(chunk(count), sizes, tune);
  Room room = take(prepared, 1);
  std::vector<double> seconds = prepared.plan->profile(room.arena->data(), room.scratch[0]->data());
  give(prepared, std::move(room));
  return seconds;
}

std::size_t Engine::arena_bytes() {
  std::lock_guard lock(plans_mutex_);
  std::size_t most = 0;
  for (const auto& [key, prepared] : plans_)
    if (prepared.plan) most = std::max(most, prepared.plan->arena_floats() * sizeof(float));
  return most;
}

}  // namespace harp
