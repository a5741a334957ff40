// The second half of planning: which steps run together for a group of images, and where in the arena values lie.
#include <algorithm>
#include <utility>

#include "planner.h"

namespace harp {

void Planner::segments() {
  for (std::size_t i = 0; i < sketches_.size(); ++i) {
    if (plan_.segments_.empty() || plan_.segments_.back().images != sketches_[i].images)
      plan_.segments_.push_back({i, i, sketches_[i].images});
    plan_.segments_.back().end = i + 1;
  }
  if (plan_.segments_.empty()) plan_.segments_.push_back({0, 0, values_[0]->layout.images});
}

// A value that outlives its segment is kept for all groups of the chunk, from the segment's begin to its reader's end.
void Planner::lifetimes() {
  const auto segment_of = [&](int step) {
    std::size_t s = 0;
    while (s + 1 < plan_.segments_.size() && plan_.segments_[s].end <= static_cast<std::size_t>(step)) ++s;
    return s;
  };
  const int end = static_cast<int>(sketches_.size());
  for (Place& p : plan_.places_) p.first = end, p.last = 0;
  for (int i = 0; i < end; ++i) {
    std::vector<Place*> touched = sketches_[i].in;
    touched.push_back(sketches_[i].out);
    if (sketches_[i].residual) touched.push_back(sketches_[i].residual);
    for (Place* p : touched) {
      p->first = std::min(p->first, i);
      p->last = std::max(p->last, i);
    }
  }
  values_.front()->first = 0;
  values_.back()->last = std::max(values_.back()->last, end - 1);
  for (Place& p : plan_.places_) {
    if (p.first > p.last) p.first = p.last;
    const std::size_t from = segment_of(p.first), to = segment_of(p.last);
    const bool last = &p == values_.back();  // is read when all is done
    if (from == to && p.layout.images == plan_.segments_[from].images && !last) continue;
    p.copies = plan_.images_ / p.layout.images;
    p.first = static_cast<int>(plan_.segments_[from].begin);
    p.last = static_cast<int>(plan_.segments_[to].end) - 1;
  }
}

// First fit: each value at the lowest place where nothing lies that is alive at the same time.
void Planner::lay_out_arena() {
  std::vector<Place*> placed;
  for (Place& p : plan_.places_) {
    const std::size_t size = static_cast<std::size_t>(p.layout.floats()) * p.copies;
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (const Place* other : placed)
      if (other->first <= p.last && p.first <= other->last)
        taken.emplace_back(other->offset, other->offset + static_cast<std::size_t>(other->layout.floats()) * other->copies);
    std::sort(taken.begin(), taken.end());
    std::size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + size <= begin) break;
      offset = std::max(offset, end);
    }
    p.offset = offset;
    plan_.arena_floats_ = std::max(plan_.arena_floats_, offset + size);
    placed.push_back(&p);
  }
}

}  // namespace harp
