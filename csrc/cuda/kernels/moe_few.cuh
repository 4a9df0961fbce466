// Products of the experts for few tokens each: bound by reading the weights, once. So some of them
// are on their way at all times.
//
// A unit is 16 rows of an expert's matrix and up to 16 of its tokens. A block takes a run of units,
// with a warp for each segment of the columns and one more that adds the segments. A warp keeps the
// weights of its next steps in registers: those of a step are followed by others as soon as they
// have been decoded, be these of the next unit. Those of the first are read before the inputs are
// there if it can know the expert.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

inline constexpr int kFewMoeThreads = (kSegments + 1) * kWarpSize;
// The most tiles of the lists; a thread reads one.
inline constexpr int kMaxFewTiles =
    static_cast<int>(MaxExpertTiles(kFewMoeTokens, kMaxExperts, kMaxExpertsPerToken));
static_assert(kMaxFewTiles <= kFewMoeThreads);

// Blocks on a multiprocessor, by registers.
inline constexpr int kFewMoeBlocks = 2;

// Tile `index` of the lists (in shared memory) and a unit of its rows.
struct FewUnit {
  int index, row;

  __device__ __forceinline__ void Advance(int units_of_tile) {
    if (++row < units_of_tile) return;
    row = 0;
    ++index;
  }
};

// Sums of the segments on their way to the warp that adds them: of a token, 16 rows, whose lanes
// are in different banks both when they write (by t) and when they read (by token).
struct FewSums {
  static constexpr int kTokenTiles = kFewTileTokens / kTokenTile;
  static constexpr int kBuffers = 2;  // one is written while the other is read
  static constexpr int kStride = kTileRows + 4;
  static constexpr int kTile = kTokenTile * kStride;  // of floats
  static constexpr int kBuffer = kSegments * kTokenTiles * kTile;
  static constexpr int kBytes = kBuffers * kBuffer * 4;

  __device__ __forceinline__ static int At(int segment, int token_tile) {
    return (segment * kTokenTiles + token_tile) * kTile;
  }
};

// What a warp does: the products of one segment of `num_units` units from `first` on, 1 or more.
template <class Tile>
class FewSegment {
 public:
  __device__ __forceinline__ FewSegment(const ExpertProduct& p, const ExpertTile* lists,
                                        int units_of_tile, FewUnit first, int num_units,
                                        int segment)
      : p_(p),
        lists_(lists),
        units_of_tile_(units_of_tile),
        first_step_(SegmentBegin(p.steps, segment)),
        steps_(SegmentBegin(p.steps, segment + 1) - first_step_),
        unit_(first),
        units_(num_units) {
    const Weights weights = WeightsOf(first, 0);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) Load(weights, i);
  }

  __device__ __forceinline__ void Run(float* sums) {
    while (units_ > 0) {
      const ExpertTile& work = lists_[unit_.index];
      if (work.count <= kTokenTile) {
        RunTile<1>(work, sums);
      } else {
        RunTile<FewSums::kTokenTiles>(work, sums);
      }
    }
  }

 private:
  static constexpr int kAtOnce = Tile::kAtOnce;

  // Tiles that follow each other: `at` is in vectors of 16 bytes.
  struct Weights {
    int at, steps;
  };

  // Rows that only fill up the output have no weights.
  __device__ __forceinline__ int StepsOf(const FewUnit& unit) const {
    return unit.row < p_.TileRows() ? steps_ : 0;
  }

  // From step `begin` of the segment on.
  __device__ __forceinline__ Weights WeightsOf(const FewUnit& unit, int begin) const {
    return {p_.TilesAt<Tile>(lists_[unit.index].expert, unit.row) +
                (first_step_ + begin) * (Tile::kBytes / 16),
            StepsOf(unit) - begin};
  }

  // What is to be read while steps from `begin` on are multiplied.
  __device__ __forceinline__ Weights WeightsAfter(int begin, int steps) const {
    if (begin + kAtOnce < steps) return WeightsOf(unit_, begin + kAtOnce);
    if (units_ == 1) return {0, 0};
    FewUnit next = unit_;
    next.Advance(units_of_tile_);
    return WeightsOf(next, 0);
  }

  __device__ __forceinline__ void Load(const Weights& weights, int i) {
    const auto* vectors = reinterpret_cast<const uint4*>(p_.weights) + weights.at;
    ring_[i][0].LoadIf(i < weights.steps,
                       reinterpret_cast<const uint8_t*>(vectors) + i * Tile::kBytes);
  }

  // Where the lane's columns of its token of a tile of them are. There are no tokens after the
  // last; whatever is multiplied instead of them, the last one here, has sums that nobody reads.
  __device__ __forceinline__ int InAt(const ExpertTile& work, int token_tile) const {
    const int token = token_tile * kTokenTile + LaneIndex() / 4;
    const int there = token < work.count ? token : work.count - 1;
    return p_.InAt(work.first + there) + first_step_ * kStepColumns + 8 * (LaneIndex() % 4);
  }

  // The units of one tile of the lists.
  template <int kTokenTiles>
  __device__ __forceinline__ void RunTile(const ExpertTile& work, float* sums) {
    int in_at[kTokenTiles];
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) in_at[n] = InAt(work, n);
    const auto read = [&](int i, int n, int block) {
      const uint16_t* in = p_.in.data + in_at[n];
      return *reinterpret_cast<const uint4*>(in + i * kStepColumns + 32 * block);
    };
    // Of one tile of tokens, there are registers for the next step's columns.
    constexpr bool kFetch = kTokenTiles == 1;
    uint4 fetched[2][2];
    const auto fetch = [&](int i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) fetched[i % 2][j] = read(i, 0, j);
    };
    if (kFetch) fetch(0);

    bool more;
    do {
      const int steps = StepsOf(unit_);
      float acc[1][kTokenTiles][4] = {};
      int begin = 0;
      do {
        const Weights ahead = WeightsAfter(begin, steps);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (begin + i < steps) {
            if (kFetch && i + 1 < kAtOnce && begin + i + 1 < steps) fetch(i + 1);
            MultiplyAdd(acc, ring_[i], [&](int n, int block) {
              return kFetch ? fetched[i % 2][block] : read(i, n, block);
            });
          }
          Load(ahead, i);
        }
        // To the next steps, or the first ones again.
        const int on = begin + kAtOnce < steps ? kAtOnce : -begin;
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) in_at[n] += on * kStepColumns;
        if (kFetch) fetch(0);
        begin += kAtOnce;
      } while (begin < steps);
      WriteSums(acc[0], sums);
      more = unit_.row + 1 < units_of_tile_;
      unit_.Advance(units_of_tile_);
      --units_;
    } while (more && units_ > 0);
  }

  template <int kTokenTiles>
  __device__ __forceinline__ void WriteSums(const float (&acc)[kTokenTiles][4], float* sums) const {
    // The sums that were in the buffer have been read: those before these are being read.
    const int g = LaneIndex() / 4, t = LaneIndex() % 4;
    sums += units_ % FewSums::kBuffers * FewSums::kBuffer + 2 * t * FewSums::kStride + g;
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      float* to = sums + FewSums::At(WarpIndex(), n);
      to[0] = acc[n][0];
      to[FewSums::kStride] = acc[n][1];
      to[8] = acc[n][2];
      to[FewSums::kStride + 8] = acc[n][3];
    }
    __syncthreads();
  }

  const ExpertProduct& p_;
  const ExpertTile* lists_;
  const int units_of_tile_, first_step_, steps_;
  FewUnit unit_;
  int units_;
  Tile ring_[kAtOnce][1];  // as MultiplyAdd takes them
};

