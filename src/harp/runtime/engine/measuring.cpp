#include "measuring.h"

#include <algorithm>
#include <limits>

#include "platform.h"
#include "tuning.h"

namespace harp {
namespace {

constexpr double NEVER = std::numeric_limits<double>::max();

// The shortest of several runs.
double shortest(int repeats, const std::function<void()>& run) {
  double best = NEVER;
  for (int i = 0; i < repeats; ++i) {
    const double start = thread_seconds();
    run();
    best = std::min(best, thread_seconds() - start);
  }
  return best;
}

void tune_layer(ConvStep* conv, const std::function<void()>& run, double deadline) {
  double best = NEVER;
  const std::vector<Variant> all = conv->candidates();
  Variant chosen = all.front();
  for (const Variant& v : all) {
    if (best < NEVER && thread_seconds() > deadline) break;
    conv->choose(v);
    double time = shortest(1, run);
    if (time < tuning::LAYER_WORTH_REPEATING * best)
      time = std::min(time, shortest(time < tuning::SHORT_LAYER_S ? tuning::REPEATS_OF_SHORT_LAYER : 1, run));
    if (time < tuning::CLEARLY_FASTER * best) {  // the guess stays unless another is clearly faster
      best = time;
      chosen = v;
    }
  }
  conv->choose(chosen);
}

}  // namespace

std::unique_ptr<Plan> fastest_plan(const MakePlan& make, int default_positions, int images,
                                   const std::vector<Size>& sizes) {
  const auto floats = [&](const Size& s) { return static_cast<std::size_t>(images) * s.channels * s.height * s.width; };
  const std::vector<float> in(floats(sizes.front()));
  std::vector<float> out(floats(sizes.back())), gradient(in.size());
  std::vector<int> all{default_positions};
  for (int positions : tuning::PART_POSITIONS_TO_TRY)
    if (images > 1 && positions != default_positions) all.push_back(positions);
  Barrier alone(1);
  std::unique_ptr<Plan> best;
  double least = NEVER;
  for (int positions : all) {
    auto plan = make(positions);
    Arena arena(plan->arena_floats()), tape(plan->tape_floats()), scratch(plan->scratch_floats());
    const auto once = [&] {
      const Run run{{arena.data(), tape.data()}, scratch.data(), 0, 1, &alone};
      plan->run({in.data(), false}, images, out.data(), run);
      if (plan->goes_back()) plan->back(out.data(), images, gradient.data(), run);
    };
    double time = shortest(1, once);
    if (time < tuning::PLAN_WORTH_REPEATING * least)
      time = std::min(time, shortest(time < tuning::SHORT_PLAN_S ? tuning::REPEATS_OF_SHORT_PLAN : 1, once));
    if (time < tuning::CLEARLY_FASTER * least) {
      least = time;
      best = std::move(plan);
    }
  }
  Arena arena(best->arena_floats()), tape(best->tape_floats()), scratch(best->scratch_floats());
  const Memory memory{arena.data(), tape.data()};
  const double deadline = thread_seconds() + tuning::MEASURING_S;
  for (ConvStep* conv : best->convs())
    tune_layer(conv, [&] { conv->run(memory, 0, 0, conv->units(), scratch.data()); }, deadline);
  return best;
}

}  // namespace harp
