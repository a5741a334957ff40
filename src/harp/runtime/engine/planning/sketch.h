// A plan while it is made: first the layouts, then the frames they need, then where values lie, then the steps.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
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
  bool taped;     // keeps what going back needs
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
  Place* tape = nullptr;  // written going forward: bits of an activation or places of maxima
  // Going back:
  Place* mask = nullptr;  // such bits, by which a convolution masks its result, with the leak of what does not pass
  float leak = 0.0f;
  const Node* spreads = nullptr;  // the pooling whose windows it spreads gradients into, frame and all
  std::function<std::unique_ptr<Step>(const Kernels*)> make;  // where `node` does not say it
};

struct Draft {
  std::deque<Place> places;  // deques: sketches and steps point into them
  std::deque<Node> nodes;  // beside those of the network
  std::vector<Way> ways;
  std::vector<Sketch> sketches;
  std::vector<Place*> values;  // where consumers of each value find it
  std::size_t forward = 0;  // sketches; the rest goes back
  Place *upstream = nullptr, *gradient = nullptr;  // with respect to the result and to the image
};

// The same map without its surroundings.
Layout without_frame(Layout layout);
// Activations that keep a bit for going back; the others keep their input.
bool keeps_bits(Activation activation);
// What a gradient is multiplied by where such an activation cuts off.
float leak_of(const Node& node);

// layouts.cpp: a layout for each value, a sketch for each node, and moves between layouts.
Draft choose_layouts(const Task& task);

// backward.cpp: sketches of the way back.
void draw_back(Draft& draft);

// frames.cpp: which convolutions do without a frame, and how large the frames of the others are.
void choose_frames(const Task& task, Draft& draft);

// placing.cpp: which steps run together for a group of images, and how long each value lives.
std::vector<Segment> choose_segments(const Draft& draft);
void choose_lifetimes(const Task& task, Draft& draft, const std::vector<Segment>& segments);
// Give every place its offset, in the arena or on the tape; return the floats that it takes.
std::size_t lay_out_arena(std::deque<Place>& places);
std::size_t lay_out_tape(std::deque<Place>& places);

}  // namespace harp
