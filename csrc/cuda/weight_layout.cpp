#include "cuda/weight_layout.h"

#include <map>
#include <utility>

namespace motet::cuda {
namespace {

constexpr int64_t kAlignment = 256;

// Visits each weight in the order of its use.
class Placer {
 public:
  Placer(WeightLayout& layout, Weights& weights, uint8_t* base) : layout_(layout), base_(base) {
    for (const auto& dense : weights.DenseMatrices()) names_[dense.matrix] = dense.name;
  }

  void Vector(Bf16Vector& vector, int64_t size, float mean = 0) {
    const auto* data = reinterpret_cast<const uint8_t*>(vector);
    vector = reinterpret_cast<Bf16Vector>(Place(
        {PlacedWeight::Kind::kPlain, data, nullptr, 1, 1, size, RowOrder::kPlain, mean, 0, {}}));
  }
  // Rows that are read one at a time, or multiplied without tensor cores.
  void Plain(WeightMatrix& m) {
    m.data = Place({PlacedWeight::Kind::kPlain,
                    m.data,
                    nullptr,
                    1,
                    m.rows,
                    m.cols,
                    RowOrder::kPlain,
                    0,
                    0,
                    {}});
  }
  void Matrix(WeightMatrix& m, RowOrder order = RowOrder::kPlain, int64_t count = 1) {
    const bool mxfp4 = m.format == WeightFormat::kMxfp4;
    m.data = Place({mxfp4 ? PlacedWeight::Kind::kMxfp4Tiles : PlacedWeight::Kind::kBf16Tiles,
                    m.data, m.scales, count, m.rows, m.cols, order, 0, 0, names_[&m]});
    m.scales = nullptr;
  }

 private:
  const uint8_t* Place(PlacedWeight weight) {
    weight.offset = layout_.bytes;
    layout_.bytes += (weight.Bytes() + kAlignment - 1) / kAlignment * kAlignment;
    layout_.weights.push_back(std::move(weight));
    const PlacedWeight& placed = layout_.weights.back();
    return base_ ? base_ + placed.offset : placed.data;
  }

  WeightLayout& layout_;
  uint8_t* base_;
  std::map<const WeightMatrix*, std::string> names_;
};

}  // namespace

int64_t PlacedWeight::Bytes() const {
  if (kind == Kind::kPlain) return count * rows * cols * 2;
  const auto format = kind == Kind::kMxfp4Tiles ? WeightFormat::kMxfp4 : WeightFormat::kBf16;
  return count * PackedBytes(format, rows, cols);
}

int64_t PlacedWeight::SourceRowBytes() const {
  return kind == Kind::kMxfp4Tiles ? cols / 2 + cols / 32 : cols * 2;
}

WeightLayout LayOut(const ModelConfig& c, Weights& w, uint8_t* base) {
  WeightLayout layout;
  Placer place(layout, w, base);
  constexpr float kOne = 1;
  place.Plain(w.embedding);
  for (LayerWeights& layer : w.layers) {
    place.Vector(layer.input_norm, c.hidden_size, kOne);
    place.Matrix(layer.q_proj, RowOrder::kRope);
    place.Matrix(layer.k_proj, RowOrder::kRope);
    place.Matrix(layer.v_proj);
    place.Vector(layer.q_bias, c.QuerySize());
    place.Vector(layer.k_bias, c.KvSize());
    place.Vector(layer.v_bias, c.KvSize());
    place.Vector(layer.sinks, c.num_heads);
    place.Matrix(layer.o_proj);
    place.Vector(layer.o_bias, c.hidden_size);
    place.Vector(layer.post_attention_norm, c.hidden_size, kOne);
    place.Plain(layer.router);
    place.Vector(layer.router_bias, c.num_experts);
    place.Matrix(layer.gate_up.first, RowOrder::kPlain, c.num_experts);
    place.Vector(layer.gate_up_bias, c.num_experts * 2 * c.intermediate_size);
    place.Matrix(layer.down.first, RowOrder::kPlain, c.num_experts);
    place.Vector(layer.down_bias, c.num_experts * c.hidden_size);
  }
  place.Vector(w.final_norm, c.hidden_size, kOne);
  place.Matrix(w.lm_head);
  return layout;
}

}  // namespace motet::cuda
