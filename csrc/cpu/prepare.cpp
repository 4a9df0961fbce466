// What exact mode has to know about bf16 weights before it multiplies: the power of two of each
// block as integers, see base/fixed.h. One pass over the weights, which also brings them to memory.
#include <algorithm>
#include <atomic>
#include <bit>
#include <string>

#include "base/bf16.h"
#include "base/error.h"
#include "base/fixed.h"
#include "cpu/backend.h"

namespace motet {
namespace {

constexpr int64_t kTaskRows = 64;
constexpr uint16_t kInfinity = 0x7F80;  // bf16; larger magnitudes are NaN

// Magnitudes of bf16 numbers are ordered as their bits are.
uint16_t Largest(const uint16_t* weights, int64_t n) {
  int16_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto magnitude = static_cast<int16_t>(weights[i] & 0x7FFF);
    largest = magnitude > largest ? magnitude : largest;
  }
  return static_cast<uint16_t>(largest);
}

// Sum of the squares of weights times a factor.
float SquaredNorm(const uint16_t* weights, int64_t n, float factor) {
  constexpr int kLanes = 8;
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) {
    const float number = Bf16ToFloat(weights[i]) * factor;
    lanes[i % kLanes] += number * number;
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// E8M0 of a block's integers. (The exponents of bf16 and float32 are biased as E8M0 is.)
uint8_t BlockScale(const uint16_t* weights, int64_t n, uint16_t largest) {
  const int scale = std::max((largest >> 7) - (kFixedBits - 1), 1);
  const float inverse = std::bit_cast<float>(static_cast<uint32_t>(254 - scale) << 23);
  return static_cast<uint8_t>(scale + Halvings(SquaredNorm(weights, n, inverse)));
}

// Returns whether all weights are finite.
bool ScaleRow(const uint16_t* weights, int64_t cols, uint8_t* scales) {
  bool finite = true;
  const auto scale = [&](int64_t first, int64_t n) {
    const uint16_t largest = Largest(weights + first, n);
    finite &= largest < kInfinity;
    *scales++ = BlockScale(weights + first, n, largest);
  };
  int64_t k = 0;
  for (; k + kFixedBlockSize <= cols; k += kFixedBlockSize) scale(k, kFixedBlockSize);
  if (k < cols) scale(k, cols - k);
  return finite;
}

}  // namespace

void CpuBackend::Prepare(Weights& weights) {
  if (!fixed()) return;
  const std::vector<Weights::DenseMatrix> matrices = weights.DenseMatrices();
  int64_t bytes = 0;
  for (const auto& m : matrices) bytes += m.count * m.matrix->rows * m.matrix->ScaleCols();
  dense_scales_.resize(bytes);
  uint8_t* next = dense_scales_.data();
  for (const auto& m : matrices) {
    const int64_t rows = m.count * m.matrix->rows, cols = m.matrix->cols;
    const int64_t scale_cols = m.matrix->ScaleCols();
    const auto* data = reinterpret_cast<const uint16_t*>(m.matrix->data);
    std::atomic<int64_t> bad_row = -1;
    pool_.ParallelFor((rows + kTaskRows - 1) / kTaskRows, [&](int64_t task) {
      const int64_t end = std::min((task + 1) * kTaskRows, rows);
      for (int64_t r = task * kTaskRows; r < end; ++r) {
        if (!ScaleRow(data + r * cols, cols, next + r * scale_cols)) bad_row = r;
      }
    });
    if (bad_row >= 0) {
      throw CheckpointError("unusable weights", m.name, "finite numbers",
                            "NaN or infinity in row " + std::to_string(bad_row));
    }
    m.matrix->scales = next;
    next += rows * scale_cols;
  }
}

}  // namespace motet
