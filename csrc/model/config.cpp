#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "base/error.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

// Far above any published model, low enough that products of three sizes fit in 63 bits.
constexpr int64_t kMaxSize = int64_t{1} << 20;

void Require(bool ok, const std::string& what, const std::string& expected, double found) {
  if (ok) return;
  std::string text = std::to_string(found);
  if (found == std::floor(found) && std::abs(found) < 1e15) {
    text = std::to_string(static_cast<int64_t>(found));
  }
  throw CheckpointError("invalid configuration", what, expected, text);
}

// Each layer costs slots and buffers before any tensor is looked at.
constexpr int64_t kMaxLayers = 1024;

void RequireSize(int64_t value, const char* name, int64_t largest = kMaxSize) {
  Require(value >= 1 && value <= largest, name, "1.." + std::to_string(largest),
          static_cast<double>(value));
}

}  // namespace

void ModelConfig::Validate() const {
  RequireSize(num_layers, "num_hidden_layers", kMaxLayers);
  RequireSize(hidden_size, "hidden_size");
  RequireSize(intermediate_size, "intermediate_size");
  RequireSize(num_heads, "num_attention_heads");
  RequireSize(num_kv_heads, "num_key_value_heads");
  RequireSize(head_dim, "head_dim");
  RequireSize(num_experts, "num_local_experts");
  RequireSize(sliding_window, "sliding_window");
  Require(vocab_size >= 1 && vocab_size <= kMaxSize * 16, "vocab_size", "1..16777216",
          static_cast<double>(vocab_size));
  Require(max_position_embeddings >= 1 && max_position_embeddings <= (int64_t{1} << 24),
          "max_position_embeddings", "1..16777216", static_cast<double>(max_position_embeddings));
  Require(num_heads * head_dim <= kMaxSize, "num_attention_heads * head_dim",
          "at most " + std::to_string(kMaxSize), static_cast<double>(num_heads * head_dim));
  Require(num_heads % num_kv_heads == 0, "num_attention_heads",
          "a multiple of num_key_value_heads (" + std::to_string(num_kv_heads) + ")",
          static_cast<double>(num_heads));
  Require(head_dim % 8 == 0, "head_dim", "a multiple of 8", static_cast<double>(head_dim));
  Require(head_dim <= 256, "head_dim", "at most 256", static_cast<double>(head_dim));
  Require(experts_per_token >= 1 && experts_per_token <= num_experts, "num_experts_per_tok",
          "1..num_local_experts (" + std::to_string(num_experts) + ")",
          static_cast<double>(experts_per_token));
  Require(static_cast<int64_t>(layer_is_sliding.size()) == num_layers, "layer_types",
          std::to_string(num_layers) + " entries", static_cast<double>(layer_is_sliding.size()));
  if (experts_mxfp4) {
    Require(hidden_size % kMxfp4BlockSize == 0, "hidden_size", "a multiple of 32",
            static_cast<double>(hidden_size));
    Require(intermediate_size % kMxfp4BlockSize == 0, "intermediate_size", "a multiple of 32",
            static_cast<double>(intermediate_size));
  }
  Require(rms_norm_eps > 0 && rms_norm_eps < 1, "rms_norm_eps", "0 < eps < 1", rms_norm_eps);
  Require(swiglu_limit > 0 && std::isfinite(swiglu_limit), "swiglu_limit", "a positive number",
          swiglu_limit);
  Require(rope_theta > 1 && std::isfinite(rope_theta), "rope_theta", "a number above 1",
          rope_theta);
  Require(rope_factor >= 1 && std::isfinite(rope_factor), "rope factor", "at least 1", rope_factor);
  Require(rope_beta_fast > rope_beta_slow && rope_beta_slow > 0 && std::isfinite(rope_beta_fast),
          "rope beta_fast", "above beta_slow, both positive", rope_beta_fast);
  Require(rope_original_max_position >= 1 && rope_original_max_position <= (int64_t{1} << 24),
          "rope original_max_position_embeddings", "1..16777216",
          static_cast<double>(rope_original_max_position));
}

KvDtype ResolveKvDtype(KvDtype dtype, Precision precision) {
  if (precision != Precision::kF32) return dtype == KvDtype::kAuto ? KvDtype::kF16 : dtype;
  if (dtype == KvDtype::kAuto || dtype == KvDtype::kF32) return KvDtype::kF32;
  throw InvalidRequestError("kv_cache_dtype",
                            "kv_cache_dtype: expected 'auto' with precision='f32', which rounds "
                            "nothing, found 'int8'");
}

RopeTable MakeRopeTable(const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  const double dim = static_cast<double>(config.head_dim);
  RopeTable table;
  table.frequencies.resize(half);
  // The (fractional) pair index whose wave turns `rotations` times over the original context.
  const auto pair_at = [&](double rotations) {
    const double length = static_cast<double>(config.rope_original_max_position);
    return dim * std::log(length / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  const bool yarn = config.rope_factor > 1;
  double low = pair_at(config.rope_beta_fast), high = pair_at(config.rope_beta_slow);
  if (config.rope_truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;  // a ramp of no width would divide by zero
  for (int64_t i = 0; i < half; ++i) {
    const double plain = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / dim);
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    table.frequencies[i] = yarn ? plain * (1 - ramp) + plain / config.rope_factor * ramp : plain;
  }
  if (yarn) table.scale = 0.1 * std::log(config.rope_factor) + 1;
  return table;
}

}  // namespace motet
