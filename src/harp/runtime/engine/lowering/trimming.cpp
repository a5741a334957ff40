// Channels that need not exist: those that nobody reads, and those that are zero whatever the image.
#include <algorithm>
#include <map>
#include <numeric>

#include "layers.h"

namespace harp::lowering {
namespace {

using Mask = std::vector<std::uint8_t>;

// Of all values together. Beyond, a network stays as it is: looking for channels would take more memory than its file.
constexpr std::int64_t MOST_CHANNELS = std::int64_t{1} << 24;

template <std::size_t N>
bool among(std::string_view word, const std::string_view (&words)[N]) {
  return std::find(words, words + N, word) != words + N;
}

// Channel c of the result comes from channel c of the inputs.
bool is_aligned(const Layer& layer) {
  constexpr std::string_view ALIGNED[]{"activation",        "affine", "max_pool", "avg_pool",
                                       "adaptive_avg_pool", "add",    "mul"};
  return among(layer.kind, ALIGNED);
}

bool zero_stays(const Layer& layer) {
  constexpr std::string_view STAYS[]{"none", "relu", "relu6", "leaky_relu", "silu", "hardswish", "gelu", "gelu_tanh"};
  return among(layer.activation, STAYS);
}

// Steps on tensors, of which nothing is left out; a tensor counts as one channel.
bool is_whole(const Layer& layer) {
  constexpr std::string_view WHOLE[]{"constant",    "pack",   "unpack",       "copy",           "pairwise",
                                     "elementwise", "matmul", "rows_softmax", "rows_normalise", "rows_reduce"};
  return among(layer.kind, WHOLE);
}

bool all(const Mask& mask) { return std::find(mask.begin(), mask.end(), 0) == mask.end(); }
bool any(const Mask& mask) { return std::find(mask.begin(), mask.end(), 1) != mask.end(); }
void fill(Mask& mask) { std::fill(mask.begin(), mask.end(), std::uint8_t{1}); }
void unite(Mask& mask, const Mask& other) {
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] |= other[i];
}
std::int64_t count(const Mask& mask) { return std::count(mask.begin(), mask.end(), std::uint8_t{1}); }

Mask repeated(const Mask& mask, std::size_t times) {
  Mask result;
  for (std::uint8_t bit : mask) result.insert(result.end(), times, bit);
  return result;
}

Mask joined(const std::vector<Mask>& masks, const Layer& layer) {
  Mask result;
  for (std::int64_t value : layer.inputs) result.insert(result.end(), masks[value].begin(), masks[value].end());
  return result;
}

Mask zero_outputs(const Layer& layer, const Rows& rows, const Mask& zero_inputs) {
  Mask zero(static_cast<std::size_t>(rows.outputs()), zero_stays(layer));
  const bool cuts = layer.activation == "relu" || layer.activation == "relu6";
  for (std::size_t o = 0; o < zero.size(); ++o)
    zero[o] = zero[o] && (cuts ? rows.bias[o] <= 0.0f : rows.bias[o] == 0.0f);
  rows.each([&](std::size_t o, std::size_t k) {
    if (!zero_inputs[rows.channel(o, k)]) zero[o] = 0;
  });
  return zero;
}

Mask zeros_of(const Layer& layer, const std::vector<Mask>& zeros, std::size_t channels) {
  const auto input = [&](std::size_t i) -> const Mask& { return zeros[layer.inputs[i]]; };
  const std::string& kind = layer.kind;
  if (layer.rows) {
    Mask zero = zero_outputs(layer, *layer.rows, input(0));
    for (std::size_t o = 0; layer.residual >= 0 && o < zero.size(); ++o)
      zero[o] = zero[o] && zeros[layer.residual][o] && layer.rows->bias[o] == 0.0f;
    return zero;
  }
  if (kind == "activation" || kind == "max_pool" || kind == "avg_pool" || kind == "adaptive_avg_pool")
    return zero_stays(layer) ? input(0) : Mask(channels, 0);
  if (kind == "add" && input(0).size() == input(1).size()) {
    Mask zero(channels, 0);
    for (std::size_t c = 0; c < channels; ++c) zero[c] = input(0)[c] && input(1)[c] && zero_stays(layer);
    return zero;
  }
  if (kind == "concat") return joined(zeros, layer);
  if (kind == "channels") {
    Mask zero;
    for (std::int64_t c : layer.told->numbers) zero.push_back(input(0)[c]);
    return zero;
  }
  if (kind == "flatten") return repeated(input(0), channels / input(0).size());
  return Mask(channels, 0);
}

// Leaves out non-zeros that `stays(output, k)` does not want.
template <class Stays>
void filter(Rows& rows, Stays stays) {
  std::size_t end = 0;
  std::vector<std::int64_t> starts{0};
  for (std::size_t o = 0; o + 1 < rows.starts.size(); ++o) {
    for (auto k = static_cast<std::size_t>(rows.starts[o]); k < static_cast<std::size_t>(rows.starts[o + 1]); ++k) {
      if (!stays(o, k)) continue;
      rows.columns[end] = rows.columns[k];
      rows.values[end++] = rows.values[k];
    }
    starts.push_back(static_cast<std::int64_t>(end));
  }
  rows.starts = std::move(starts);
  rows.columns.resize(end);
  rows.values.resize(end);
}

// Which channels must stay: somebody reads them, or the same channel of a value that is tied to theirs.
class Needs {
 public:
  Needs(const std::vector<Layer>& layers, const std::vector<std::int64_t>& counts) : layers_(layers) {
    for (std::int64_t channels : counts) needed.emplace_back(static_cast<std::size_t>(channels), std::uint8_t{0});
    fill(needed.front());
    fill(needed.back());
    find_groups();
    // What stays has its own needs, so that this goes round until nothing is added.
    for (std::int64_t before = -1, now = total(); before < now; before = now, now = total()) {
      for (std::size_t value = layers.size(); value > 0; --value) need_inputs(layers[value - 1], needed[value]);
      for (const auto& [root, members] : groups_) share(members);
    }
  }

