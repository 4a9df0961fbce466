// What exact mode has to know about bf16 weights before it multiplies: the power of two of each
// block as integers, see base/fixed.h. One pass over the weights, which also brings them to memory.
#include <atomic>

#include "base/error.h"
#include "base/fixed.h"
#include "cpu/backend.h"

namespace motet {
namespace {

constexpr int64_t kTaskRows = 64;
constexpr uint16_t kInfinity = 0x7F80;  // bf16; larger magnitudes are NaN

// E8M0 such that the block's largest magnitude, as an integer, has kFixedWeightBits bits.
uint8_t BlockScale(uint16_t largest) {
  const int scale = (largest >> 7) - (kFixedWeightBits - 1);
  return static_cast<uint8_t>(scale > 1 ? scale : 1);
}

// Magnitudes of bf16 numbers are ordered as their bits are.
uint16_t Largest(const uint16_t* weights, int64_t n) {
  int16_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto magnitude = static_cast<int16_t>(weights[i] & 0x7FFF);
    largest = magnitude > largest ? magnitude : largest;
  }
  return static_cast<uint16_t>(largest);
}

// Returns whether all weights are finite.
bool ScaleRow(const uint16_t* weights, int64_t cols, uint8_t* scales) {
  bool finite = true;
  for (int64_t k = 0; k < cols; k += kFixedBlockSize) {
    const uint16_t largest = k + kFixedBlockSize <= cols ? Largest(weights + k, kFixedBlockSize)
                                                         : Largest(weights + k, cols - k);
    finite &= largest < kInfinity;
    *scales++ = BlockScale(largest);
  }
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
    std::atomic<bool> finite = true;
    pool_.ParallelFor((rows + kTaskRows - 1) / kTaskRows, [&](int64_t task) {
      const int64_t end = std::min((task + 1) * kTaskRows, rows);
      for (int64_t r = task * kTaskRows; r < end; ++r) {
        if (!ScaleRow(data + r * cols, cols, next + r * scale_cols)) finite = false;
      }
    });
    if (!finite) throw CheckpointError(m.name, "expected finite weights, found NaN or infinity");
    m.matrix->scales = next;
    next += rows * scale_cols;
  }
}

}  // namespace motet
