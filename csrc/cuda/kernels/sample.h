#pragma once

#include <cstdint>

#include "cuda/memory.h"

namespace motet::cuda {

// What steps 6 to 10 of ops/sample.h need to know of a row.
struct DrawParams {
  double temperature, top_p, min_p;
  int top_k;
  uint64_t seed, position;
};

// A token for each row, as the CPU draws it from the same logits. Weights are summed as integers
// of 64 bits, so no order of sums enters: a row's token is the same in any batch. What they can't
// hold is less than 2^-28 of the probability at a vocabulary of 2^18, and less than that of a
// smaller one.
struct SampleArgs {
  int num_rows;
  const float* logits;       // [num_rows, vocab], 16-byte aligned
  int64_t vocab;             // below 2^31
  const DrawParams* params;  // [num_rows]
  int32_t* tokens;           // [num_rows]
  void* scratch;             // SampleScratchBytes(), 16-byte aligned; holds nothing between calls
};
void Sample(const SampleArgs& args, Stream stream);
int64_t SampleScratchBytes(int64_t num_rows, int64_t vocab);

}  // namespace motet::cuda