// What the last warp does. Calls output.StoreFour(pair, row, values of four rows); row may be past
// the last.
template <class Tile, class Output>
__device__ __forceinline__ void AddSegments(const ExpertProduct& p, const ExpertTile* lists,
                                            int units_of_tile, FewUnit unit, int units,
                                            const float* sums, const Output& output) {
  const int token = LaneIndex() % kTokenTile, quarter = LaneIndex() / kTokenTile;
  for (; units > 0; --units) {
    const ExpertTile& work = lists[unit.index];
    const int first_row = unit.row * kTileRows + 4 * quarter;
    float scale[4], bias[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = first_row + j;
      scale[j] = p.Unit<Tile>(work.expert, row);
      bias[j] = p.Bias(work.expert, row);
    }
    __syncthreads();
    const float* from = sums + units % FewSums::kBuffers * FewSums::kBuffer +
                        token * FewSums::kStride + 4 * quarter;
    for (int n = 0; n * kTokenTile + token < work.count; ++n) {
      float sum[4] = {};
#pragma unroll
      for (int s = 0; s < kSegments; ++s) {
        const float4 more = *reinterpret_cast<const float4*>(from + FewSums::At(s, n));
        sum[0] = Add(sum[0], more.x);
        sum[1] = Add(sum[1], more.y);
        sum[2] = Add(sum[2], more.z);
        sum[3] = Add(sum[3], more.w);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[j] = Add(Multiply(sum[j], scale[j]), bias[j]);
      output.StoreFour(work.first + n * kTokenTile + token, first_row,
                       {sum[0], sum[1], sum[2], sum[3]});
    }
    unit.Advance(units_of_tile);
  }
}

// `units_of_tile` units of rows for each of the lists' `max_tiles` tiles.
template <class Tile, class Output>
__global__ void __launch_bounds__(kFewMoeThreads, kFewMoeBlocks)
    MoeFewKernel(ExpertProduct p, int units_of_tile, int max_tiles, Output output) {
  auto* sums = reinterpret_cast<float*>(SharedMemory());
  __shared__ ExpertTile lists[kMaxFewTiles];
  if (!p.lists_are_old) WaitForInputs();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < max_tiles) lists[thread] = p.Work(thread);
  __syncthreads();
  const int num_units = Shuffle(lists[0].used, 0) * units_of_tile;
  // Blocks that share a multiprocessor, which are a grid's first and second halves, take runs that
  // follow each other: no two blocks with one more unit than others, and often the same tokens.
  constexpr unsigned kBlocks = kFewMoeBlocks;
  const unsigned multiprocessors = gridDim.x / kBlocks;
  const unsigned place =
      blockIdx.x >= multiprocessors * kBlocks
          ? blockIdx.x
          : blockIdx.x % multiprocessors * kBlocks + blockIdx.x / multiprocessors;
  const auto begin_of = [&](unsigned i) {
    return static_cast<int>(i * static_cast<unsigned>(num_units) / gridDim.x);
  };
  const int begin = begin_of(place), count = begin_of(place + 1) - begin;
  const FewUnit unit{begin / units_of_tile, begin % units_of_tile};
  const int segment = Shuffle(WarpIndex(), 0);
  if (count == 0 || segment == kSegments) {
    if (p.lists_are_old) WaitForInputs();
    LetNextStart();
    if (segment == kSegments) {
      AddSegments<Tile>(p, lists, units_of_tile, unit, count, sums, output);
    }
    return;
  }
  FewSegment<Tile> product(p, lists, units_of_tile, unit, count, segment);
  if (p.lists_are_old) WaitForInputs();
  LetNextStart();
  product.Run(sums);
}

}  // namespace motet::cuda
