// The CPU backend: the ops over a team of threads and a table of kernels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "cpu/large_buffer.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"
#include "model/config.h"
#include "ops/ops.h"

namespace motet {

// Room for rows of integers of up to `size` values.
class FixedBuffer {
 public:
  FixedBuffer(Precision precision, int64_t rows, int64_t size)
      : integer_bytes_(precision == Precision::kInt8 ? 1 : 2),
        integers_(rows * FixedBlocks(size) * kFixedBlockSize * integer_bytes_),
        scales_(rows * FixedBlocks(size)),
        starts_(scales_.size()) {}

  // Row i from a block on and the rows after it, where rows have `size` values.
  FixedRows Row(int64_t i, int64_t size, int64_t block = 0) {
    const int64_t at = i * FixedBlocks(size) + block;
    return {integers_.data() + at * kFixedBlockSize * integer_bytes_, scales_.data() + at,
            starts_.data() + at};
  }
  int64_t bytes() const {
    return static_cast<int64_t>(integers_.size() + scales_.size() * 4 + starts_.size() * 4);
  }

 private:
  int64_t integer_bytes_;
  std::vector<uint8_t> integers_;
  std::vector<float> scales_;
  std::vector<int32_t> starts_;
};

class CpuBackend {
 public:
  // Ops will be given at most so many tokens and rows of logits.
  CpuBackend(const ModelConfig& config, Precision precision, KvDtype kv_dtype, int threads,
             int64_t max_tokens, int64_t max_logit_rows);

  // Makes what the weights' products need beforehand and keeps it; `weights` refer to it from then
  // on. Throws CheckpointError for weights that are not finite.
  void Prepare(Weights& weights);

  void CopyPages(const CopyPagesArgs& args);
  void Embed(const EmbedArgs& args);
  void Rotary(const RotaryArgs& args);
  void Qkv(const QkvArgs& args);
  void Attention(const AttentionOpArgs& args);
  void OutProj(const OutProjArgs& args);
  void Route(const RouteArgs& args);
  void Moe(const MoeArgs& args);
  void LmHead(const LmHeadArgs& args);

  // Of the last LmHead, [vocab].
  std::span<const float> Logits(int row) const;
  int64_t bytes() const;  // of the workspace and of what Prepare keeps
  const KernelTable& kernels() const { return kernels_; }
  int threads() const { return pool_.size(); }

 private:
  struct MatmulOp {
    WeightMatrix weight;
    Bf16Vector bias;
    float* out;  // [tokens, rows]
  };
  // Products of the same x [tokens, cols], which share a loop over all their rows.
  template <int N>
  void Matmuls(const MatmulOp (&ops)[N], const float* x, int tokens);
  // x [tokens, size] -> fixed_inputs_, for weights of a format.
  void Quantize(const float* x, int64_t size, WeightFormat weights, int tokens);
  void Norm(const float* x, Bf16Vector weight, float* out);
  void GroupByExpert(const MoeArgs& args);
  // Calls body(expert, first pair, pairs, first row) for each tile of each expert in use.
  template <class Body>
  void ForExpertTiles(int64_t rows, int64_t tile_rows, const Body& body);
  // Writes one token's key and value into its page.
  void Append(const QkvArgs& args, int64_t token);
  // The expert activations [pairs, intermediate] of rows [row, row_end) of gate and up.
  void GateUp(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs, int64_t row,
              int64_t row_end);
  void Down(const MoeArgs& args, int64_t expert, int64_t pair0, int64_t pairs, int64_t row,
            int64_t row_end);
  // Both throw as Prepare does.
  void PrepareScales(Weights& weights);
  void PrepareInt8(Weights& weights);
  // Whether products are of integers.
  bool fixed() const { return precision_ != Precision::kF32; }

  ModelConfig config_;
  Precision precision_;
  KvDtype kv_dtype_;  // not kAuto
  RopeTable rope_;
  Workspace ws_;
  const KernelTable& kernels_;
  void (*const matmul_fixed_)(const FixedMatmulArgs&);  // the precision's
  void (*const quantize_)(const QuantizeArgs&);
  ThreadPool pool_;
  // (token, choice) pairs of a step, grouped by expert in order of tokens.
  std::vector<int32_t> pair_of_choice_;  // [T, experts_per_token] -> pair
  std::vector<int32_t> pair_token_;      // [T * experts_per_token]
  std::vector<int32_t> expert_begin_;    // [experts + 1] first pair
  std::vector<int32_t> used_experts_;    // those with pairs
  FixedBuffer fixed_inputs_;             // [T, hidden] or [T, heads * head_dim]
  FixedBuffer fixed_activations_;        // [pairs, intermediate]
  std::vector<float> activations_;       // [pairs, intermediate] where products are of floats
  LargeBuffer dense_;  // of the dense matrices, one after the other: scales; int8 mode: all
};

static_assert(Backend<CpuBackend>);

}  // namespace motet
