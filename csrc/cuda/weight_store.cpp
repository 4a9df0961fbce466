#include "cuda/weight_store.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "cuda/device.h"
#include "cuda/kernels/dummy.h"
#include "cuda/kernels/pack_mxfp4.h"
#include "cuda/weight_layout.h"

namespace motet::cuda {
namespace {

// A thread can't read mapped files as fast as the bus takes them; so many can.
constexpr int kLoaders = 4;
constexpr int64_t kPieceBytes = 32 << 20;

// Rows [row, row + rows) of matrix `index`, or whole matrices from there on.
struct Piece {
  const PlacedWeight* weight;
  int64_t index, count;
  int64_t row, rows;
};

// Rows of a piece must make whole tiles, and whole heads where they are reordered.
int64_t RowUnit(const PlacedWeight& w, int64_t head_dim) {
  if (w.kind == PlacedWeight::Kind::kPlain) return 1;
  return w.order == RowOrder::kRope ? head_dim : kTileRows;
}

void Cut(const PlacedWeight& w, int64_t head_dim, std::vector<Piece>& pieces) {
  const int64_t matrix_bytes = w.rows * w.SourceRowBytes();
  if (matrix_bytes <= kPieceBytes) {
    const int64_t several = std::max<int64_t>(kPieceBytes / matrix_bytes, 1);
    for (int64_t i = 0; i < w.count; i += several) {
      pieces.push_back({&w, i, std::min(several, w.count - i), 0, w.rows});
    }
    return;
  }
  const int64_t unit = RowUnit(w, head_dim);
  const int64_t rows = std::max(kPieceBytes / w.SourceRowBytes() / unit, int64_t{1}) * unit;
  for (int64_t i = 0; i < w.count; ++i) {
    for (int64_t row = 0; row < w.rows; row += rows) {
      pieces.push_back({&w, i, 1, row, std::min(rows, w.rows - row)});
    }
  }
}

int64_t SourceBytes(const Piece& piece) {
  return piece.count * piece.rows * piece.weight->SourceRowBytes();
}

// Takes pieces one after the other through pinned memory and a staging buffer of the device.
class Loader {
 public:
  Loader(int64_t bytes, uint8_t* base, int64_t head_dim)
      : base_(base),
        head_dim_(head_dim),
        pinned_(bytes, "loading weights"),
        staging_(bytes, "loading weights") {}

  void Load(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    if (!w.data) return MakeUp(piece);
    if (w.kind == PlacedWeight::Kind::kPlain) return LoadPlain(piece);
    if (w.format == WeightFormat::kMxfp4) return LoadMxfp4(piece);
    LoadDense(piece);
  }

 private:
  static int64_t First(const Piece& piece) { return piece.index * piece.weight->rows + piece.row; }

  uint8_t* Target(const Piece& piece) const {
    const PlacedWeight& w = *piece.weight;
    const int64_t matrix = w.Bytes() / w.count;
    const int64_t row =
        w.kind == PlacedWeight::Kind::kPlain
            ? piece.row * w.SourceRowBytes()
            : piece.row / kTileRows * (matrix / ((w.rows + kTileRows - 1) / kTileRows));
    return base_ + w.offset + piece.index * matrix + row;
  }

  void LoadPlain(const Piece& piece) {
    const int64_t bytes = SourceBytes(piece);
    std::memcpy(pinned_.as<char>(),
                piece.weight->data + First(piece) * piece.weight->SourceRowBytes(),
                static_cast<size_t>(bytes));
    CopyToDevice(Target(piece), pinned_.as<char>(), bytes, stream_);
    Synchronize(stream_);
  }

  void LoadDense(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    const int64_t bytes = SourceBytes(piece);
    std::memcpy(pinned_.as<char>(), w.data + First(piece) * w.SourceRowBytes(),
                static_cast<size_t>(bytes));
    RequireFinite(piece);
    CopyToDevice(staging_.as<char>(), pinned_.as<char>(), bytes, stream_);
    for (int64_t i = 0; i < piece.count; ++i) {
      Pack({staging_.as<uint16_t>(i * piece.rows * w.SourceRowBytes()), piece.rows, w.cols, w.order,
            head_dim_, w.format, Target(piece) + i * (w.Bytes() / w.count)},
           stream_);
    }
    Synchronize(stream_);
  }

