// A plan with the memory that earlier runs of it left behind. Safe to use from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "plan.h"

namespace harp {

// What one run works in: an arena, and scratch for each of its threads.
struct Room {
  std::unique_ptr<Arena> arena;
  std::vector<std::unique_ptr<Arena>> scratch;
};

class Prepared {
 public:
  explicit Prepared(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
  const Plan& plan() const { return *plan_; }
  Plan& plan() { return *plan_; }

  Room take_room(int threads);
  void give_room(Room room);
  std::unique_ptr<Arena> take_tape();
  void give_tape(std::unique_ptr<Arena> tape);

  std::int64_t used = 0;  // when, in calls; for who keeps several

 private:
  std::unique_ptr<Plan> plan_;
  std::mutex mutex_;
  std::vector<Room> rooms_;
  std::vector<std::unique_ptr<Arena>> tapes_;
};

// Some images of a call, that run together.
struct Chunk {
  std::shared_ptr<Prepared> prepared;
  int first, count;
  std::unique_ptr<Arena> tape;  // null where nothing is kept
};

// What a call forward kept for going back, any number of times. Belongs to the engine that made it.
class Tape {
 public:
  Tape() = default;
  Tape(Tape&&) = default;
  Tape& operator=(Tape&&) = default;
  ~Tape();

  std::vector<Chunk> chunks;
  int count = 0;
  std::int64_t updates = 0;  // of the engine's weights until then
  Size image{}, result{};
};

}  // namespace harp
