// Made-up weights: random numbers of plausible size, the same for the same seed.
#pragma once

#include <cstdint>

#include "base/matrix.h"
#include "cuda/memory.h"

namespace motet::cuda {

// Uniform, at most 0.05 from `mean`.
void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream);
// Packed kMxfp4 or kInt8 of any codes; weights are some hundredths in size.
void DummyBlocks(uint8_t* out, int64_t bytes, WeightFormat format, uint64_t seed, Stream stream);

}  // namespace motet::cuda
