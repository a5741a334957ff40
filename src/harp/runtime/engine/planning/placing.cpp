// Which steps run together for a group of images, and where in the arena values lie.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "sketch.h"

namespace harp {
namespace {

std::size_t segment_of(const std::vector<Segment>& segments, int step) {
  std::size_t s = 0;
  while (s + 1 < segments.size() && segments[s].end <= static_cast<std::size_t>(step)) ++s;
  return s;
}

// From the first step to the last that reads or writes it.
void mark_uses(Draft& draft) {
  const int end = static_cast<int>(draft.sketches.size()), forward = static_cast<int>(draft.forward);
  for (Place& p : draft.places) p.first = end, p.last = 0;
  for (int i = 0; i < end; ++i) {
    const Sketch& s = draft.sketches[i];
    std::vector<Place*> touched = s.in;
    for (Place* p : {s.out, s.residual, s.tape, s.mask})
      if (p) touched.push_back(p);
    for (Place* p : touched) {
      p->first = std::min(p->first, i);
      p->last = std::max(p->last, i);
    }
  }
  draft.values.front()->first = 0;
  draft.values.back()->last = std::max(draft.values.back()->last, forward - 1);
  if (draft.upstream) draft.upstream->first = std::min(forward, end - 1);
  if (draft.gradient) draft.gradient->last = end - 1;
  for (Place& p : draft.places) {
    p.first = std::min(p.first, p.last);
    p.kept = draft.upstream && p.first < forward && p.last >= forward;
  }
}

}  // namespace

std::vector<Segment> choose_segments(const Draft& draft) {
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < draft.sketches.size(); ++i) {
    if (segments.empty() || i == draft.forward || segments.back().images != draft.sketches[i].images)
      segments.push_back({i, i, draft.sketches[i].images});
    segments.back().end = i + 1;
  }
  if (segments.empty()) segments.push_back({0, 0, draft.values[0]->layout.images});
  return segments;
}

// A value that outlives its segment is kept for all groups of the chunk, from the segment's begin to its reader's end.
void choose_lifetimes(const Task& task, Draft& draft, const std::vector<Segment>& segments) {
  mark_uses(draft);
  for (Place& p : draft.places) {
    const std::size_t from = segment_of(segments, p.first), to = segment_of(segments, p.last);
    // Written or read for all groups at once, before or after all steps.
    const bool outside = &p == draft.values.back() || &p == draft.upstream || &p == draft.gradient;
    if (from == to && p.layout.images == segments[from].images && !outside) continue;
    p.copies = task.images / p.layout.images;
    p.first = static_cast<int>(segments[from].begin);
    p.last = static_cast<int>(segments[to].end) - 1;
  }
}

// First fit: each value at the lowest place where nothing lies that is alive at the same time.
std::size_t lay_out_arena(std::deque<Place>& places) {
  std::vector<const Place*> placed;
  std::size_t floats = 0;
  for (Place& p : places) {
    if (p.kept) continue;
    const std::size_t size = p.floats();
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (const Place* other : placed)
      if (other->first <= p.last && p.first <= other->last)
        taken.emplace_back(other->offset, other->offset + other->floats());
    std::sort(taken.begin(), taken.end());
    std::size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + size <= begin) break;
      offset = std::max(offset, end);
    }
    p.offset = offset;
    floats = std::max(floats, offset + size);
    placed.push_back(&p);
  }
  return floats;
}

// All that is kept is kept until the end.
std::size_t lay_out_tape(std::deque<Place>& places) {
  std::size_t floats = 0;
  for (Place& p : places) {
    if (!p.kept) continue;
    p.offset = floats;
    floats += p.floats();
  }
  return floats;
}

}  // namespace harp
