// Made-up weights: random numbers of plausible size, the same for the same seed.
#pragma once

#include <cstdint>

#include "cuda/memory.h"

namespace motet::cuda {

// Uniform, at most 0.05 from `mean`.
void DummyBf16(uint16_t* out, int64_t count, float mean, uint64_t seed, Stream stream);
// `count` blocks as checkpoints have them (base/mxfp4.h), scales filled up to a multiple of 4; any
// codes, and weights some hundredths in size.
void DummyMxfp4(uint32_t* blocks, uint32_t* scales, int64_t count, uint64_t seed, Stream stream);

}  // namespace motet::cuda
