// What this processor can do.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace harp {

// The kernels for the best instruction set of this processor, or for the one named: baseline, AVX2, AVX-512, NEON.
const Kernels* find_kernels(const std::string& isa);

// Gigaflops of multiply-adds that a number of threads reaches on registers alone.
double peak_gflops(const Kernels* kernels, int threads);

}  // namespace harp