  std::vector<Mask> needed;

 private:
  std::int64_t total() const {
    return std::accumulate(needed.begin(), needed.end(), std::int64_t{0},
                           [](std::int64_t sum, const Mask& mask) { return sum + count(mask); });
  }

  // Values of which all must have the same channels.
  void find_groups() {
    std::vector<std::size_t> parent(layers_.size() + 1);
    std::iota(parent.begin(), parent.end(), std::size_t{0});
    const auto root = [&](std::size_t value) {
      while (parent[value] != value) value = parent[value] = parent[parent[value]];
      return value;
    };
    for (std::size_t value = 1; value <= layers_.size(); ++value) {
      const Layer& layer = layers_[value - 1];
      const auto tie = [&](std::int64_t other) { parent[root(static_cast<std::size_t>(other))] = root(value); };
      if (layer.residual >= 0) tie(layer.residual);
      if (is_aligned(layer)) std::for_each(layer.inputs.begin(), layer.inputs.end(), tie);
    }
    for (std::size_t value = 0; value < parent.size(); ++value) groups_[root(value)].push_back(value);
  }

  void share(const std::vector<std::size_t>& members) {
    const std::size_t channels = needed[members[0]].size();
    if (std::any_of(members.begin(), members.end(), [&](std::size_t v) { return needed[v].size() != channels; }))
      return;
    Mask together(channels, 0);
    for (std::size_t value : members) unite(together, needed[value]);
    for (std::size_t value : members) needed[value] = together;
  }

  void need_inputs(const Layer& layer, Mask& wanted) {
    const auto same = [&](std::int64_t value) { return needed[value].size() == wanted.size(); };
    if (layer.rows) {
      need_rows(layer, *layer.rows, wanted);
    } else if (layer.kind == "flatten") {
      Mask& input = needed[layer.inputs[0]];
      const std::size_t pixels = wanted.size() / input.size();
      for (std::size_t i = 0; i < wanted.size(); ++i) input[i / pixels] |= wanted[i];
    } else if (layer.kind == "channels") {
      for (std::size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i]) needed[layer.inputs[0]][layer.told->numbers[i]] = 1;
    } else if (is_aligned(layer) && std::all_of(layer.inputs.begin(), layer.inputs.end(), same)) {
      for (std::int64_t value : layer.inputs) unite(needed[value], wanted);
    } else {
      fill(wanted);
      for (std::int64_t value : layer.inputs) fill(needed[value]);
    }
  }

  void need_rows(const Layer& layer, const Rows& rows, Mask& wanted) {
    Mask& input = needed[layer.inputs[0]];
    if (rows.groups > 1) {
      fill(wanted);
      fill(input);
    } else {
      rows.each([&](std::size_t o, std::size_t k) { input[rows.channel(o, k)] |= wanted[o]; });
    }
    if (layer.residual >= 0) unite(needed[layer.residual], wanted);
  }

  const std::vector<Layer>& layers_;
  std::map<std::size_t, std::vector<std::size_t>> groups_;
};

