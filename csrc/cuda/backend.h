// The CUDA backend: the ops as kernels put into a stream. Host-only.
#pragma once

#include <functional>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/sample.h"
#include "cuda/weight_store.h"
#include "cuda/workspace.h"
#include "ops/ops.h"

namespace motet::cuda {

// What the ops of one step need beyond their arguments, in the device's memory.
struct StepExtras {
  AttendTokensArgs few;  // tokens of many sequences; scratch is the backend's own
  const TokenRun* runs;  // [num_runs] tokens of prompts
  int num_runs;
  int64_t context;          // the most tokens that any of them sees
  const DrawParams* draws;  // [R]
  const PageCopy* copies;   // those of full layers, then those of sliding ones
};

class Backend {
 public:
  // Works on the device in use. Throws InvalidRequestError for a model whose shape no kernel has.
  // `precision` is kExact or kInt8, `cache_type` kF16 or kInt8.
  Backend(const ModelConfig& config, Precision precision, KvDtype cache_type,
          const StepLimits& limits, int device, Stream stream,
          std::function<void(double)> progress);

  // Copies the weights to the device; they refer to its memory from then on.
  void Prepare(Weights& weights);

  void SetStep(const StepExtras& extras) { extras_ = extras; }

  void CopyPages(const motet::CopyPagesArgs& args);
  void Embed(const motet::EmbedArgs& args);
  void Rotary(const motet::RotaryArgs& args);
  void Qkv(const motet::QkvArgs& args);
  void Attention(const motet::AttentionOpArgs& args);
  void OutProj(const motet::OutProjArgs& args);
  void Route(const motet::RouteArgs& args);
  void Moe(const motet::MoeArgs& args);
  void LmHead(const motet::LmHeadArgs& args);
  // A token for each of so many rows of logits.
  void Draw(int num_rows);

  const Workspace& workspace() const { return ws_; }
  static int64_t WorkspaceBytes(const ModelConfig& config, const StepLimits& limits);

 private:
  Rows Normed() const { return RowsIn(ws_.normed, config_.hidden_size); }
  Rows AttentionOut() const { return RowsIn(ws_.attention, config_.QuerySize()); }

  ModelConfig config_;
  Precision precision_;
  KvDtype cache_type_;
  int device_;
  Stream stream_;
  std::function<void(double)> progress_;
  WeightStore weights_;
  const LayerWeights* normed_ = nullptr;  // the layer whose norm of x is already there
  DeviceMemory memory_;
  Workspace ws_;
  DeviceMemory frequencies_;  // [head_dim/2] double
  double rope_scale_;
  StepExtras extras_{};
};

static_assert(motet::Backend<Backend>);

}  // namespace motet::cuda
