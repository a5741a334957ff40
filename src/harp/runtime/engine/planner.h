// Decides layouts and steps, then sees what frames they need, then where in the arena each value lies.
#pragma once

#include <vector>

#include "plan.h"

namespace harp {

class Planner {
 public:
  Planner(Plan& plan, int positions);
  void build();

 private:
  // A step before its layouts are final.
  struct Sketch {
    int node = -1;  // -1: a move
    std::vector<Place*> in;
    Place* residual = nullptr;
    Place* out = nullptr;
    MoveStep::How how = MoveStep::How::pixels;
    int first_channel = 0;
    int images = 1;
  };

  Place* place(Layout layout);
  void sketch(int index);
  Layout window(const Node& node, Place*& in, Size out);
  Place* move(Place* from, Layout to, MoveStep::How how = MoveStep::How::pixels);
  Place* same_lanes(Place* from, const Layout& as);
  Place* filled(int value, Place* in, const Node& node, Size out);
  void settle(int value, Place* natural);
  void frames();
  void segments();
  void lifetimes();
  void lay_out_arena();
  void make_steps();

  Plan& plan_;
  const std::vector<Node>& nodes_;
  std::vector<int> images_;        // wanted for each value
  std::vector<Place*> values_;
  std::vector<int> consumers_;
  std::vector<Sketch> sketches_;
};

}  // namespace harp
