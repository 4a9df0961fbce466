// Attention over the paged cache, in two kernels that give a token the same bits.
//
// A layer's keys, and its values, are pages of [kv_heads, kPageTokens, head_dim] half precision, or
// of 8-bit integers (int8_page.cuh). The keys that a token sees are cut into chunks of kChunkKeys
// at absolute positions. The partial of a chunk is, for one query head,
//   max     of the scores q · k / sqrt(head_dim), times log2(e)
//   sum     of p = f16(2^(score * log2(e) - max))
//   values  sum of p v
// and depends on nothing but the query and the chunk. Chunks are merged in ascending order,
// starting from the sink (max: the sink, sum 1, values 0).
//
// AttendTokens gives some chunks of a token a block, and merges afterwards, or as it goes where
// these are all: for decoding. AttendRuns gives a run of tokens of one sequence a block, which
// merges as it goes and reads keys and values once for all of them: for prompts.
//
// The kernel that goes before may write the query, and keys and values of the step's tokens;
// everything else that is read here must be older (see launch.h).
//
// Slots of a page after a sequence's last position may hold anything, NaN too. Tokens with a
// negative slot are not there: AttendTokens makes zeros of them. Rows of tokens that neither is
// given are left as they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/memory.h"
#include "cuda/rows.h"
#include "ops/ops.h"

namespace motet::cuda {

inline constexpr int kChunkPages = 4;
inline constexpr int kChunkKeys = kChunkPages * kPageTokens;
inline constexpr int kMaxGroup = 16;  // query heads a KV head

struct AttentionArgs {
  const int32_t* positions;  // [T]
  const int32_t* slots;      // [T]
  LayerCache cache;
  KvDtype cache_type;     // kF16 or kInt8
  const uint16_t* q;      // [T, heads, head_dim] half precision, after RoPE
  const uint16_t* sinks;  // [heads] bf16
  int heads, kv_heads;    // up to kMaxGroup heads a KV head
  int head_dim;           // a multiple of 16 up to 128
  Rows out;               // [T, heads * head_dim]
};

// Chunks that a token sees at most, where contexts have up to `context` tokens.
constexpr int64_t NumChunks(int64_t context, int64_t window) {
  const int64_t all = (context + kChunkKeys - 1) / kChunkKeys;
  return window == 0 ? all : std::min(all, (window + kChunkKeys - 2) / kChunkKeys + 1);
}

// Up to this many chunks a block merges that ends last, more are a kernel's of their own.
inline constexpr int64_t kMaxChunksOfLast = 32;

// Scratch of one token. With room for several, AttendTokens takes as many at a time.
constexpr int64_t AttentionScratchBytes(int heads, int head_dim, int64_t num_chunks) {
  return heads * (num_chunks + num_chunks % 2) * (head_dim + 2) * 4;
}

// Chunks that a block of AttendTokens takes best. For the bits it does not matter.
int64_t ChunksPerBlock(int64_t tokens, int kv_heads, int64_t num_chunks);

struct AttendTokensArgs {
  int count;
  const int32_t* tokens;  // [count], or null: tokens 0 to count - 1
  int64_t num_chunks;     // at least those that any of them sees
  int64_t chunks_per_block;
  void* scratch;  // not needed where a block takes all chunks
  int64_t scratch_bytes;
  unsigned* tickets;  // [count, kv_heads] zeros, and zeros again afterwards
};
void AttendTokens(const AttentionArgs& args, const AttendTokensArgs& tokens, Stream stream);

// Tokens [first, first + count) of one sequence, their positions one after the other.
struct TokenRun {
  int32_t first, count;
};

constexpr int MaxRunTokens(int heads, int kv_heads, int head_dim) {
  return (head_dim <= 112 ? 128 : 64) / (heads / kv_heads);  // 99 KB of shared memory
}

// `runs` is on the device; each of up to MaxRunTokens tokens.
void AttendRuns(const AttentionArgs& args, int num_runs, const TokenRun* runs, Stream stream);

// Tokens that follow each other in a sequence: with fewer, AttendTokens fills the GPU better.
inline constexpr int kMinRunTokens = 16;

// Divides the tokens of a step among the two: what belongs to min_run or more tokens of a sequence
// is cut into runs, the rest are tokens. (Host pointers; the lists are cleared first.)
void SplitTokens(int num_tokens, const int32_t* positions, const int32_t* slots, int min_run,
                 int max_run, std::vector<int32_t>& tokens, std::vector<TokenRun>& runs);

}  // namespace motet::cuda
