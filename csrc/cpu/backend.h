// The CPU backend: the ops over a team of threads and a table of kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"
#include "model/config.h"
#include "ops/ops.h"

namespace motet {

// Fixed-point rows of `size` values.
struct FixedBuffer {
  FixedBuffer(int64_t rows, int64_t size)
      : blocks(FixedBlocks(size)),
        integers(rows * blocks * kFixedBlockSize),
        scales(rows * blocks) {}

  FixedRows Row(int64_t i) {
    return {integers.data() + i * blocks * kFixedBlockSize, scales.data() + i * blocks};
  }
  int64_t bytes() const { return static_cast<int64_t>(integers.size() * 2 + scales.size() * 4); }

  int64_t blocks;
  std::vector<int16_t> integers;
  std::vector<float> scales;
};

class CpuBackend {
 public:
  // `max_tokens` is the most tokens that an op will be given.
  CpuBackend(const ModelConfig& config, Precision precision, int threads, int64_t max_tokens);

  void Embed(const EmbedArgs& args);
  void Rotary(const RotaryArgs& args);
  void Qkv(const QkvArgs& args);
  void Attention(const AttentionOpArgs& args);
  void OutProj(const OutProjArgs& args);
  void Route(const RouteArgs& args);
  void Moe(const MoeArgs& args);
  void LmHead(const LmHeadArgs& args);

  int64_t bytes() const;  // of scratch memory
  const KernelTable& kernels() const { return kernels_; }
  int threads() const { return pool_.size(); }

 private:
  struct MatmulOp {
    WeightMatrix weight;
    Bf16Vector bias;
    const float* x;  // [tokens, cols]
    float* out;      // [tokens, rows]
  };
  // The products of one step share a loop over all their rows.
  template <int N>
  void Matmuls(const MatmulOp (&ops)[N], int tokens);
  void Norm(const float* x, Bf16Vector weight, float* out);
  void GroupByExpert(const MoeArgs& args);
  // Calls body(expert, first pair, pairs, first row) for each tile of each expert in use.
  template <class Body>
  void ForExpertTiles(int64_t rows, int64_t tile_rows, const Body& body);
  template <class Element>
  void Append(const QkvArgs& args, int64_t token);
  // The expert activations [pairs, intermediate] of rows [row, row_end) of gate and up.
  void GateUp(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs, int64_t row,
              int64_t row_end);
  void Down(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs, int64_t row,
            int64_t row_end);
  // Whether the experts' inputs are fixed-point.
  bool fixed_experts() const { return precision_ == Precision::kExact && config_.experts_mxfp4; }

  ModelConfig config_;
  Precision precision_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  // (token, choice) pairs of a step, grouped by expert in order of tokens.
  std::vector<int32_t> pair_of_choice_;  // [T, experts_per_token] -> pair
  std::vector<int32_t> pair_token_;      // [T * experts_per_token]
  std::vector<int32_t> expert_begin_;    // [experts + 1] first pair
  std::vector<int32_t> used_experts_;    // those with pairs
  FixedBuffer fixed_inputs_;             // [T, hidden]
  FixedBuffer fixed_activations_;        // [pairs, intermediate]
  std::vector<float> activations_;       // [pairs, intermediate] where the experts are not fixed
};

static_assert(Backend<CpuBackend>);

}  // namespace motet
