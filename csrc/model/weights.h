// A model's weights as views into the (memory-mapped) checkpoint, bound by name with every dtype
// and shape checked. The list of names and shapes has its one home here: Python asks for it too.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "model/config.h"

namespace motet {

enum class DType { kBf16, kU8 };

const char* DTypeName(DType dtype);  // "BF16", "U8", as in safetensors headers

struct WeightSlot {
  std::string name;  // as published on the Hugging Face hub
  DType dtype;
  std::vector<int64_t> shape;
};

// A tensor handed in to be bound to a slot; the caller keeps its memory alive.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape;
  const void* data;  // null: a tensor of this shape whose values nobody has
};

using TensorMap = std::map<std::string, TensorView>;

// Every tensor that a checkpoint of this model has, in file order.
std::vector<WeightSlot> WeightSlots(const ModelConfig& config);

// All of them, without values.
TensorMap ShapesOnly(const ModelConfig& config);

struct LayerWeights {
  Bf16Vector input_norm;  // [hidden]
  WeightMatrix q_proj;    // [heads * head_dim, hidden]
  WeightMatrix k_proj;    // [kv_heads * head_dim, hidden]
  WeightMatrix v_proj;    // [kv_heads * head_dim, hidden]
  Bf16Vector q_bias, k_bias, v_bias;
  WeightMatrix o_proj;             // [hidden, heads * head_dim]
  Bf16Vector o_bias;               // [hidden]
  Bf16Vector sinks;                // [heads]
  Bf16Vector post_attention_norm;  // [hidden]
  WeightMatrix router;             // [experts, hidden]
  Bf16Vector router_bias;          // [experts]
  // Rows of gate_up alternate: row 2i is gate i, row 2i+1 is up i.
  ExpertMatrices gate_up;   // each [2 * intermediate, hidden]
  Bf16Vector gate_up_bias;  // [experts, 2 * intermediate]
  ExpertMatrices down;      // each [hidden, intermediate]
  Bf16Vector down_bias;     // [experts, hidden]
};

class Weights {
 public:
  // Throws CheckpointError for a tensor that is missing or has another dtype or shape. `progress`
  // is called with the fraction of layers bound.
  Weights(const ModelConfig& config, const TensorMap& tensors,
          const std::function<void(double)>& progress);

  WeightMatrix embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  Bf16Vector final_norm;  // [hidden]
  WeightMatrix lm_head;   // [vocab, hidden]

  // bf16 matrices that hidden states are multiplied by; not the router's, which stays in float.
  struct DenseMatrix {
    std::string name;
    WeightMatrix* matrix;
    int64_t count;  // so many follow each other: experts
  };
  std::vector<DenseMatrix> DenseMatrices();

 private:
  ExpertMatrices BindExperts(const std::string& name, const ModelConfig& config,
                             const TensorMap& tensors, int64_t rows, int64_t cols);

  // bf16 experts are published input-major and are transposed into memory of our own.
  std::vector<std::unique_ptr<uint16_t[]>> transposed_;
};

}  // namespace motet
