// Every weight of a model with its place in the device's memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/kernels/pack.h"
#include "model/weights.h"

namespace motet::cuda {

// A weight on its way to the device: where it is now, and where it goes.
struct PlacedWeight {
  enum class Kind { kPlain, kTiles };

  Kind kind;              // kPlain: bf16 as they are
  WeightFormat format;    // of tiles
  const uint8_t* data;    // null where nobody has values
  const uint8_t* scales;  // kMxfp4 only
  int64_t count;          // matrices, one after the other: experts
  int64_t rows, cols;     // of each
  RowOrder order;
  float mean;        // of values that are made up: 1 for norms, otherwise 0
  int64_t offset;    // in the device's memory
  std::string name;  // of a matrix that hidden states are multiplied by: the tensor's

  int64_t Bytes() const;  // there, of all matrices
  int64_t SourceRowBytes() const;
};

struct WeightLayout {
  std::vector<PlacedWeight> weights;
  int64_t bytes = 0;
};

// Lays out `weights`, whose matrices have the formats of their tiles afterwards: int8 mode's are
// those of Weights::DenseMatrices(). With `base` they refer to their places from there.
WeightLayout LayOut(const ModelConfig& config, Precision precision, Weights& weights,
                    uint8_t* base);

}  // namespace motet::cuda
