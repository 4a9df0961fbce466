// Three kernels, whatever the rows ask for, so that a graph can hold them; blocks that have nothing
// to do for their row end at once. Blocks share a row, a chunk each:
//
//   1. the largest logit of each chunk
//   2. the token of greedy rows. Others: the weight of each chunk; without top_k and top_p, the
//      last block draws. With them it finds about where they cut, from a histogram by logit.
//   3. for these: tokens at or above that cut are listed; the last block cuts exactly, and draws.
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
constexpr int kListed = 4096;  // where more tokens pass, they are found among all again

// What blocks of a row leave for each other.
struct alignas(16) RowState {
  uint64_t histogram[kBins];  // by Weigher::Bin: weights, or where there is a top_k, counts
  uint64_t total;             // weight of all tokens
  Weigher weigher;
  uint32_t peak_bits;     // OrderedBits() of the largest logit
  int last_bin;           // the one with the cut; -1: the row has its token
  unsigned weighed;       // blocks that are done with kernel 2
  unsigned listed_by;     // and with kernel 3
  unsigned num_listed;    // may be more than fit
  float logits[kListed];  // in no order
  int32_t ids[kListed];
};

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
  if (threadIdx.x == 0) row.weighed = row.listed_by = row.num_listed = 0;
}

// The target of a draw: the token at which the running sum passes the uniform part of the total.
__device__ __forceinline__ uint64_t DrawTarget(const DrawParams& params, uint64_t total) {
  return MultiplyHigh(UniformBitsAt(params.seed, params.position) << 11, total) + 1;
}

__device__ __forceinline__ uint64_t TopPTarget(const DrawParams& params, uint64_t total) {
  const auto target = static_cast<uint64_t>(ceil(params.top_p * static_cast<double>(total)));
  return target < 1 ? 1 : target > total ? total : target;
}

// A draw from all tokens: first the chunk, then the token in it.
__device__ __forceinline__ void DrawFromAll(const SampleState& s, const DrawParams& params,
                                            const Weigher& weigher, uint64_t total,
                                            SelectShared& shared) {
  const uint64_t target = DrawTarget(params, total);
  const uint64_t* weights = s.Weights();
  const Cut chunk =
      Select(s.chunks, BitWidth(static_cast<uint64_t>(s.chunks)), target, shared,
             [&](int64_t i) { return Ranked{static_cast<uint64_t>(i), LoadFresh(weights + i)}; });
  const int64_t begin = static_cast<int64_t>(chunk.rank) * kChunk;
  const int64_t left = s.args.vocab - begin;
  const float* logits = s.Logits() + begin;
  const Cut token =
      Select(left < kChunk ? left : kChunk, BitWidth(kChunk), target - chunk.before, shared,
             [&](int64_t i) { return Ranked{static_cast<uint64_t>(i), weigher(logits[i])}; });
  if (threadIdx.x == 0) s.args.tokens[blockIdx.y] = static_cast<int32_t>(begin + token.rank);
}