// Whether what is kept of a result is what its layer can make from what is kept of its inputs.
bool is_consistent(const Layer& layer, const std::vector<Mask>& needed, const Mask& kept) {
  const Mask* input = layer.inputs.empty() ? nullptr : &needed[layer.inputs[0]];
  const auto each = [&](auto fits) {
    return std::all_of(layer.inputs.begin(), layer.inputs.end(), [&](std::int64_t v) { return fits(needed[v]); });
  };
  if (layer.kind == "flatten") return repeated(*input, kept.size() / input->size()) == kept;
  if (layer.kind == "concat") return joined(needed, layer) == kept;
  if (layer.kind == "channels") {
    for (std::size_t i = 0; i < kept.size(); ++i)
      if (kept[i] && !(*input)[layer.told->numbers[i]]) return false;
    return true;
  }
  if (is_whole(layer)) return all(kept) && each(all);
  if (layer.rows) return layer.rows->groups == 1 || (all(*input) && all(kept));
  return each([&](const Mask& mask) { return mask == kept; });
}

// Of each channel, how many kept ones come before it.
std::vector<std::int64_t> places(const Mask& kept) {
  std::vector<std::int64_t> place;
  std::int64_t before = 0;
  for (std::uint8_t bit : kept) {
    place.push_back(before);
    before += bit;
  }
  return place;
}

void select(std::vector<float>& numbers, const Mask& kept) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (kept[i]) numbers[end++] = numbers[i];
  numbers.resize(end);
}

void select_rows(Rows& rows, const Mask& outputs, const Mask& inputs) {
  if (all(outputs) && all(inputs)) return;
  filter(rows, [&](std::size_t o, std::size_t) { return outputs[o] != 0; });
  const std::vector<std::int64_t> place = places(inputs);
  for (std::int32_t& column : rows.columns)
    column = static_cast<std::int32_t>(place[column / rows.window] * rows.window + column % rows.window);
  std::vector<std::int64_t> starts{0};
  for (std::size_t o = 0; o < outputs.size(); ++o)
    if (outputs[o]) starts.push_back(rows.starts[o + 1]);
  rows.starts = std::move(starts);
  select(rows.bias, outputs);
  rows.inputs = count(inputs);
  rows.groups = 1;
}

void select(Layer& layer, const Mask& kept, const std::vector<Mask>& needed) {
  layer.channels = count(kept);
  if (layer.rows) {
    select_rows(*layer.rows, kept, needed[layer.inputs[0]]);
  } else if (layer.kind == "channels") {
    const std::vector<std::int64_t> place = places(needed[layer.inputs[0]]);
    std::vector<std::int64_t> numbers;
    for (std::size_t i = 0; i < kept.size(); ++i)
      if (kept[i]) numbers.push_back(place[layer.told->numbers[i]]);
    layer.told->numbers = std::move(numbers);
  } else if (layer.affine) {
    select(layer.affine->scale, kept);
    select(layer.affine->shift, kept);
  }
}

void remove_zeros(std::vector<Layer>& layers, const std::vector<std::int64_t>& counts) {
  std::vector<Mask> zeros{Mask(static_cast<std::size_t>(counts[0]), 0)};
  for (std::size_t i = 0; i < layers.size(); ++i)
    zeros.push_back(zeros_of(layers[i], zeros, static_cast<std::size_t>(counts[i + 1])));
  for (Layer& layer : layers) {
    if (!layer.rows) continue;
    const Mask& zero = zeros[layer.inputs[0]];
    if (!any(zero)) continue;
    Rows& rows = *layer.rows;
    filter(rows, [&](std::size_t o, std::size_t k) { return !zero[rows.channel(o, k)]; });
  }
}

}  // namespace

std::vector<Layer> trim(std::vector<Layer> layers, std::int64_t image_channels) {
  std::vector<std::int64_t> counts{image_channels};
  for (const Layer& layer : layers) counts.push_back(layer.channels);
  if (std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) > MOST_CHANNELS) return layers;
  remove_zeros(layers, counts);
  const Needs needs(layers, counts);
  const std::vector<Mask>& needed = needs.needed;
  bool consistent = std::all_of(needed.begin(), needed.end(), any);
  for (std::size_t i = 0; consistent && i < layers.size(); ++i)
    consistent = is_consistent(layers[i], needed, needed[i + 1]);
  for (std::size_t i = 0; consistent && i < layers.size(); ++i) select(layers[i], needed[i + 1], needed);
  return layers;
}

}  // namespace harp::lowering
