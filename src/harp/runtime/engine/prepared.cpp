#include "prepared.h"

namespace harp {

Room Prepared::take_room(int threads) {
  Room room;
  {
    std::lock_guard lock(mutex_);
    if (!rooms_.empty()) {
      room = std::move(rooms_.back());
      rooms_.pop_back();
    }
  }
  if (!room.arena) room.arena = std::make_unique<Arena>(plan_->arena_floats());
  while (static_cast<int>(room.scratch.size()) < threads)
    room.scratch.push_back(std::make_unique<Arena>(plan_->scratch_floats()));
  return room;
}

void Prepared::give_room(Room room) {
  std::lock_guard lock(mutex_);
  rooms_.push_back(std::move(room));
}

std::unique_ptr<Arena> Prepared::take_tape() {
  {
    std::lock_guard lock(mutex_);
    if (!tapes_.empty()) {
      auto tape = std::move(tapes_.back());
      tapes_.pop_back();
      return tape;
    }
  }
  return std::make_unique<Arena>(plan_->tape_floats());
}

void Prepared::give_tape(std::unique_ptr<Arena> tape) {
  std::lock_guard lock(mutex_);
  tapes_.push_back(std::move(tape));
}

Tape::~Tape() {
  for (Chunk& chunk : chunks)
    if (chunk.tape) chunk.prepared->give_tape(std::move(chunk.tape));
}

}  // namespace harp
