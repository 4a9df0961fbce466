#include "cuda/kernels/moe.h"

#include "cuda/device.h"
#include "cuda/kernels/combine.h"
#include "cuda/kernels/moe_few.cuh"
#include "cuda/kernels/moe_many.cuh"
#include "cuda/kernels/moe_output.cuh"
#include "cuda/kernels/moe_wide.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

template <class Tile, class Output>
void LaunchFew(const ExpertProduct& product, int64_t out_rows, int64_t max_tiles,
               const Output& output, cudaStream_t stream) {
  const int64_t units = (out_rows + kTileRows - 1) / kTileRows;
  const int64_t blocks =
      std::min(units * max_tiles, int64_t{kFewMoeBlocks} * CurrentDevice().multiprocessors);
  Launch(MoeFewKernel<Tile, Output>,
         {dim3(static_cast<unsigned>(blocks)), kFewMoeThreads, FewSums::kBytes}, stream, product,
         static_cast<int>(units), static_cast<int>(max_tiles), output);
}

template <class Tile, class Output>
void LaunchProduct(const MoeArgs& args, const ExpertProduct& product, int64_t out_rows,
                   const Output& output, cudaStream_t stream) {
  const int64_t tiles = MaxExpertTiles(args.num_tokens, args.num_experts, args.experts_per_token);
  if (AreFewMoeTokens(args.num_tokens)) {
    return LaunchFew<Tile>(product, out_rows, tiles, output, stream);
  }
  const auto blocks = [&](int rows) {
    return dim3(static_cast<unsigned>((out_rows + rows - 1) / rows), static_cast<unsigned>(tiles));
  };
  if constexpr (Tile::kWide) {
    if (args.kernel == MoeKernel::kWarpgroupMma ||
        (args.kernel == MoeKernel::kAuto && HasWarpgroups())) {
      Launch(MoeWideKernel<Tile, Output>,
             {blocks(kWideRows), kMoeThreads,
              WideStages<Tile, kManyMoeTokens>::kBytes + kWideAlignment},
             stream, product, output);
      return;
    }
  }
  using Stage = ManyStage<Tile>;
  static_assert(Stage::kAllBytes <= kSharedEverywhere);
  Launch(MoeManyKernel<Tile, Output>, {blocks(Stage::kRows), kMoeThreads, Stage::kAllBytes}, stream,
         product, output);
}

template <class Tile>
void MoeOf(const MoeArgs& args, cudaStream_t stream) {
  const int64_t hidden = args.down.rows, intermediate = args.down.cols;
  const int64_t pairs = int64_t{args.num_tokens} * args.experts_per_token;
  const Rows activations = RowsIn(args.scratch, intermediate);
  auto* down =
      reinterpret_cast<float*>(static_cast<char*>(args.scratch) + RowsBytes(pairs, intermediate));
  const auto product = [&](const WeightMatrix& w, const uint16_t* bias, const Rows& in,
                           const int32_t* in_row) {
    return ExpertProduct{
        w.data, bias,   static_cast<int>(w.rows), static_cast<int>(in.stride / kStepColumns),
        in,     in_row, args.lists.tiles,         in_row == nullptr};
  };
  LaunchProduct<Tile>(args,
                      product(args.gate_up, args.gate_up_bias, args.normed, args.lists.pair_token),
                      2 * activations.stride, ActivationOutput{activations, args.limit}, stream);
  LaunchProduct<Tile>(args, product(args.down, args.down_bias, activations, nullptr), hidden,
                      FloatOutput{down, static_cast<int>(hidden)}, stream);
  Combine({args.num_tokens, args.experts_per_token, static_cast<int>(hidden), down, args.weights,
           args.lists.pair_of_choice, args.x, args.next_norm},
          stream);
}

}  // namespace

int64_t MoeScratchBytes(int num_tokens, int experts_per_token, int64_t hidden,
                        int64_t intermediate) {
  const int64_t pairs = int64_t{num_tokens} * experts_per_token;
  return RowsBytes(pairs, intermediate) + pairs * hidden * static_cast<int64_t>(sizeof(float));
}

void Moe(const MoeArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  switch (args.down.format) {
    case WeightFormat::kMxfp4:
      return MoeOf<Mxfp4Tile>(args, cuda_stream);
    case WeightFormat::kBf16:
      return MoeOf<DenseTile<F16Weights>>(args, cuda_stream);
    case WeightFormat::kInt8:
      return MoeOf<DenseTile<Int8Weights>>(args, cuda_stream);
  }
}

}  // namespace motet::cuda
