#include "processor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "workers.h"

#if defined(HARP_X86) && !defined(__x86_64__) && !defined(_M_X64)
#undef HARP_X86  // the other half of a universal library
#endif

#if defined(HARP_X86)
#include <cpuid.h>
#elif defined(HARP_ARM32)
#include <sys/auxv.h>
#endif

namespace harp {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

#if defined(HARP_X86)
struct Features {
  bool avx2 = false, avx512 = false;
};

// Asked of the processor itself: compiled by Zig 0.17, as wheels are, __builtin_cpu_supports is always false.
Features features() {
  constexpr unsigned FMA = 1u << 12, OSXSAVE = 1u << 27;
  constexpr unsigned AVX2 = 1u << 5, AVX512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  constexpr unsigned YMM = 0x06, ZMM = 0xe6;  // registers that the system saves
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | OSXSAVE)) != (FMA | OSXSAVE)) return {};
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
  Features found;
  found.avx2 = (low & YMM) == YMM && (b & AVX2);
  found.avx512 = found.avx2 && (low & ZMM) == ZMM && (b & AVX512) == AVX512;
  return found;
}
#endif

}  // namespace

const Kernels* find_kernels(const std::string& isa) {
  std::vector<const Kernels*> known;
#if defined(HARP_X86)
  const Features here = features();
  if (here.avx512) known.push_back(avx512_kernels());
  if (here.avx2) known.push_back(avx2_kernels());
#elif defined(HARP_ARM32)
  constexpr unsigned long NEON = 1ul << 12, VFPV4 = 1ul << 16;  // as Linux says it
  if ((getauxval(AT_HWCAP) & (NEON | VFPV4)) == (NEON | VFPV4)) known.push_back(neon_kernels());
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
