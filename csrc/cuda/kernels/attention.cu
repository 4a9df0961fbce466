#include "cuda/kernels/attention.h"

#include <cmath>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/kernels/attention_runs.cuh"
#include "cuda/kernels/attention_tokens.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

// Calls f with head_dim as a compile-time constant.
template <class F>
void WithHeadDim(int head_dim, const F& f) {
  switch (head_dim) {
    case 16:
      return f(std::integral_constant<int, 16>());
    case 32:
      return f(std::integral_constant<int, 32>());
    case 48:
      return f(std::integral_constant<int, 48>());
    case 64:
      return f(std::integral_constant<int, 64>());
    case 80:
      return f(std::integral_constant<int, 80>());
    case 96:
      return f(std::integral_constant<int, 96>());
    case 112:
      return f(std::integral_constant<int, 112>());
    case 128:
      return f(std::integral_constant<int, 128>());
    default:
      throw std::invalid_argument("attention of head_dim " + std::to_string(head_dim));
  }
}

// Calls f with what reads a cache of this type.
template <class F>
void WithCache(KvDtype dtype, const F& f) {
  if (dtype == KvDtype::kInt8) return f(Int8Cache());
  return f(F16Cache());
}

float ScoreScale(int head_dim) {
  return static_cast<float>(1.44269504088896340736 / std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace

int64_t ChunksPerBlock(int64_t tokens, int kv_heads, int64_t num_chunks) {
  // Enough for a large GPU: about four blocks on each multiprocessor. Where each has one, blocks
  // that merge as they go cost less than more blocks and their partials, unless one is very long.
  constexpr int64_t kBlocks = 512, kBlocksThatMerge = 128, kMostChunks = 32, kFew = 2;
  const int64_t rows = tokens * kv_heads;
  if (rows >= kBlocksThatMerge || num_chunks <= kFew) return std::min(num_chunks, kMostChunks);
  return std::clamp<int64_t>(rows * num_chunks / kBlocks, 1, kMostChunks);
}

void AttendTokens(const AttentionArgs& args, const AttendTokensArgs& tokens, Stream stream) {
  if (tokens.count == 0) return;
  const int64_t per_block = tokens.chunks_per_block;
  const bool partials = per_block < tokens.num_chunks;
  const bool merge_apart = tokens.num_chunks > kMaxChunksOfLast;
  const int64_t token_bytes = AttentionScratchBytes(args.heads, args.head_dim, tokens.num_chunks);
  constexpr int64_t kMaxGrid = 65535;
  const int64_t at_once =
      partials ? std::min(tokens.scratch_bytes / token_bytes, kMaxGrid) : kMaxGrid;
  if (at_once == 0) throw std::invalid_argument("attention's scratch is too small for a token");
  const auto handle = static_cast<cudaStream_t>(stream);
  const int chunk_stride = static_cast<int>(tokens.num_chunks + tokens.num_chunks % 2);
  for (int64_t first = 0; first < tokens.count; first += at_once) {
    const int64_t count = std::min<int64_t>(at_once, tokens.count - first);
    auto* scratch = static_cast<float2*>(tokens.scratch);
    const TokenKernelArgs a = {
        args,
        tokens.tokens,
        static_cast<int>(first),
        ScoreScale(args.head_dim),
        args.heads / args.kv_heads,
        static_cast<int>(per_block),
        chunk_stride,
        scratch,
        reinterpret_cast<float*>(scratch + count * args.heads * chunk_stride),
        merge_apart ? nullptr : tokens.tickets};
    const dim3 blocks(static_cast<unsigned>((tokens.num_chunks + per_block - 1) / per_block),
                      static_cast<unsigned>(args.kv_heads), static_cast<unsigned>(count));
    WithCache(args.cache_type, [&]<class Cache>(Cache) {
      WithHeadDim(args.head_dim, [&](auto dim) {
        Launch(AttendTokensKernel<dim, Cache>,
               {blocks, kTokenThreads, sizeof(TokenShared<dim, Cache>)}, handle, a);
      });
    });
    if (!partials || !merge_apart) continue;
    const int warps = (args.head_dim + kMergeColumns - 1) / kMergeColumns;
    const dim3 grid(static_cast<unsigned>(args.heads), static_cast<unsigned>(count));
    Launch(MergeKernel,
           {grid, warps * kWarpSize, warps * static_cast<int64_t>(sizeof(MergeShared))}, handle, a);
  }
}

void AttendRuns(const AttentionArgs& args, int num_runs, const TokenRun* runs, Stream stream) {
  if (num_runs == 0) return;
  const RunKernelArgs a = {args, runs, ScoreScale(args.head_dim)};
  const dim3 grid(static_cast<unsigned>(args.kv_heads), static_cast<unsigned>(num_runs));
  WithCache(args.cache_type, [&]<class Cache>(Cache) {
    WithHeadDim(args.head_dim, [&](auto dim) {
      Launch(AttendRunsKernel<dim, Cache>,
             {grid, kRunThreads<dim, Cache>, sizeof(RunShared<dim, Cache>)},
             static_cast<cudaStream_t>(stream), a);
    });
  });
}

void SplitTokens(int num_tokens, const int32_t* positions, const int32_t* slots, int min_run,
                 int max_run, std::vector<int32_t>& tokens, std::vector<TokenRun>& runs) {
  tokens.clear();
  runs.clear();
  for (int first = 0, end = 0; first < num_tokens; first = end) {
    end = first + 1;
    if (slots[first] < 0) continue;
    while (end < num_tokens && slots[end] == slots[first] &&
           positions[end] == positions[end - 1] + 1) {
      ++end;
    }
    if (end - first < min_run) {
      for (int i = first; i < end; ++i) tokens.push_back(i);
    } else {
      for (int i = first; i < end; i += max_run) runs.push_back({i, std::min(max_run, end - i)});
    }
  }
}

}  // namespace motet::cuda
