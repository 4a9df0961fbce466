#include "cuda/kernels/embed.h"

#include "cuda/launch.h"
#include "cuda/primitives.h"

namespace motet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEmbedColumns = 4 * kThreads;  // of a block

unsigned Blocks(int64_t items, int64_t of_a_block) {
  return static_cast<unsigned>((items + of_a_block - 1) / of_a_block);
}

__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedArgs a) {
  WaitForInputs();
  LetNextStart();
  const int64_t token = blockIdx.x, first = int64_t{blockIdx.y} * kEmbedColumns;
  const uint16_t* row = a.embedding + a.ids[token] * a.hidden;
#pragma unroll
  for (int i = 0; i < kEmbedColumns; i += kThreads) {
    const int64_t column = first + i + threadIdx.x;
    if (column < a.hidden) {
      a.x[token * a.hidden + column] = BitsToFloat(uint32_t{row[column]} << 16);
    }
  }
}

__global__ void __launch_bounds__(kThreads) RotaryKernel(RotaryArgs a) {
  WaitForInputs();
  LetNextStart();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= int64_t{a.num_tokens} * a.half) return;
  // In half turns: any double is reduced exactly, without the table that sincos needs for large
  // ones. Rounding the quotient moves an angle of 10^5 by 10^-11.
  constexpr double kInversePi = 0.318309886183790671538;
  const double angle = a.positions[i / a.half] * a.frequencies[i % a.half];
  double sine, cosine;
  sincospi(angle * kInversePi, &sine, &cosine);
  a.cos[i] = static_cast<float>(cosine * a.scale);
  a.sin[i] = static_cast<float>(sine * a.scale);
}

// A thread copies the same bytes of every page, so copies are in order without waiting.
__global__ void __launch_bounds__(kThreads) CopyPagesKernel(CopyPagesArgs a) {
  WaitForInputs();
  LetNextStart();
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * sizeof(uint4);
  if (at >= a.page_bytes) return;
  char* pages = static_cast<char*>(a.pages) + blockIdx.y * a.array_stride + at;
  for (int i = 0; i < a.num_copies; ++i) {
    const PageCopy copy = a.copies[i];
    *reinterpret_cast<uint4*>(pages + copy.to * a.page_bytes) =
        *reinterpret_cast<const uint4*>(pages + copy.from * a.page_bytes);
  }
}

}  // namespace

void Embed(const EmbedArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const dim3 grid(static_cast<unsigned>(args.num_tokens), Blocks(args.hidden, kEmbedColumns));
  Launch(EmbedKernel, {grid, kThreads}, static_cast<cudaStream_t>(stream), args);
}

void Rotary(const RotaryArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const unsigned blocks = Blocks(int64_t{args.num_tokens} * args.half, kThreads);
  Launch(RotaryKernel, {dim3(blocks), kThreads}, static_cast<cudaStream_t>(stream), args);
}

void CopyPages(const CopyPagesArgs& args, Stream stream) {
  if (args.num_copies == 0) return;
  const dim3 grid(Blocks(args.page_bytes, kThreads * static_cast<int64_t>(sizeof(uint4))),
                  static_cast<unsigned>(args.num_arrays));
  Launch(CopyPagesKernel, {grid, kThreads}, static_cast<cudaStream_t>(stream), args);
}

}  // namespace motet::cuda