  // Of the piece in pinned memory.
  void RequireFinite(const Piece& piece) const {
    constexpr uint16_t kExponent = 0x7F80;
    const int64_t cols = piece.weight->cols;
    for (int64_t row = 0; row < piece.count * piece.rows; ++row) {
      const uint16_t* values = pinned_.as<uint16_t>() + row * cols;
      bool finite = true;
      for (int64_t i = 0; i < cols; ++i) finite &= (values[i] & kExponent) != kExponent;
      if (finite) continue;
      throw CheckpointError("unusable weights", piece.weight->name, "finite numbers",
                            "NaN or infinity in row " + std::to_string(First(piece) + row));
    }
  }

  void LoadMxfp4(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    const int64_t code_row = w.cols / 2, scale_row = w.cols / 32;
    const int64_t rows = piece.count * piece.rows, codes = rows * code_row;
    std::memcpy(pinned_.as<char>(), w.data + First(piece) * code_row, static_cast<size_t>(codes));
    std::memcpy(pinned_.as<char>(codes), w.scales + First(piece) * scale_row,
                static_cast<size_t>(rows * scale_row));
    CopyToDevice(staging_.as<char>(), pinned_.as<char>(), codes + rows * scale_row, stream_);
    PackMxfp4({staging_.as<uint8_t>(), staging_.as<uint8_t>(codes), piece.count, piece.rows, w.cols,
               Target(piece)},
              stream_);
    Synchronize(stream_);
  }

  void MakeUp(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    const int64_t matrix = w.Bytes() / w.count;
    const int64_t bytes = piece.rows == w.rows ? piece.count * matrix
                          : w.kind == PlacedWeight::Kind::kPlain
                              ? SourceBytes(piece)
                              : (piece.rows + kTileRows - 1) / kTileRows *
                                    (matrix / ((w.rows + kTileRows - 1) / kTileRows));
    uint8_t* target = Target(piece);
    const auto seed = static_cast<uint64_t>(target - base_);
    if (w.format == WeightFormat::kBf16) {
      DummyBf16(reinterpret_cast<uint16_t*>(target), bytes / 2, w.mean, seed, stream_);
    } else {
      DummyBlocks(target, bytes, w.format, seed, stream_);
    }
    Synchronize(stream_);
  }

  uint8_t* base_;
  int64_t head_dim_;
  OwnedStream stream_;
  PinnedMemory pinned_;
  DeviceMemory staging_;
};

}  // namespace

int64_t WeightStore::Bytes(const ModelConfig& config, Precision precision) {
  Weights shapes(config, ShapesOnly(config), {});
  return LayOut(config, precision, shapes, nullptr).bytes;
}

WeightStore::WeightStore(const ModelConfig& config, Precision precision, Weights& weights,
                         int device, const std::function<void(double)>& progress)
    : memory_(Bytes(config, precision), "weights") {
  const WeightLayout layout = LayOut(config, precision, weights, memory_.as<uint8_t>());
  std::vector<Piece> pieces;
  for (const PlacedWeight& w : layout.weights) Cut(w, config.head_dim, pieces);
  int64_t largest = 0;
  for (const Piece& piece : pieces) largest = std::max(largest, SourceBytes(piece));
  std::atomic<size_t> next = 0, done = 0;
  std::exception_ptr error;
  std::mutex mutex;
  const auto load = [&] {
    try {
      UseDevice(device);
      Loader loader(largest, memory_.as<uint8_t>(), config.head_dim);
      for (size_t i = next++; i < pieces.size(); i = next++) {
        loader.Load(pieces[i]);
        ++done;
        const std::lock_guard lock(mutex);
        if (progress) progress(static_cast<double>(done) / static_cast<double>(pieces.size()));
      }
    } catch (...) {
      next = pieces.size();
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> loaders;
    for (int i = 0; i < kLoaders; ++i) loaders.emplace_back(load);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace motet::cuda
