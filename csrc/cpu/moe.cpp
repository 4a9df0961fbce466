// Mixture of experts on the CPU: routing, and the experts' products with tokens grouped by expert
// so that a tile of weights is decoded once for all its tokens.
#include <algorithm>
#include <cmath>

#include "cpu/backend.h"

namespace motet {
namespace {

// Rows of a task. Two of them, gate and up, make an activation, and a task makes whole groups of
// fixed-point ones.
constexpr int64_t kGateUpRows = 2 * kFixedGroup * kFixedBlockSize;
constexpr int64_t kDownRows = 32;
constexpr int kTileTokens = 64;

// The k largest logits, ties to the lower index, and the softmax over them.
void TopExperts(const float* logits, int64_t experts, int64_t k, int32_t* chosen, float* weights) {
  for (int64_t i = 0; i < k; ++i) {
    int32_t best = -1;
    for (int32_t e = 0; e < experts; ++e) {
      if (std::find(chosen, chosen + i, e) != chosen + i) continue;
      if (best < 0 || logits[e] > logits[best]) best = e;
    }
    chosen[i] = best;
  }
  float sum = 0;
  for (int64_t i = 0; i < k; ++i) {
    weights[i] = std::exp(logits[chosen[i]] - logits[chosen[0]]);
    sum += weights[i];
  }
  for (int64_t i = 0; i < k; ++i) weights[i] /= sum;
}

}  // namespace

void CpuBackend::Route(const RouteArgs& args) {
  const int64_t hidden = config_.hidden_size, experts = config_.num_experts;
  const int64_t k = config_.experts_per_token;
  const WeightMatrix& w = args.layer->router;
  pool_.ParallelFor(args.tokens.num_tokens, [&](int64_t t) {
    float* normed = ws_.normed.data() + t * hidden;
    float* logits = ws_.router_logits.data() + t * experts;
    Norm(ws_.x.data() + t * hidden, args.layer->post_attention_norm, normed);
    kernels_.matmul(
        {w, args.layer->router_bias, 0, experts, 1, normed, hidden, nullptr, logits, experts});
    TopExperts(logits, experts, k, ws_.experts.data() + t * k, ws_.expert_weights.data() + t * k);
  });
}

void CpuBackend::GroupByExpert(const MoeArgs& args) {
  const int64_t k = config_.experts_per_token;
  const int64_t pairs = args.tokens.num_tokens * k;
  std::fill(expert_begin_.begin(), expert_begin_.end(), 0);
  for (int64_t i = 0; i < pairs; ++i) ++expert_begin_[ws_.experts[i] + 1];
  used_experts_.clear();
  for (int64_t e = 0; e < config_.num_experts; ++e) {
    if (expert_begin_[e + 1] > 0) used_experts_.push_back(static_cast<int32_t>(e));
    expert_begin_[e + 1] += expert_begin_[e];
  }
  // Filling moves each begin to its end; afterwards begins are shifted back by one expert.
  for (int64_t i = 0; i < pairs; ++i) {
    const int32_t pair = expert_begin_[ws_.experts[i]]++;
    pair_of_choice_[i] = pair;
    pair_token_[pair] = static_cast<int32_t>(i / k);
  }
  std::rotate(expert_begin_.begin(), expert_begin_.end() - 1, expert_begin_.end());
  expert_begin_[0] = 0;
}

template <class Body>
void CpuBackend::ForExpertTiles(int64_t rows, int64_t tile_rows, const Body& body) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  pool_.ParallelFor(static_cast<int64_t>(used_experts_.size()) * tiles, [&](int64_t task) {
    const int64_t expert = used_experts_[task / tiles];
    const int64_t begin = expert_begin_[expert], end = expert_begin_[expert + 1];
    const int64_t row = task % tiles * tile_rows;
    body(expert, begin, end - begin, row, std::min(row + tile_rows, rows));
  });
}

void CpuBackend::GateUp(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs,
                        int64_t row, int64_t row_end) {
  const int64_t hidden = config_.hidden_size, inter = config_.intermediate_size;
  const LayerWeights& w = *args.layer;
  const WeightMatrix weight = w.gate_up.Expert(expert);
  const Bf16Vector bias = w.gate_up_bias + expert * 2 * inter;
  const float limit = static_cast<float>(config_.swiglu_limit);
  const int64_t outputs = (row_end - row) / 2;
  float gate_up[kTileTokens * kGateUpRows];
  float activations[kGateUpRows / 2];
  for (int64_t p = pair0; p < pair0 + pairs; p += kTileTokens) {
    const int count = static_cast<int>(std::min<int64_t>(kTileTokens, pair0 + pairs - p));
    const int32_t* rows = pair_token_.data() + p;
    if (fixed()) {
      matmul_fixed_({weight, bias, row, row_end, count, fixed_inputs_.Row(0, hidden), rows, gate_up,
                     kGateUpRows});
    } else {
      kernels_.matmul({weight, bias, row, row_end, count, ws_.normed.data(), hidden, rows, gate_up,
                       kGateUpRows});
    }
    for (int i = 0; i < count; ++i) {
      const float* in = gate_up + i * kGateUpRows;
      if (!fixed()) {
        kernels_.swiglu({in, activations_.data() + (p + i) * inter + row / 2, outputs, limit});
        continue;
      }
      kernels_.swiglu({in, activations, outputs, limit});
      quantize_({activations, outputs, weight.format,
                 fixed_activations_.Row(p + i, inter, row / 2 / kFixedBlockSize)});
    }
  }
}

void CpuBackend::Down(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs,
                      int64_t row, int64_t row_end) {
  const int64_t hidden = config_.hidden_size, inter = config_.intermediate_size;
  const WeightMatrix weight = args.layer->down.Expert(expert);
  const Bf16Vector bias = args.layer->down_bias + expert * hidden;
  const int count = static_cast<int>(pairs);
  float* out = ws_.expert_out.data() + pair0 * hidden + row;
  if (fixed()) {
    matmul_fixed_({weight, bias, row, row_end, count, fixed_activations_.Row(pair0, inter), nullptr,
                   out, hidden});
  } else {
    kernels_.matmul({weight, bias, row, row_end, count, activations_.data() + pair0 * inter, inter,
                     nullptr, out, hidden});
  }
}

void CpuBackend::Moe(const MoeArgs& args) {
  const int64_t hidden = config_.hidden_size;
  const int64_t k = config_.experts_per_token;
  GroupByExpert(args);
  if (fixed()) {
    Quantize(ws_.normed.data(), hidden, args.layer->gate_up.first.format, args.tokens.num_tokens);
  }
  ForExpertTiles(2 * config_.intermediate_size, kGateUpRows,
                 [&](int64_t expert, int64_t pair0, int64_t pairs, int64_t row, int64_t row_end) {
                   GateUp(args, expert, pair0, pairs, row, row_end);
                 });
  ForExpertTiles(hidden, kDownRows,
                 [&](int64_t expert, int64_t pair0, int64_t pairs, int64_t row, int64_t row_end) {
                   Down(args, expert, pair0, pairs, row, row_end);
                 });
  pool_.ParallelFor(args.tokens.num_tokens, [&](int64_t t) {
    float* x = ws_.x.data() + t * hidden;
    for (int64_t j = 0; j < k; ++j) {
      const float weight = ws_.expert_weights[t * k + j];
      const float* out = ws_.expert_out.data() + pair_of_choice_[t * k + j] * hidden;
      for (int64_t i = 0; i < hidden; ++i) x[i] += weight * out[i];
    }
  });
}

}  // namespace motet
