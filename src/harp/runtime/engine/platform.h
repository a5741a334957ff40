// What operating systems do differently, and nothing else: the rest of the engine is standard C++17.
#pragma once

#include <cstddef>

namespace harp {

// Seconds that this thread has computed: what other programs do meanwhile does not count. On Windows, whose counter of
// a thread's time moves in steps of 15 ms, seconds on the clock.
double thread_seconds();

int process_id();

// `alignment` is a power of two, `bytes` a multiple of it; null when there is no memory. To be given to
// `free_aligned`, since Windows has a heap of its own for it.
void* allocate_aligned(std::size_t alignment, std::size_t bytes);
void free_aligned(void* memory);

}  // namespace harp
