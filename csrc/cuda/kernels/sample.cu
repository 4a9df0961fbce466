// Three kernels, whatever the rows ask for, so that a graph can hold them; blocks that have nothing
// to do for their row end at once. Blocks share a row, a chunk each:
//
//   1. the largest logit of each chunk
//   2. the token of greedy rows. Others: the weight of each chunk; without top_k and top_p, the
//      last block draws. With them it finds about where they cut, from a histogram by logit.
//   3. for these: tokens about the cut are listed; the last block cuts exactly, and draws.
#include "cuda/kernels/sample.h"

#include <bit>

#include "base/random.h"
#include "cuda/kernels/select.cuh"
#include "cuda/kernels/weigher.cuh"
#include "cuda/launch.h"
#include "ops/sample.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = kSelectThreads;
constexpr int kVector = 4;
constexpr int kPerThread = 16;
constexpr int kChunk = kThreads * kPerThread;
constexpr int kListed = 8192;  // where more tokens pass, they are found among all again

// What blocks of a row leave for each other.
struct alignas(16) RowState {
  uint64_t histogram[kBins];  // by Weigher::Bin: weights, or where there is a top_k, counts
  Weigher weigher;
  uint32_t peak_bits;  // OrderedBits() of the largest logit
  // Both cuts fall into bins first to last. last = -1: the row has its token.
  int first_bin, last_bin;
  uint64_t before;      // weight of the bins before
  uint64_t total;       // and of all
  unsigned weighed;     // blocks that are done with kernel 2
  unsigned listed;      // and with kernel 3
  unsigned num_listed;  // may be more than fit
  uint4 list[kListed];  // Ranked, in no order
};

__device__ __forceinline__ uint4 Pack(const Ranked& x) {
  return {static_cast<uint32_t>(x.rank), static_cast<uint32_t>(x.rank >> 32),
          static_cast<uint32_t>(x.weight), static_cast<uint32_t>(x.weight >> 32)};
}
__device__ __forceinline__ Ranked Unpack(const uint4& v) {
  return {uint64_t{v.y} << 32 | v.x, uint64_t{v.w} << 32 | v.z};
}

struct SampleState {
  SampleArgs args;
  int chunks;         // of a row
  int vocab_bits;     // vocab < 2^vocab_bits
  RowState* rows;     // [num_rows]
  uint64_t* peaks;    // [num_rows, chunks] OrderedBits(largest logit), ~(its token)
  uint64_t* weights;  // [num_rows, chunks]

  __device__ __forceinline__ const float* Logits() const {
    return args.logits + blockIdx.y * args.vocab;
  }
  __device__ __forceinline__ RowState& Row() const { return rows[blockIdx.y]; }
  __device__ __forceinline__ uint64_t* Peaks() const {
    return peaks + int64_t{blockIdx.y} * chunks;
  }
  __device__ __forceinline__ uint64_t* Weights() const {
    return weights + int64_t{blockIdx.y} * chunks;
  }
};

// f(id, logit) for the tokens of this block's chunk, kPerThread in each thread; beyond the
// vocabulary the logit is -inf.
template <class F>
__device__ __forceinline__ void ForChunk(const SampleState& s, F f) {
  const float* logits = s.Logits();
  const int64_t vocab = s.args.vocab;
  const int64_t begin = int64_t{blockIdx.x} * kChunk + kVector * threadIdx.x;
  float x[kPerThread / kVector][kVector];
#pragma unroll
  for (int i = 0; i < kPerThread / kVector; ++i) {
    const int64_t id = begin + i * kThreads * kVector;
    if (vocab % kVector == 0) {
      const float4 v = id < vocab ? *reinterpret_cast<const float4*>(logits + id)
                                  : float4{-kInfinity, -kInfinity, -kInfinity, -kInfinity};
      x[i][0] = v.x, x[i][1] = v.y, x[i][2] = v.z, x[i][3] = v.w;
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) x[i][j] = id + j < vocab ? logits[id + j] : -kInfinity;
    }
  }
#pragma unroll
  for (int i = 0; i < kPerThread / kVector; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      f(static_cast<uint32_t>(begin + i * kThreads * kVector + j), x[i][j]);
    }
  }
}

