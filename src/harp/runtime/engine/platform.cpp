#include "platform.h"

#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#include <process.h>

#include <chrono>
#else
#include <unistd.h>

#include <ctime>
#endif

namespace harp {

#if defined(_WIN32)

double thread_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int process_id() { return _getpid(); }

void* allocate_aligned(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }

void free_aligned(void* memory) { _aligned_free(memory); }

#else

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int process_id() { return getpid(); }

void* allocate_aligned(std::size_t alignment, std::size_t bytes) { return std::aligned_alloc(alignment, bytes); }

void free_aligned(void* memory) { std::free(memory); }

#endif

}  // namespace harp
