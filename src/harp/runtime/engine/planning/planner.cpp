// The order of planning, and its last part: from sketches to steps.
#include "planner.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "../steps/tensors.h"
#include "sketch.h"

namespace harp {
namespace {

ConvPlaces conv_places(const Sketch& s) { return {s.in[0], s.out, s.residual, s.tape, s.mask, s.leak}; }

std::unique_ptr<Step> make_step(const Kernels* kernels, const Sketch& s) {
  if (s.make) return s.make(kernels);
  const std::vector<const Place*> in(s.in.begin(), s.in.end());
  if (!s.node) return std::make_unique<MoveStep>(kernels, in[0], s.out, s.how, s.first_channel);
  switch (s.node->kind) {
    case Kind::conv: return std::make_unique<ConvStep>(*s.node, kernels, conv_places(s), s.wrapped);
    case Kind::max_pool:
    case Kind::avg_pool: return std::make_unique<PoolStep>(*s.node, kernels, in[0], s.out, s.tape);
    case Kind::adaptive_pool: return std::make_unique<AdaptiveStep>(kernels, in[0], s.out);
    case Kind::softmax: return std::make_unique<SoftmaxStep>(kernels, in[0], s.out);
    case Kind::channels: return std::make_unique<MoveStep>(kernels, in[0], s.out, s.how, 0, &s.node->details->numbers);
    case Kind::normalise: return std::make_unique<NormaliseStep>(*s.node, kernels, in[0], s.out);
    case Kind::pack: return std::make_unique<PackStep>(*s.node, kernels, in[0], s.out);
    case Kind::unpack: return std::make_unique<UnpackStep>(*s.node, kernels, in[0], s.out);
    case Kind::copy: return std::make_unique<CopyStep>(*s.node, kernels, in, s.out);
    case Kind::pairwise: return std::make_unique<PairwiseStep>(*s.node, kernels, in, s.out);
    case Kind::elementwise: return std::make_unique<ElementwiseStep>(*s.node, kernels, in[0], s.out);
    case Kind::rows_softmax:
    case Kind::rows_normalise:
    case Kind::rows_reduce: return std::make_unique<RowsStep>(*s.node, kernels, in[0], s.out);
    case Kind::matmul: return std::make_unique<MatmulStep>(*s.node, kernels, in, s.out);
    default: return std::make_unique<PointwiseStep>(*s.node, kernels, in, s.out, s.tape);
  }
}

}  // namespace

Schedule make_schedule(const Network& network, const Kernels* kernels, const std::vector<Size>& sizes, int images,
                       int positions, bool taped) {
  const Task task{network, kernels, sizes, images, positions, taped};
  Draft draft = choose_layouts(task);
  draft.forward = draft.sketches.size();
  if (taped) draw_back(draft);
  choose_frames(task, draft);
  Schedule schedule;
  schedule.segments = choose_segments(draft);
  while (schedule.forward_segments < schedule.segments.size() &&
         (schedule.forward_segments == 0 || schedule.segments[schedule.forward_segments].begin < draft.forward))
    ++schedule.forward_segments;
  choose_lifetimes(task, draft, schedule.segments);
  schedule.arena_floats = lay_out_arena(draft.places);
  schedule.tape_floats = lay_out_tape(draft.places);
  for (const Sketch& s : draft.sketches) {
    std::unique_ptr<Step> step = make_step(kernels, s);
    step->node = s.node ? s.index : -1;
    if (auto* conv = dynamic_cast<ConvStep*>(step.get())) {
      conv->choose(conv->guess());
      schedule.convs.push_back(conv);
    }
    schedule.scratch_floats = std::max(schedule.scratch_floats, step->scratch_floats());
    schedule.steps.push_back(std::move(step));
  }
  schedule.first = draft.values.front();
  schedule.last = draft.values.back();
  schedule.upstream = draft.upstream;
  schedule.gradient = draft.gradient;
  schedule.places = std::move(draft.places);  // which stay where they are in memory
  schedule.nodes = std::move(draft.nodes);
  schedule.ways = std::move(draft.ways);
  return schedule;
}

}  // namespace harp
