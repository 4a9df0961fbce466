// Made-up weights: random numbers of plausible size, the same for the same seed.
#pragma once

#include <cstdint>

#include "cuda/memory.h"

namespace motet::cuda {

// Uniform, at most 0.05 from `mean`.
void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream);
// Packed tiles of any codes; weights are some hundredths in size.
void DummyMxfp4(uint8_t* out, int64_t tiles, uint64_t seed, Stream stream);

}  // namespace motet::cuda
