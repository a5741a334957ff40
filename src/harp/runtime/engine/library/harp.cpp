// The C face: checks arguments, turns what is thrown into a status and a text.
#include "harp.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../engine.h"
#include "../processor.h"
#include "../reading/refusal.h"
#include "described.h"
#include "model.h"

struct harp_network {
  harp_network(std::string_view content, int threads)
      : model(content),
        engine(model.take_network(), harp::find_kernels(""), threads),
        classes(harp::class_names(model.card())) {}

  mutable harp::Model model;
  harp::Engine engine;
  std::vector<std::string> classes;
};

namespace {

using harp::Fault;

constexpr int MOST_THREADS = 1024, MOST_IMAGES = 1 << 20;
constexpr std::size_t ALIGNMENT = 64;

thread_local char last_error[512] = "";

harp_status fail(harp_status status, const char* text) {
  std::snprintf(last_error, sizeof last_error, "%s", text);
  return status;
}

// Thrown by what checks arguments.
struct BadArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

void need(bool fine, const char* text) {
  if (!fine) throw BadArgument(text);
}

// Runs what may throw. `refused` is the status of what the network refuses.
template <class Work>
harp_status guarded(harp_status refused, Work work) {
  try {
    return work();
  } catch (const BadArgument& error) {
    return fail(HARP_BAD_ARGUMENT, error.what());
  } catch (const harp::Refusal& error) {
    const bool of_file = error.fault != Fault::invalid;
    return fail(!of_file ? refused : error.fault == Fault::newer ? HARP_NEWER : HARP_DAMAGED, error.what());
  } catch (const std::bad_alloc&) {
    return fail(HARP_NO_MEMORY, "there is not enough memory");
  } catch (const std::exception& error) {
    return fail(HARP_INVALID, error.what());
  }
}

std::string content_of(const char* path) {
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path, "rb"), close);
  need(file != nullptr, "the file cannot be opened");
  std::string content;
  std::vector<char> some(1 << 16);
  for (std::size_t count = 1; count > 0; content.append(some.data(), count))
    count = std::fread(some.data(), 1, some.size(), file.get());
  need(std::ferror(file.get()) == 0, "the file cannot be read");
  return content;
}

harp_status load(std::string_view content, int threads, harp_network** network) {
  return guarded(HARP_INVALID, [&] {
    *network = new harp_network(content, threads);
    return HARP_OK;
  });
}

void check(const harp_network* network, const harp_images* images) {
  need(network && images, "network or images are null");
  need(images->order == HARP_FLOATS || images->order == HARP_BYTES,
       "images.order is neither HARP_FLOATS nor HARP_BYTES");
  need(images->count >= 1 && images->count <= MOST_IMAGES, "images.count: expected 1 to 1,048,576");
  need(images->height >= 1 && images->width >= 1, "images.height and images.width: expected 1 or more");
}

std::shared_ptr<const harp::Sizes> sizes_of(const harp_network* network, int height, int width) {
  return network->model.sizes({network->model.input()[0], height, width});
}

std::size_t bytes_for(std::size_t floats) { return floats * sizeof(float) + ALIGNMENT; }

float* aligned(void* arena) {
  const auto address = reinterpret_cast<std::uintptr_t>(arena);
  return reinterpret_cast<float*>((address + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

}  // namespace

const char* harp_error(void) { return last_error; }

harp_status harp_load_memory(const void* content, size_t bytes, int threads, harp_network** network) {
  return guarded(HARP_BAD_ARGUMENT, [&] {
    need(network != nullptr, "network is null");
    *network = nullptr;
    need(content != nullptr || bytes == 0, "content is null");
    need(threads >= 1 && threads <= MOST_THREADS, "threads: expected 1 to 1024");
    return load({static_cast<const char*>(content), bytes}, threads, network);
  });
}

harp_status harp_load_file(const char* path, int threads, harp_network** network) {
  std::string content;
  if (!path) return fail(HARP_BAD_ARGUMENT, "path is null");
  const harp_status read = guarded(HARP_CANNOT_READ, [&] {
    content = content_of(path);
    return HARP_OK;
  });
  if (read != HARP_OK) {
    if (network) *network = nullptr;
    return read == HARP_BAD_ARGUMENT ? HARP_CANNOT_READ : read;
  }
  return harp_load_memory(content.data(), content.size(), threads, network);
}

void harp_free(harp_network* network) { delete network; }

void harp_input(const harp_network* network, int shape[3]) {
  for (int axis = 0; axis < 3; ++axis) shape[axis] = static_cast<int>(network->model.input()[axis]);
}

harp_status harp_output(const harp_network* network, int height, int width, int* axes, int shape[HARP_MOST_AXES]) {
  return guarded(HARP_BAD_ARGUMENT, [&] {
    need(network && axes && shape, "network, axes or shape are null");
    const auto sizes = sizes_of(network, height, width);
    *axes = static_cast<int>(sizes->result.size());
    for (int axis = 0; axis < *axes; ++axis) shape[axis] = static_cast<int>(sizes->result[axis]);
    return HARP_OK;
  });
}

int harp_classes(const harp_network* network) { return static_cast<int>(network->classes.size()); }

const char* harp_class(const harp_network* network, int index) {
  return index >= 0 && index < harp_classes(network) ? network->classes[index].c_str() : nullptr;
}

const char* harp_card(const harp_network* network) { return network->model.card_text.c_str(); }

const char* harp_isa(const harp_network* network) { return network->engine.kernels()->isa; }

harp_status harp_describe(const harp_network* network, harp_preprocessing* how) {
  return guarded(HARP_INVALID, [&] {
    need(network && how, "network or how are null");
    const auto found = harp::preprocessing_in(network->model.card());
    if (!found) return fail(HARP_NOT_DESCRIBED, "the file does not say how images become inputs: export it again");
    *how = {found->height, found->width, found->channels, found->shorter_side, found->mean_of_blocks, 1.0f / 255.0f};
    return HARP_OK;
  });
}

harp_status harp_prepare(harp_network* network, const harp_images* images, int tune, size_t* arena_bytes) {
  return guarded(HARP_BAD_ARGUMENT, [&] {
    check(network, images);
    need(arena_bytes != nullptr, "arena_bytes is null");
    const auto sizes = sizes_of(network, images->height, images->width);
    *arena_bytes = bytes_for(network->engine.floats_within(images->count, sizes->values, tune != 0));
    return HARP_OK;
  });
}

harp_status harp_run(harp_network* network, const harp_images* images, float* results, void* arena,
                     size_t arena_bytes) {
  return guarded(HARP_BAD_ARGUMENT, [&] {
    check(network, images);
    need(images->data && results && arena, "images.data, results or arena are null");
    const auto sizes = sizes_of(network, images->height, images->width);
    const std::size_t floats = arena_bytes < ALIGNMENT ? 0 : (arena_bytes - ALIGNMENT) / sizeof(float);
    const harp::Images in{images->data, images->order == HARP_BYTES};
    const std::size_t wanted =
        network->engine.run_within(aligned(arena), floats, in, images->count, sizes->values, results);
    const std::string sized = "the arena has " + std::to_string(arena_bytes) + " bytes: expected " +
                              std::to_string(bytes_for(wanted)) + " or more";
    if (floats < wanted) return fail(HARP_ARENA_TOO_SMALL, sized.c_str());
    return HARP_OK;
  });
}
