#include "processor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "workers.h"

namespace harp {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

const Kernels* find_kernels(const std::string& isa) {
  std::vector<const Kernels*> known;
#if defined(HARP_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq"))
    known.push_back(avx512_kernels());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) known.push_back(avx2_kernels());
#endif
  known.push_back(baseline_kernels());
  std::string names;
  for (const Kernels* k : known) {
    if (isa.empty() || isa == k->isa) return k;
    names += std::string(names.empty() ? "" : ", ") + k->isa;
  }
  throw std::invalid_argument("isa='" + isa + "': this processor runs " + names);
}

double peak_gflops(const Kernels* kernels, int threads) {
  Workers workers(threads);
  double best = 0.0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::atomic<int> team{1};
    std::vector<double> done(threads, 0.0);
    const auto start = Clock::now();
    workers.run([&](int n) { team = n; }, [&](int index) { done[index] = kernels->peak(2'000'000); });
    double all = 0.0;
    for (double d : done) all += d;
    best = std::max(best, all / since(start) / 1e9);
  }
  return best;
}

}  // namespace harp
