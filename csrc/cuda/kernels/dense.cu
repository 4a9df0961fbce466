#include "cuda/kernels/dense.h"

#include <initializer_list>

#include "cuda/device.h"
#include "cuda/kernels/dense_few.cuh"
#include "cuda/kernels/dense_many.cuh"
#include "cuda/kernels/dense_store.cuh"

namespace motet::cuda {
namespace {

template <class Weights>
using Shape64x32 = ManyShape<Weights, 2, 2, 4>;
template <class Weights>
using Shape128x64 = ManyShape<Weights, 4, 2, 8>;
template <class Weights>
using Shape256x64 = ManyShape<Weights, 8, 2, 8>;

// Matrices of one format, one below the other; all but the last have whole tiles of rows.
DenseProduct Product(int num_tokens, const Rows& in, std::initializer_list<WeightMatrix> matrices) {
  const WeightFormat format = matrices.begin()->format;
  const auto steps = static_cast<int>(in.stride / kStepColumns);
  const uint8_t* weights = matrices.begin()->data;
  DenseProduct p{format, num_tokens, steps, 0, false, in, weights, {}, {}};
  int i = 0;
  for (const WeightMatrix& matrix : matrices) {
    p.first_vector[i] = static_cast<int>((matrix.data - weights) / kVectorBytes);
    p.first_tile[i++] = p.row_tiles;
    p.row_tiles += static_cast<int>((matrix.rows + kTileRows - 1) / kTileRows);
  }
  for (; i < DenseProduct::kMatrices; ++i) p.first_tile[i] = p.row_tiles;
  p.prefetch = p.row_tiles * steps * TileBytes(format) <= CurrentDevice().l2_bytes * 2 / 3;
  return p;
}

// The shape that takes the least time if all blocks of one take the same, as many at a time as
// there are multiprocessors.
DenseShape BestShape(const DenseProduct& p) {
  using W = F16Weights;  // shapes are as large for all
  if (p.num_tokens <= kFewTokens) return DenseShape::k16x8;
  if (p.num_tokens <= Shape64x32<W>::kTokens) return DenseShape::k64x32;
  struct Candidate {
    DenseShape shape;
    int rows, tokens;
    int time;  // of a block: arithmetic, and bytes of a step by the second-level cache's rate
  };
  constexpr Candidate kCandidates[] = {
      {DenseShape::k256x64, Shape256x64<W>::kRows, Shape256x64<W>::kTokens, 7},
      {DenseShape::k128x64, Shape128x64<W>::kRows, Shape128x64<W>::kTokens, 4},
      {DenseShape::k64x32, Shape64x32<W>::kRows, Shape64x32<W>::kTokens, 2},
  };
  const auto quotient = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  DenseShape best = DenseShape::kAuto;
  int64_t least = 0;
  for (const Candidate& c : kCandidates) {
    const int64_t blocks =
        quotient(p.row_tiles * kTileRows, c.rows) * quotient(p.num_tokens, c.tokens);
    const int64_t time = c.time * quotient(blocks, CurrentDevice().multiprocessors);
    if (best != DenseShape::kAuto && time >= least) continue;
    best = c.shape;
    least = time;
  }
  return best;
}

template <class Weights, class Store>
void RunShape(const DenseProduct& p, const Store& store, DenseShape shape, Stream stream) {
  switch (shape) {
    case DenseShape::k256x64:
      return LaunchManyTokens<Shape256x64<Weights>>(p, store, stream);
    case DenseShape::k128x64:
      return LaunchManyTokens<Shape128x64<Weights>>(p, store, stream);
    case DenseShape::k64x32:
      return LaunchManyTokens<Shape64x32<Weights>>(p, store, stream);
    default:
      return LaunchFewTokens<Weights>(p, store, stream);
  }
}

template <class Store>
void Run(const DenseProduct& p, const Store& store, DenseShape shape, Stream stream) {
  if (p.num_tokens == 0) return;
  if (shape == DenseShape::kAuto) shape = BestShape(p);
  if (p.format == WeightFormat::kInt8) {
    RunShape<Int8Weights>(p, store, shape, stream);
  } else {
    RunShape<F16Weights>(p, store, shape, stream);
  }
}

}  // namespace

void Qkv(const QkvArgs& args, Stream stream) {
  const DenseProduct p = Product(args.num_tokens, args.in, {args.q, args.k, args.v});
  const auto run = [&]<bool kCached>(StoreQkv<kCached> store) {
    store.a = args, store.first_k = p.first_tile[1], store.first_v = p.first_tile[2];
    Run(p, store, args.shape, stream);
  };
  args.kv == nullptr ? run(StoreQkv<true>()) : run(StoreQkv<false>());
}

void OutProj(const OutProjArgs& args, Stream stream) {
  Run(Product(args.num_tokens, args.in, {args.weight}), StoreOutProj{args}, args.shape, stream);
}

void LmHead(const LmHeadArgs& args, Stream stream) {
  Run(Product(args.num_rows, args.in, {args.weight}), StoreLogits{args}, args.shape, stream);
}

}  // namespace motet::cuda
