#include "model/weights.h"

#include <utility>

#include "base/error.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::string LayerPrefix(int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }

const TensorView& Find(const TensorMap& tensors, const std::string& name) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) {
    throw CheckpointError("missing tensor", name, "an array of this name", "none");
  }
  return it->second;
}

void CheckSlot(const WeightSlot& slot, const TensorView& tensor) {
  if (tensor.dtype != slot.dtype || tensor.shape != slot.shape) {
    const auto text = [](DType dtype, const std::vector<int64_t>& shape) {
      return std::string(DTypeName(dtype)) + " " + ShapeText(shape);
    };
    throw CheckpointError("unexpected dtype or shape", slot.name, text(slot.dtype, slot.shape),
                          text(tensor.dtype, tensor.shape));
  }
}

Bf16Vector Vector(const TensorMap& tensors, const std::string& name) {
  return static_cast<Bf16Vector>(Find(tensors, name).data);
}

WeightMatrix Bf16Matrix(const TensorMap& tensors, const std::string& name) {
  const TensorView& t = Find(tensors, name);
  return {WeightFormat::kBf16, static_cast<const uint8_t*>(t.data), nullptr, t.shape[0],
          t.shape[1]};
}

}  // namespace

const char* DTypeName(DType dtype) { return dtype == DType::kBf16 ? "BF16" : "U8"; }

std::vector<WeightSlot> WeightSlots(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size, inter = c.intermediate_size, experts = c.num_experts;
  const int64_t q = c.QuerySize(), kv = c.KvSize();
  std::vector<WeightSlot> slots;
  const auto bf16 = [&](const std::string& name, std::vector<int64_t> shape) {
    slots.push_back({name, DType::kBf16, std::move(shape)});
  };
  const auto u8 = [&](const std::string& name, std::vector<int64_t> shape) {
    slots.push_back({name, DType::kU8, std::move(shape)});
  };
  const auto expert_matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    if (c.experts_mxfp4) {
      u8(name + "_blocks", {experts, rows, cols / kMxfp4BlockSize, kMxfp4BlockBytes});
      u8(name + "_scales", {experts, rows, cols / kMxfp4BlockSize});
    } else {
      bf16(name, {experts, cols, rows});
    }
    bf16(name + "_bias", {experts, rows});
  };
  bf16("model.embed_tokens.weight", {c.vocab_size, hidden});
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string p = LayerPrefix(i), attn = p + "self_attn.", mlp = p + "mlp.";
    bf16(p + "input_layernorm.weight", {hidden});
    bf16(attn + "q_proj.weight", {q, hidden});
    bf16(attn + "q_proj.bias", {q});
    bf16(attn + "k_proj.weight", {kv, hidden});
    bf16(attn + "k_proj.bias", {kv});
    bf16(attn + "v_proj.weight", {kv, hidden});
    bf16(attn + "v_proj.bias", {kv});
    bf16(attn + "o_proj.weight", {hidden, q});
    bf16(attn + "o_proj.bias", {hidden});
    bf16(attn + "sinks", {c.num_heads});
    bf16(p + "post_attention_layernorm.weight", {hidden});
    bf16(mlp + "router.weight", {experts, hidden});
    bf16(mlp + "router.bias", {experts});
    expert_matrix(mlp + "experts.gate_up_proj", 2 * inter, hidden);
    expert_matrix(mlp + "experts.down_proj", hidden, inter);
  }
  bf16("model.norm.weight", {hidden});
  bf16("lm_head.weight", {c.vocab_size, hidden});
  return slots;
}

TensorMap ShapesOnly(const ModelConfig& config) {
  TensorMap tensors;
  for (const WeightSlot& slot : WeightSlots(config)) {
    tensors.emplace(slot.name, TensorView{slot.dtype, slot.shape, nullptr});
  }
  return tensors;
}

