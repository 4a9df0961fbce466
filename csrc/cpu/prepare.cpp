// What is made of bf16 weights before they are multiplied. Exact mode: the power of two of each
// block as integers, see base/fixed.h. int8 mode: a copy of 8-bit integers, see base/matrix.h. One
// pass over the weights, which also brings them to memory.
#include <algorithm>
#include <atomic>
#include <bit>
#include <string>

#include "base/bf16.h"
#include "base/error.h"
#include "base/fixed.h"
#include "cpu/backend.h"
#include "cpu/pack_int8.h"

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

int64_t WholeLines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

void CheckFinite(const Weights::DenseMatrix& m, int64_t bad_row) {
  if (bad_row < 0) return;
  throw CheckpointError("unusable weights", m.name, "finite numbers",
                        "NaN or infinity in row " + std::to_string(bad_row));
}

}  // namespace

void CpuBackend::Prepare(Weights& weights) {
  if (precision_ == Precision::kExact) PrepareScales(weights);
  if (precision_ == Precision::kInt8) PrepareInt8(weights);
}

void CpuBackend::PrepareScales(Weights& weights) {
  const std::vector<Weights::DenseMatrix> matrices = weights.DenseMatrices();
  int64_t bytes = 0;
  for (const auto& m : matrices) bytes += m.count * m.matrix->ScaleBytes();
  dense_ = LargeBuffer(bytes, "weights");
  uint8_t* next = dense_.data();
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
    CheckFinite(m, bad_row);
    m.matrix->scales = next;
    next += rows * scale_cols;
  }
}

void CpuBackend::PrepareInt8(Weights& weights) {
  const std::vector<Weights::DenseMatrix> matrices = weights.DenseMatrices();
  const auto int8_of = [](const WeightMatrix& w) {
    return WeightMatrix{WeightFormat::kInt8, nullptr, nullptr, w.rows, w.cols};
  };
  int64_t bytes = 0;
  for (const auto& m : matrices) {
    const WeightMatrix w = int8_of(*m.matrix);
    bytes += m.count * w.DataBytes() + WholeLines(m.count * w.ScaleBytes());
  }
  dense_ = LargeBuffer(bytes, "weights");
  uint8_t* data = dense_.data();
  for (const auto& m : matrices) {
    WeightMatrix w = int8_of(*m.matrix);
    uint8_t* scales = data + m.count * w.DataBytes();
    const int64_t groups = (w.rows + kInt8Rows - 1) / kInt8Rows;
    const auto* source = reinterpret_cast<const uint16_t*>(m.matrix->data);
    std::atomic<int64_t> bad_row = -1;
    pool_.ParallelFor(m.count * groups, [&](int64_t task) {
      const int64_t first = task / groups * w.rows + task % groups * kInt8Rows;
      const int64_t rows = std::min<int64_t>(kInt8Rows, w.rows - task % groups * kInt8Rows);
      const bool finite = PackInt8(
          source + first * w.cols, rows, w.cols, data + task * w.ScaleCols() * kInt8BlockBytes,
          reinterpret_cast<uint16_t*>(scales) + task * w.ScaleCols() * kInt8Rows);
      if (!finite) bad_row = first;
    });
    CheckFinite(m, bad_row);
    w.data = data;
    w.scales = scales;
    *m.matrix = w;
    data = scales + WholeLines(m.count * w.ScaleBytes());
  }
}

}  // namespace motet