__global__ void __launch_bounds__(kThreads) WeighKernel(SampleState s) {
  __shared__ SelectShared shared;
  __shared__ Weigher row_weigher;
  WaitForInputs();
  LetNextStart();
  RowState& row = s.Row();
  const DrawParams params = s.args.params[blockIdx.y];
  uint64_t peak = 0;
  for (int i = static_cast<int>(threadIdx.x); i < s.chunks; i += kThreads) {
    const uint64_t chunk = s.Peaks()[i];
    peak = chunk > peak ? chunk : peak;
  }
  peak = BlockMax(peak, shared);
  const float max = FromOrderedBits(static_cast<uint32_t>(peak >> 32));
  if (params.temperature < kGreedyTemperature || max == -kInfinity) {
    if (blockIdx.x > 0 || threadIdx.x > 0) return;
    s.args.tokens[blockIdx.y] = static_cast<int32_t>(~static_cast<uint32_t>(peak));
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
  for (int i = static_cast<int>(threadIdx.x); i < s.chunks; i += kThreads) {
    sum += LoadFresh(s.Weights() + i);
  }
  const uint64_t total = BlockSum(sum, shared);
  int last_bin = -1;
  if (cuts) {
    const auto bin = [&](int64_t i) {
      return Ranked{static_cast<uint64_t>(i), LoadFresh(row.histogram + i)};
    };
    uint64_t target = 0;
    if (params.top_k > 0) {
      const uint64_t count =
          BlockSum(bin(threadIdx.x).weight + bin(threadIdx.x + kThreads).weight, shared);
      const auto k = static_cast<uint64_t>(params.top_k);
      target = k < count ? k : count;
    } else {
      target = TopPTarget(params, total);
    }
    last_bin = static_cast<int>(Select(kBins, kBinBits, target, shared, bin).rank);
  } else {
    DrawFromAll(s, params, weigher, total, shared);
  }
  if (threadIdx.x > 0) return;
  row.total = total;
  row.weigher = weigher;
  row.peak_bits = static_cast<uint32_t>(peak >> 32);
  row.last_bin = last_bin;
}

// Tokens that top_k and top_p may leave: of the row's list, or where it ran over, of all.
struct Survivors {
  int64_t n;
  const float* logits;
  const int32_t* ids;  // null: all
  Weigher weigher;
  int last_bin;
  uint32_t peak_bits;
  int vocab_bits;

  __device__ __forceinline__ float Logit(int64_t i) const { return LoadFresh(logits + i); }
  __device__ __forceinline__ uint32_t Id(int64_t i) const {
    return ids ? static_cast<uint32_t>(LoadFresh(ids + i)) : static_cast<uint32_t>(i);
  }
  __device__ __forceinline__ uint64_t Weight(float x) const {
    const uint64_t weight = weigher(x);
    return weight > 0 && weigher.Bin(x) <= last_bin ? weight : 0;
  }
  // By logit, then lower id.
  __device__ __forceinline__ uint64_t Rank(float x, uint32_t id) const {
    return uint64_t{peak_bits - OrderedBits(x)} << vocab_bits | id;
  }
};

// Top_k, top_p and the draw, exactly.
__device__ __forceinline__ void DrawFromSurvivors(const SampleState& s, const Survivors& all,
                                                  uint64_t num_listed, uint64_t total,
                                                  SelectShared& shared) {
  const DrawParams params = s.args.params[blockIdx.y];
  uint64_t last = 0;  // the rank of the last token kept
  for (int64_t i = threadIdx.x; i < all.n; i += kThreads) {
    const float x = all.Logit(i);
    const uint64_t rank = all.Weight(x) > 0 ? all.Rank(x, all.Id(i)) : 0;
    last = rank > last ? rank : last;
  }
  last = BlockMax(last, shared);
  const int bits = BitWidth(last);
  const auto kept = [&](int64_t i) {
    const float x = all.Logit(i);
    const Ranked element{all.Rank(x, all.Id(i)), all.Weight(x)};
    return Ranked{element.rank, element.rank <= last ? element.weight : 0};
  };
  if (params.top_k > 0) {
    const auto k = static_cast<uint64_t>(params.top_k);
    if (k < num_listed) {
      last = Select(all.n, bits, k, shared, [&](int64_t i) {
               const Ranked element = kept(i);
               return Ranked{element.rank, element.weight > 0 ? uint64_t{1} : 0};
             }).rank;
    }
    uint64_t sum = 0;
    for (int64_t i = threadIdx.x; i < all.n; i += kThreads) sum += kept(i).weight;
    total = BlockSum(sum, shared);
  }
  if (params.top_p < 1.0) {
    const Cut cut = Select(all.n, bits, TopPTarget(params, total), shared, kept);
    last = cut.rank;
    total = cut.Reached();
  }
  const Cut token = Select(all.n, all.vocab_bits, DrawTarget(params, total), shared,
                           [&](int64_t i) { return Ranked{all.Id(i), kept(i).weight}; });
  if (threadIdx.x == 0) s.args.tokens[blockIdx.y] = static_cast<int32_t>(token.rank);
}

__global__ void __launch_bounds__(kThreads) CutKernel(SampleState s) {
  __shared__ SelectShared shared;
  WaitForInputs();
  LetNextStart();
  RowState& row = s.Row();
  const int last_bin = row.last_bin;
  if (last_bin < 0) return;
  const Weigher weigher = row.weigher;
  const auto survives = [&](float x) { return weigher(x) > 0 && weigher.Bin(x) <= last_bin; };
  // Places in the list: one addition a warp.
  unsigned n = 0;
  ForChunk(s, [&](uint32_t, float x) { n += survives(x) ? 1 : 0; });
  unsigned end = n;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const unsigned lower = ShuffleUp(end, distance);
    if (LaneIndex() >= distance) end += lower;
  }
  unsigned base = 0;
  if (LaneIndex() == kWarpSize - 1 && end > 0) base = atomicAdd(&row.num_listed, end);
  unsigned place = Shuffle(base, kWarpSize - 1) + end - n;
  if (n > 0) {
    ForChunk(s, [&](uint32_t id, float x) {
      if (!survives(x)) return;
      if (place < kListed) row.logits[place] = x, row.ids[place] = static_cast<int32_t>(id);
      ++place;
    });
  }
  if (!IsLastBlock(&row.listed_by, gridDim.x, shared)) return;
  const unsigned num_listed = LoadFresh(&row.num_listed);
  Survivors all{num_listed, row.logits, row.ids, weigher, last_bin, row.peak_bits, s.vocab_bits};
  if (num_listed > kListed) all.n = s.args.vocab, all.logits = s.Logits(), all.ids = nullptr;
  DrawFromSurvivors(s, all, num_listed, row.total, shared);
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