__global__ void __launch_bounds__(kThreads) PeakKernel(SampleState s) {
  __shared__ SelectShared shared;
  WaitForInputs();
  LetNextStart();
  uint64_t peak = 0;
  ForChunk(s, [&](uint32_t id, float x) {
    const uint64_t candidate = uint64_t{OrderedBits(x)} << 32 | ~id;
    peak = candidate > peak ? candidate : peak;
  });
  peak = BlockMax(peak, shared);
  if (threadIdx.x == 0) s.Peaks()[blockIdx.x] = peak;
  if (blockIdx.x > 0) return;
  RowState& row = s.Row();
  for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) {
    row.histogram[bin] = 0;
  }
  if (threadIdx.x == 0) row.weighed = row.listed = row.num_listed = 0;
}

// The target of a draw: the token at which the running sum passes the uniform part of the total.
__device__ __forceinline__ uint64_t DrawTarget(const DrawParams& params, uint64_t total) {
  return MultiplyHigh(UniformBitsAt(params.seed, params.position) << 11, total) + 1;
}

__device__ __forceinline__ uint64_t TopPTarget(const DrawParams& params, uint64_t total) {
  const auto target = static_cast<uint64_t>(ceil(params.top_p * static_cast<double>(total)));
  return target < 1 ? 1 : target > total ? total : target;
}

// A draw by weight(id, logit), whose sums are Weights() for each chunk and `total` for all: first
// the chunk, then the token in it, of which each thread has kPerThread in a row.
template <class Weight>
__device__ __forceinline__ void Draw(const SampleState& s, uint64_t total, SelectShared& shared,
                                     Weight weight) {
  const uint64_t* weights = s.Weights();
  const uint64_t target = DrawTarget(s.args.params[blockIdx.y], total);
  const Cut chunk =
      FindReached(s.chunks, target, shared, [&](int64_t i) { return LoadFresh(weights + i); });
  const int64_t begin = static_cast<int64_t>(chunk.rank) * kChunk + kPerThread * threadIdx.x;
  const float* logits = s.Logits();
  float x[kPerThread];
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    x[i] = begin + i < s.args.vocab ? logits[begin + i] : -kInfinity;
  }
  uint64_t sum = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) sum += weight(static_cast<uint32_t>(begin + i), x[i]);
  const uint64_t before = chunk.before + BlockScan(sum, shared).before;
  if (before >= target || before + sum < target) return;
  sum = before;
  int64_t id = begin;
  for (;; ++id) {
    sum += weight(static_cast<uint32_t>(id), logits[id]);
    if (sum >= target) break;
  }
  s.args.tokens[blockIdx.y] = static_cast<int32_t>(id);
}

