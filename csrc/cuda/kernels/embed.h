// What a step starts with: copies of shared pages, embeddings, rotary angles.
#pragma once

#include <cstdint>

#include "base/page.h"
#include "cuda/memory.h"

namespace motet::cuda {

// x[t] = embedding[ids[t]]
struct EmbedArgs {
  int num_tokens;
  const int32_t* ids;         // [T]
  const uint16_t* embedding;  // [vocab, hidden] bf16
  int64_t hidden;
  float* x;  // [T, hidden]
};
void Embed(const EmbedArgs& args, Stream stream);

// cos and sin of positions[t] * frequencies[i], times scale; computed in double, since a float
// angle at position 100000 is already off by 0.01.
struct RotaryArgs {
  int num_tokens;
  const int32_t* positions;   // [T]
  const double* frequencies;  // [half]
  double scale;
  int half;    // head_dim / 2
  float* cos;  // [T, half]
  float* sin;  // [T, half]
};
void Rotary(const RotaryArgs& args, Stream stream);

// Pages become copies of others, one copy after the other, in every array of pages: the keys and
// the values of each layer of a kind.
struct CopyPagesArgs {
  void* pages;           // of the first array; 16 bytes aligned, as the sizes are
  int64_t array_stride;  // bytes from one array to the next
  int num_arrays;
  int64_t page_bytes;
  const PageCopy* copies;  // [num_copies], on the device
  int num_copies;
};
void CopyPages(const CopyPagesArgs& args, Stream stream);

}  // namespace motet::cuda
