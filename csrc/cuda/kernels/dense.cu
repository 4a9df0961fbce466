#include "cuda/kernels/dense.h"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>

#include "cuda/device.h"
#include "cuda/kernels/dense_few.cuh"
#include "cuda/kernels/dense_many.cuh"
#include "cuda/kernels/dense_store.cuh"
#include "cuda/kernels/dense_wide.cuh"

namespace motet::cuda {
namespace {

template <class Weights>
using Shape32x32 = ManyShape<Weights, 1, 1, 4>;
template <class Weights>
using Shape64x64 = ManyShape<Weights, 2, 1, 8>;
template <class Weights>
using Shape128x128 = ManyShape<Weights, 4, 2, 8>;

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

// The shape that takes the least time if blocks come in waves, as many at a time as there is room
// for, and all of a shape take the same.
template <class Weights>
DenseShape BestShape(const DenseProduct& p) {
  if (p.num_tokens <= kFewTokens) return DenseShape::k16x8;
  const DeviceProperties& device = CurrentDevice();
  DenseShape best = DenseShape::kAuto;
  int64_t least = 0;
  // `time` is that of a block's share of a multiprocessor: arithmetic, and bytes from the
  // second-level cache, which count for more in small blocks.
  const auto consider = [&]<class Shape>(Shape, DenseShape shape, int time) {
    const auto quotient = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    constexpr int64_t kReservedShared = 1 << 10;  // of each block, by the system
    const int64_t fit = device.shared_bytes / (Shape::kSharedBytes + kReservedShared);
    const int64_t at_once = std::clamp<int64_t>(fit, 1, Shape::kBlocksAtOnce);
    const int64_t blocks =
        quotient(p.row_tiles, Shape::kBlockTiles) * quotient(p.num_tokens, Shape::kTokens);
    const int64_t total = time * at_once * quotient(blocks, device.multiprocessors * at_once);
    if (best != DenseShape::kAuto && total >= least) return;
    best = shape;
    least = total;
  };
  consider(Shape128x128<Weights>(), DenseShape::k128x128, 9);
  consider(Shape64x64<Weights>(), DenseShape::k64x64, 5);
  consider(Shape32x32<Weights>(), DenseShape::k32x32, 2);
  return best;
}

template <class Weights, class Store>
void RunShape(const DenseProduct& p, const Store& store, DenseShape shape, Stream stream) {
  if (shape == DenseShape::kAuto) shape = BestShape<Weights>(p);
  switch (shape) {
    case DenseShape::k128x128:
      return LaunchManyTokens<Shape128x128<Weights>>(p, store, stream);
    case DenseShape::k64x64:
      return LaunchManyTokens<Shape64x64<Weights>>(p, store, stream);
    case DenseShape::k32x32:
      return LaunchManyTokens<Shape32x32<Weights>>(p, store, stream);
    case DenseShape::kWide128x64:
      if constexpr (DenseTile<Weights>::kWide) return LaunchWide<Weights>(p, store, stream);
      break;
    default:
      return LaunchFewTokens<Weights>(p, store, stream);
  }
  throw std::invalid_argument("a shape that these weights do not have");
}

template <class Store>
void Run(const DenseProduct& p, const Store& store, DenseShape shape, Stream stream) {
  if (p.num_tokens == 0) return;
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