__global__ void __launch_bounds__(kThreads, 4) WeighKernel(SampleState s) {
  __shared__ SelectShared shared;
  __shared__ Weigher row_weigher;
  WaitForInputs();
  LetNextStart();
  RowState& row = s.Row();
  const DrawParams params = s.args.params[blockIdx.y];
  const bool greedy = params.temperature < kGreedyTemperature;
  if (greedy && blockIdx.x > 0) return;
  uint64_t peak = 0;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < s.chunks; i += kThreads) {
    const uint64_t chunk = s.Peaks()[i];
    peak = chunk > peak ? chunk : peak;
  }
  peak = BlockMax(peak, shared);
  const float max = FromOrderedBits(static_cast<uint32_t>(peak >> 32));
  if (greedy || max == -kInfinity) {
    if (blockIdx.x > 0 || threadIdx.x > 0) return;
    const auto token = static_cast<int32_t>(~static_cast<uint32_t>(peak));
    s.args.tokens[blockIdx.y] = max == -kInfinity ? kNoToken : token;
    row.last_bin = -1;
    return;
  }
  const bool cuts = params.top_k > 0 || params.top_p < 1.0;
  if (threadIdx.x == 0) row_weigher = Weigher(params, max, s.vocab_bits);
  shared.histogram.Clear();
  __syncthreads();
  const Weigher weigher = row_weigher;
  uint64_t sum = 0;
  ForChunk(s, [&](uint32_t, float x) {
    const uint64_t weight = weigher(x);
    sum += weight;
    if (cuts && weight > 0) shared.histogram.Add(weigher.Bin(x), params.top_k > 0 ? 1 : weight);
  });
  sum = BlockSum(sum, shared);
  if (threadIdx.x == 0) s.Weights()[blockIdx.x] = sum;
  if (cuts) {
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) {
      const uint64_t value = shared.histogram.At(bin);
      if (value > 0) {
        atomicAdd(reinterpret_cast<unsigned long long*>(&row.histogram[bin]),
                  static_cast<unsigned long long>(value));
      }
    }
  }
  if (!IsLastBlock(&row.weighed, gridDim.x, shared)) return;
  sum = 0;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < s.chunks; i += kThreads) {
    sum += LoadFresh(s.Weights() + i);
  }
  const uint64_t total = BlockSum(sum, shared);
  if (!cuts) {
    Draw(s, total, shared, [&](uint32_t, float x) { return weigher(x); });
    if (threadIdx.x == 0) row.last_bin = -1;
    return;
  }
  const auto bin = [&](int64_t i) { return LoadFresh(row.histogram + i); };
  uint64_t target = TopPTarget(params, total);
  if (params.top_k > 0) {
    const uint64_t count = BlockSum(bin(threadIdx.x) + bin(threadIdx.x + kThreads), shared);
    const auto k = static_cast<uint64_t>(params.top_k);
    target = k < count ? k : count;
  }
  const Cut cut = FindReached(kBins, target, shared, bin);
  if (threadIdx.x > 0) return;
  row.weigher = weigher;
  row.peak_bits = static_cast<uint32_t>(peak >> 32);
  row.last_bin = static_cast<int>(cut.rank);
  // Where top_k's cut is, top_p's is not known: it may be in any bin before.
  row.first_bin = params.top_k > 0 ? 0 : row.last_bin;
  row.before = params.top_k > 0 ? 0 : cut.before;
  row.total = total;
}

// What kernel 3 knows of tokens.
struct Ranking {
  Weigher weigher;
  uint32_t peak_bits;
  int first_bin, last_bin, vocab_bits;

  // By logit, then lower id.
  __device__ __forceinline__ uint64_t Rank(uint32_t id, float x) const {
    return uint64_t{peak_bits - OrderedBits(x)} << vocab_bits | id;
  }
  __device__ __forceinline__ uint32_t Id(uint64_t rank) const {
    return static_cast<uint32_t>(rank) & ((1u << vocab_bits) - 1);
  }
  // With weight 0 where its bin is not among those with the cuts.
  __device__ __forceinline__ Ranked operator()(uint32_t id, float x) const {
    const int bin = weigher.Bin(x);
    if (bin < first_bin || bin > last_bin) return {0, 0};
    return {Rank(id, x), weigher(x)};
  }
};

// Top_k and top_p, exactly, among the tokens at(0) to at(n - 1) of the bins with the cuts, and the
// draw.
template <class At>
__device__ __forceinline__ void CutAndDraw(const SampleState& s, const Ranking& ranking, int64_t n,
                                           SelectShared& shared, At at) {
  const RowState& row = s.Row();
  const DrawParams params = s.args.params[blockIdx.y];
  uint64_t last = 0;  // the rank of the last token kept
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const Ranked token = at(i);
    last = token.weight > 0 && token.rank > last ? token.rank : last;
  }
  last = BlockMax(last, shared);
  const int bits = BitWidth(last);
  uint64_t total = row.total;
  const auto kept = [&](int64_t i) {
    const Ranked token = at(i);
    return Ranked{token.rank, token.rank <= last ? token.weight : 0};
  };
  if (params.top_k > 0) {
    const auto k = static_cast<uint64_t>(params.top_k);
    if (k < LoadFresh(&row.num_listed)) {
      last = Select(n, bits, k, shared, [&](int64_t i) {
               const Ranked token = at(i);
               return Ranked{token.rank, token.weight > 0 ? uint64_t{1} : 0};
             }).rank;
    }
    uint64_t sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += kept(i).weight;
    total = BlockSum(sum, shared);
  }
  if (params.top_p < 1.0) {
    const Cut cut = Select(n, bits, TopPTarget(params, total) - row.before, shared, kept);
    last = cut.rank;
    total = row.before + cut.Reached();
  }
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const Ranked token = kept(i);
    if (token.weight == 0) continue;
    atomicAdd(reinterpret_cast<unsigned long long*>(s.Weights() + ranking.Id(token.rank) / kChunk),
              static_cast<unsigned long long>(token.weight));
  }
  __threadfence();
  __syncthreads();
  Draw(s, total, shared, [&](uint32_t id, float x) {
    return ranking.weigher.Bin(x) <= ranking.last_bin && ranking.Rank(id, x) <= last
               ? ranking.weigher(x)
               : 0;
  });
}

