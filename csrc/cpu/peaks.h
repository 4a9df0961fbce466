// What this machine can do, measured: benchmarks give their results as fractions of it.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace motet {

// Bytes a second that so many threads together read from memory.
double PeakReadRate(int threads);

// Multiply-accumulates a second of so many threads, on integers of the precision's width and the
// selected kernels' instructions; 0 for a precision without integers.
double PeakMultiplyRate(Precision precision, int threads);

}  // namespace motet
