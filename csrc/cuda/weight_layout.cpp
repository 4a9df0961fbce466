#include "cuda/weight_layout.h"

#include <map>
#include <utility>

namespace motet::cuda {
namespace {

constexpr int64_t kAlignment = 256;

// Visits each weight in the order of its use.
class Placer {
 public:
  Placer(WeightLayout& layout, Precision precision, Weights& weights, uint8_t* base)
      : layout_(layout), precision_(precision), base_(base) {
    for (const auto& dense : weights.DenseMatrices()) names_[dense.matrix] = dense.name;
  }

  void Vector(Bf16Vector& vector, int64_t size, float mean = 0) {
    const auto* data = reinterpret_cast<const uint8_t*>(vector);
    vector = reinterpret_cast<Bf16Vector>(Place(PlainRows(data, 1, size, mean)));
  }
  // Rows that are read one at a time, or multiplied without tensor cores.
  void Plain(WeightMatrix& m) { m.data = Place(PlainRows(m.data, m.rows, m.cols, 0)); }
  void Matrix(WeightMatrix& m, RowOrder order = RowOrder::kPlain, int64_t count = 1) {
    if (m.format == WeightFormat::kBf16 && precision_ == Precision::kInt8) {
      m.format = WeightFormat::kInt8;
    }
    m.data = Place({PlacedWeight::Kind::kTiles, m.format, m.data, m.scales, count, m.rows, m.cols,
                    order, 0, 0, names_[&m]});
    m.scales = nullptr;
  }

 private:
  static PlacedWeight PlainRows(const uint8_t* data, int64_t rows, int64_t cols, float mean) {
    return {PlacedWeight::Kind::kPlain,
            WeightFormat::kBf16,
            data,
            nullptr,
            1,
            rows,
            cols,
            RowOrder::kPlain,
            mean,
            0,
            {}};
  }

  const uint8_t* Place(PlacedWeight weight) {
    weight.offset = layout_.bytes;
    layout_.bytes += (weight.Bytes() + kAlignment - 1) / kAlignment * kAlignment;
    layout_.weights.push_back(std::move(weight));
    const PlacedWeight& placed = layout_.weights.back();
    return base_ ? base_ + placed.offset : placed.data;
  }

  WeightLayout& layout_;
  Precision precision_;
  uint8_t* base_;
  std::map<const WeightMatrix*, std::string> names_;
};

}  // namespace

int64_t PlacedWeight::Bytes() const {
  if (kind == Kind::kPlain) return count * rows * cols * 2;
  return count * PackedBytes(format, rows, cols);
}

int64_t PlacedWeight::SourceRowBytes() const {
  return format == WeightFormat::kMxfp4 ? cols / 2 + cols / 32 : cols * 2;
}

WeightLayout LayOut(const ModelConfig& c, Precision precision, Weights& w, uint8_t* base) {
  WeightLayout layout;
  Placer place(layout, precision, w, base);
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