ExpertMatrices Weights::BindExperts(const std::string& name, const ModelConfig& config,
                                    const TensorMap& tensors, int64_t rows, int64_t cols) {
  if (config.experts_mxfp4) {
    return {{WeightFormat::kMxfp4,
             static_cast<const uint8_t*>(Find(tensors, name + "_blocks").data),
             static_cast<const uint8_t*>(Find(tensors, name + "_scales").data), rows, cols}};
  }
  const auto* source = static_cast<const uint16_t*>(Find(tensors, name).data);  // [E, cols, rows]
  if (!source) return {{WeightFormat::kBf16, nullptr, nullptr, rows, cols}};
  auto copy = std::make_unique<uint16_t[]>(config.num_experts * rows * cols);
  for (int64_t e = 0; e < config.num_experts; ++e) {
    for (int64_t c = 0; c < cols; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        copy[(e * rows + r) * cols + c] = source[(e * cols + c) * rows + r];
      }
    }
  }
  transposed_.push_back(std::move(copy));
  return {{WeightFormat::kBf16, reinterpret_cast<const uint8_t*>(transposed_.back().get()), nullptr,
           rows, cols}};
}

std::vector<Weights::DenseMatrix> Weights::DenseMatrices() {
  std::vector<DenseMatrix> all;
  const auto experts = [&](const std::string& name, ExpertMatrices& matrices, int64_t count) {
    if (matrices.first.format == WeightFormat::kBf16) {
      all.push_back({name, &matrices.first, count});
    }
  };
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string p = LayerPrefix(static_cast<int64_t>(i));
    LayerWeights& layer = layers[i];
    all.push_back({p + "self_attn.q_proj.weight", &layer.q_proj, 1});
    all.push_back({p + "self_attn.k_proj.weight", &layer.k_proj, 1});
    all.push_back({p + "self_attn.v_proj.weight", &layer.v_proj, 1});
    all.push_back({p + "self_attn.o_proj.weight", &layer.o_proj, 1});
    experts(p + "mlp.experts.gate_up_proj", layer.gate_up, layer.router.rows);
    experts(p + "mlp.experts.down_proj", layer.down, layer.router.rows);
  }
  all.push_back({"lm_head.weight", &lm_head, 1});
  return all;
}

Weights::Weights(const ModelConfig& config, const TensorMap& tensors,
                 const std::function<void(double)>& progress) {
  for (const WeightSlot& slot : WeightSlots(config)) CheckSlot(slot, Find(tensors, slot.name));
  embedding = Bf16Matrix(tensors, "model.embed_tokens.weight");
  final_norm = Vector(tensors, "model.norm.weight");
  lm_head = Bf16Matrix(tensors, "lm_head.weight");
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string p = LayerPrefix(i), attn = p + "self_attn.", mlp = p + "mlp.";
    LayerWeights& layer = layers.emplace_back();
    layer.input_norm = Vector(tensors, p + "input_layernorm.weight");
    layer.q_proj = Bf16Matrix(tensors, attn + "q_proj.weight");
    layer.k_proj = Bf16Matrix(tensors, attn + "k_proj.weight");
    layer.v_proj = Bf16Matrix(tensors, attn + "v_proj.weight");
    layer.q_bias = Vector(tensors, attn + "q_proj.bias");
    layer.k_bias = Vector(tensors, attn + "k_proj.bias");
    layer.v_bias = Vector(tensors, attn + "v_proj.bias");
    layer.o_proj = Bf16Matrix(tensors, attn + "o_proj.weight");
    layer.o_bias = Vector(tensors, attn + "o_proj.bias");
    layer.sinks = Vector(tensors, attn + "sinks");
    layer.post_attention_norm = Vector(tensors, p + "post_attention_layernorm.weight");
    layer.router = Bf16Matrix(tensors, mlp + "router.weight");
    layer.router_bias = Vector(tensors, mlp + "router.bias");
    layer.gate_up = BindExperts(mlp + "experts.gate_up_proj", config, tensors,
                                2 * config.intermediate_size, config.hidden_size);
    layer.gate_up_bias = Vector(tensors, mlp + "experts.gate_up_proj_bias");
    layer.down = BindExperts(mlp + "experts.down_proj", config, tensors, config.hidden_size,
                             config.intermediate_size);
    layer.down_bias = Vector(tensors, mlp + "experts.down_proj_bias");
    if (progress) progress(static_cast<double>(i + 1) / static_cast<double>(config.num_layers));
  }
}

}  // namespace motet
