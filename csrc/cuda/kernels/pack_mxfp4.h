#pragma once

#include "base/mxfp4.h"
#include "cuda/kernels/pack.h"
#include "cuda/memory.h"

namespace motet::cuda {

// Matrices (experts) after one another, from the checkpoint's layout into that of mxfp4.cuh, each
// filled up to whole tiles.
struct PackMxfp4Args {
  const uint8_t* blocks;  // [count, rows, columns/32, 16], aligned to 16 bytes
  const uint8_t* scales;  // [count, rows, columns/32]
  int64_t count, rows, columns;
  uint8_t* out;  // [count, PackedBytes(kMxfp4, rows, columns)], aligned to 16 bytes
};
void PackMxfp4(const PackMxfp4Args& args, Stream stream);

// out[rows, columns] = the weights of a packed matrix, all on the host: for tests.
void UnpackMxfp4(const uint8_t* packed, int64_t rows, int64_t columns, float* out);

}  // namespace motet::cuda
