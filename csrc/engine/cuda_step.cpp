#include "engine/cuda_step.h"

#include <algorithm>
#include <cstring>

namespace motet {
namespace {

constexpr int64_t kAlignment = 16;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The most that a step's lists take, each aligned.
int64_t MaxBytes(const cuda::StepLimits& limits) {
  const int64_t per_token = 4 * static_cast<int64_t>(sizeof(int32_t)) + sizeof(cuda::TokenRun);
  const int64_t per_row = sizeof(int32_t) + sizeof(cuda::DrawParams);
  constexpr int64_t kLists = 8;
  return limits.tokens * per_token + limits.logit_rows * per_row +
         2 * limits.sequences * static_cast<int64_t>(sizeof(PageCopy)) + kLists * kAlignment;
}

}  // namespace

CudaStep::CudaStep(const ModelConfig& config, const cuda::StepLimits& limits)
    : config_(config),
      pages_per_sequence_((limits.context + kPageTokens - 1) / kPageTokens),
      pinned_(MaxBytes(limits), "a step"),
      device_(MaxBytes(limits), "a step") {
  const int64_t entries = limits.sequences * pages_per_sequence_;
  for (PageTable* table : {&full_, &sliding_}) {
    table->device =
        cuda::DeviceMemory(entries * static_cast<int64_t>(sizeof(int32_t)), "page tables");
    table->held.assign(entries, -1);
  }
  const auto bytes = 2 * entries * static_cast<int64_t>(sizeof(cuda::PageChange));
  changes_ = cuda::PinnedMemory(bytes, "page tables");
  device_changes_ = cuda::DeviceMemory(bytes, "page tables");
  tokens_.reserve(limits.tokens);
  runs_.reserve(limits.tokens);
}

void CudaStep::Fill(const BatchPlan& plan, const StepShape& shape, bool all_tokens) {
  shape_ = shape;
  used_ = 0;
  // Room for `count` of T, of which plan has `given` and the rest are `filler`; where it is on the
  // device.
  const auto put = [&]<class T>(const T* values, int64_t given, int64_t count, T filler) {
    T* host = pinned_.as<T>(used_);
    const T* there = device_.as<T>(used_);
    std::copy_n(values, given, host);
    std::fill(host + given, host + count, filler);
    used_ = Aligned(used_ + count * static_cast<int64_t>(sizeof(T)));
    return there;
  };
  const int tokens = plan.num_tokens, rows = plan.num_logit_rows;
  inputs_.tokens = {shape.tokens, put(plan.token_ids.data(), tokens, shape.tokens, 0),
                    put(plan.positions.data(), tokens, shape.tokens, 0),
                    put(plan.slots.data(), tokens, shape.tokens, -1)};
  inputs_.num_logit_rows = shape.logit_rows;
  inputs_.logit_rows = put(plan.logit_rows.data(), rows, shape.logit_rows, 0);
  inputs_.full_pages = full_.device.as<int32_t>();
  inputs_.sliding_pages = sliding_.device.as<int32_t>();
  inputs_.pages_per_sequence = pages_per_sequence_;
  inputs_.full_copies = plan.full_copies;
  inputs_.sliding_copies = plan.sliding_copies;

  cuda::DrawParams* draws = pinned_.as<cuda::DrawParams>(used_);
  extras_.draws = device_.as<cuda::DrawParams>(used_);
  for (int i = 0; i < shape.logit_rows; ++i) {
    draws[i] = {0, 1, 0, 0, 0, 0};  // a row that nobody draws from costs least where it is greedy
    if (i >= rows || !plan.draws[i].wanted) continue;
    const Draw& d = plan.draws[i];
    draws[i] = {d.temperature, d.top_p, d.min_p, d.top_k, d.seed, d.position};
  }
  used_ = Aligned(used_ + shape.logit_rows * static_cast<int64_t>(sizeof(cuda::DrawParams)));

  extras_.context = shape.context;
  extras_.few = {};
  extras_.few.count = shape.tokens;
  extras_.num_runs = 0;
  if (all_tokens) return;
  cuda::SplitTokens(tokens, plan.positions.data(), plan.slots.data(), cuda::kMinRunTokens,
                    cuda::MaxRunTokens(static_cast<int>(config_.num_heads),
                                       static_cast<int>(config_.num_kv_heads),
                                       static_cast<int>(config_.head_dim)),
                    tokens_, runs_);
  extras_.few.count = static_cast<int>(tokens_.size());
  extras_.few.tokens = put(tokens_.data(), extras_.few.count, extras_.few.count, 0);
  extras_.num_runs = static_cast<int>(runs_.size());
  extras_.runs = put(runs_.data(), extras_.num_runs, extras_.num_runs, cuda::TokenRun{});
  extras_.copies = device_.as<PageCopy>(used_);
  for (const auto* copies : {&plan.full_copies, &plan.sliding_copies}) {
    const auto bytes = static_cast<int64_t>(copies->size() * sizeof(PageCopy));
    std::memcpy(pinned_.as<char>(used_), copies->data(), static_cast<size_t>(bytes));
    used_ += bytes;
  }
}

void CudaStep::Copy(cuda::Stream stream) const {
  cuda::CopyToDevice(device_.as<char>(), pinned_.as<char>(), used_, stream);
}

void CudaStep::FindChanges(const int32_t* pages, const BatchPlan& plan, PageTable& table) {
  for (int t = 0; t < plan.num_tokens; ++t) {
    // Of a sequence's tokens in the step the last one sees all of its pages.
    if (t + 1 < plan.num_tokens && plan.slots[t + 1] == plan.slots[t]) continue;
    const int64_t row = plan.slots[t] * pages_per_sequence_;
    const int64_t end = row + plan.positions[t] / kPageTokens + 1;
    for (int64_t at = row; at < end; ++at) {
      // What is behind a window is -1 here and is not read there.
      if (pages[at] == table.held[at] || pages[at] < 0) continue;
      table.held[at] = pages[at];
      changes_.as<cuda::PageChange>()[num_changes_++] = {static_cast<int32_t>(at), pages[at]};
    }
  }
}

void CudaStep::CopyPageTables(const BatchPlan& plan, cuda::Stream stream) {
  num_changes_ = 0;
  FindChanges(plan.full_pages, plan, full_);
  const int64_t full_changes = num_changes_;
  FindChanges(plan.sliding_pages, plan, sliding_);
  if (num_changes_ == 0) return;
  cuda::CopyToDevice(device_changes_.as<char>(), changes_.as<char>(),
                     num_changes_ * static_cast<int64_t>(sizeof(cuda::PageChange)), stream);
  const auto* changes = device_changes_.as<cuda::PageChange>();
  cuda::ApplyPageChanges({full_.device.as<int32_t>(), changes, full_changes}, stream);
  cuda::ApplyPageChanges(
      {sliding_.device.as<int32_t>(), changes + full_changes, num_changes_ - full_changes}, stream);
}

}  // namespace motet
