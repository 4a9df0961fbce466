// Hyper-parameters of a gpt-oss model, from config.json. Nothing about a model's size is
// hard-coded anywhere else.
#pragma once

#include <cstdint>
#include <vector>

namespace motet {

enum class Precision {
  kExact,  // matrix products in fixed point (base/fixed.h), cache in half precision
  kInt8,   // matrix products of 8-bit integers, dense weights too; the cache as in kExact
  kF32,    // nothing rounded, cache in float32: slow, proves the maths
};

// The KV cache's elements; ops/kv_page.h has the format.
enum class KvDtype {
  kAuto,  // kF16, or kF32 in that precision
  kF16,
  kF32,
  kInt8,  // half the bytes of kF16
};

// `dtype` without kAuto. Throws InvalidRequestError where it would round what a precision does not.
KvDtype ResolveKvDtype(KvDtype dtype, Precision precision);

struct ModelConfig {
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;
  int64_t sliding_window = 0;          // keys a sliding layer's query sees, itself included
  std::vector<bool> layer_is_sliding;  // [num_layers]
  double rms_norm_eps = 1e-5;
  double swiglu_limit = 7.0;
  int64_t max_position_embeddings = 0;
  double rope_theta = 150000.0;
  double rope_factor = 1.0;  // 1: plain RoPE, otherwise YaRN
  double rope_beta_fast = 32.0;
  double rope_beta_slow = 1.0;
  int64_t rope_original_max_position = 4096;
  bool rope_truncate = false;
  bool experts_mxfp4 = true;

  // Throws CheckpointError naming the value, what was expected and what was found.
  void Validate() const;

  int64_t QuerySize() const { return num_heads * head_dim; }
  int64_t KvSize() const { return num_kv_heads * head_dim; }
  int64_t HeadsPerKvHead() const { return num_heads / num_kv_heads; }
};

// Rotary embedding as one angular frequency a pair of dimensions (i, i + head_dim/2), in radians
// a position, and the factor by which YaRN scales cosine and sine.
struct RopeTable {
  std::vector<double> frequencies;  // [head_dim/2]
  double scale = 1.0;
};

// YaRN (arXiv 2309.00071), "NTK-by-parts" interpolation, with the attention factor 0.1 ln(s) + 1.
RopeTable MakeRopeTable(const ModelConfig& config);

}  // namespace motet