__global__ void __launch_bounds__(kThreads, 4) CutKernel(SampleState s) {
  __shared__ SelectShared shared;
  WaitForInputs();
  LetNextStart();
  RowState& row = s.Row();
  if (row.last_bin < 0) return;
  const Ranking ranking{row.weigher, row.peak_bits, row.first_bin, row.last_bin, s.vocab_bits};
  uint64_t sum = 0;  // the weight of this chunk before the cuts
  unsigned n = 0;
  ForChunk(s, [&](uint32_t id, float x) {
    if (ranking.weigher.Bin(x) < ranking.first_bin) sum += ranking.weigher(x);
    n += ranking(id, x).weight > 0 ? 1 : 0;
  });
  sum = BlockSum(sum, shared);
  if (threadIdx.x == 0) s.Weights()[blockIdx.x] = sum;
  // Places in the list: one addition a warp.
  unsigned end = n;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const unsigned lower = ShuffleUp(end, distance);
    if (LaneIndex() >= distance) end += lower;
  }
  unsigned place = 0;
  if (LaneIndex() == kWarpSize - 1 && end > 0) place = atomicAdd(&row.num_listed, end);
  place = Shuffle(place, kWarpSize - 1) + end - n;
  if (n > 0) {
    ForChunk(s, [&](uint32_t id, float x) {
      const Ranked token = ranking(id, x);
      if (token.weight == 0) return;
      if (place < kListed) row.list[place] = Pack(token);
      ++place;
    });
  }
  if (!IsLastBlock(&row.listed, gridDim.x, shared)) return;
  const unsigned num_listed = LoadFresh(&row.num_listed);
  if (num_listed <= kListed) {
    CutAndDraw(s, ranking, num_listed, shared,
               [&](int64_t i) { return Unpack(LoadFresh(row.list + i)); });
  } else {
    const float* logits = s.Logits();
    CutAndDraw(s, ranking, s.args.vocab, shared,
               [&](int64_t i) { return ranking(static_cast<uint32_t>(i), logits[i]); });
  }
}

int64_t Chunks(int64_t vocab) { return (vocab + kChunk - 1) / kChunk; }

}  // namespace

int64_t SampleScratchBytes(int64_t num_rows, int64_t vocab) {
  return num_rows * (static_cast<int64_t>(sizeof(RowState)) +
                     2 * Chunks(vocab) * static_cast<int64_t>(sizeof(uint64_t)));
}

void Sample(const SampleArgs& args, Stream stream) {
  if (args.num_rows == 0) return;
  const auto chunks = static_cast<int>(Chunks(args.vocab));
  auto* rows = static_cast<RowState*>(args.scratch);
  auto* peaks = reinterpret_cast<uint64_t*>(rows + args.num_rows);
  const SampleState state{
      args, chunks, static_cast<int>(std::bit_width(static_cast<uint64_t>(args.vocab))),
      rows, peaks,  peaks + int64_t{args.num_rows} * chunks};
  const LaunchShape shape{dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(args.num_rows)),
                          kThreads};
  const auto on = static_cast<cudaStream_t>(stream);
  Launch(PeakKernel, shape, on, state);
  Launch(WeighKernel, shape, on, state);
  Launch(CutKernel, shape, on, state);
}

}  // namespace motet::cuda
