#pragma once

#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

// out[i] = x[r] / sqrt(mean(x[r]^2) + eps) * weight, where r = rows[i], or i without `rows`.
struct RmsNormArgs {
  int num_rows;
  const int32_t* rows;     // [num_rows] or null
  const float* x;          // [*, size], aligned to 16 bytes
  const uint16_t* weight;  // [size] bf16, aligned to 8
  int64_t size;
  float eps;
  Rows out;
};
void RmsNorm(const RmsNormArgs& args, Stream stream);

}  // namespace motet::cuda
