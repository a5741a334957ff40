// A plan while it is made: first the layouts, then the frames they need, then where values lie, then the steps.
#pragma once

#include <deque>
#include <vector>

#include "../plan.h"

namespace harp {

// What is planned: a network for one image size and one number of images.
struct Task {
  const Network& network;
  const Kernels* kernels;
  const std::vector<Size>& sizes;  // of every value
  int images;
  int positions;  // that a part of a map should have
};

// A step before its layouts are final.
struct Sketch {
  int index = -1;              // of the network's node that it stands for, or -1
  const Node* node = nullptr;  // null: a move
  std::vector<Place*> in;
  Place* residual = nullptr;
  Place* out = nullptr;
  MoveStep::How how = MoveStep::How::pixels;
  int first_channel = 0;
  int images = 1;  // of the group that it runs for
  bool wrapped = false;
};

struct Draft {
  std::deque<Place> places;     // deques: sketches and steps point into them
  std::deque<Node> nodes;       // beside those of the network
  std::vector<Sketch> sketches;
  std::vector<Place*> values;   // where consumers of each value find it
};

// layouts.cpp: a layout for each value, a sketch for each node, and moves between layouts.
Draft choose_layouts(const Task& task);

// frames.cpp: which convolutions do without a frame, and how large the frames of the others are.
void choose_frames(const Task& task, Draft& draft);

// placing.cpp: which steps run together for a group of images, and how long each value lives.
std::vector<Segment> choose_segments(const Draft& draft);
void choose_lifetimes(const Task& task, Draft& draft, const std::vector<Segment>& segments);
// Gives every place its offset; returns the floats of the arena.
std::size_t lay_out_arena(std::deque<Place>& places);

}  // namespace harp
