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
        staging_((bytes + 3) / 4 * 4, "loading weights") {}  // scales are made up by words

  void Load(const Piece& piece) {
    const bool packed = piece.weight->kind != PlacedWeight::Kind::kPlain;
    auto* to = packed ? staging_.as<uint8_t>() : Target(piece);
    piece.weight->data ? Read(piece, to) : MakeUp(piece, to);
    if (packed) PackStaged(piece);
    Synchronize(stream_);
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

  // Bytes of the piece's codes, which the scales follow, or of all of it.
  static int64_t DataBytes(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    const bool mxfp4 = w.format == WeightFormat::kMxfp4;
    return piece.count * piece.rows * (mxfp4 ? w.cols / 2 : w.SourceRowBytes());
  }

  void Read(const Piece& piece, uint8_t* to) {
    const PlacedWeight& w = *piece.weight;
    const int64_t rows = piece.count * piece.rows, data = DataBytes(piece);
    std::memcpy(pinned_.as<char>(), w.data + First(piece) * (data / rows),
                static_cast<size_t>(data));
    if (w.format == WeightFormat::kMxfp4) {
      const int64_t scale_row = w.cols / kMxfp4BlockSize;
      std::memcpy(pinned_.as<char>(data), w.scales + First(piece) * scale_row,
                  static_cast<size_t>(rows * scale_row));
    } else if (w.kind == PlacedWeight::Kind::kTiles) {
      RequireFinite(piece);
    }
    CopyToDevice(to, pinned_.as<char>(), SourceBytes(piece), stream_);
  }

  void MakeUp(const Piece& piece, uint8_t* to) {
    const PlacedWeight& w = *piece.weight;
    const auto seed = static_cast<uint64_t>(Target(piece) - base_);
    const int64_t data = DataBytes(piece);
    if (w.format == WeightFormat::kMxfp4) {
      DummyMxfp4(reinterpret_cast<uint32_t*>(to), reinterpret_cast<uint32_t*>(to + data),
                 data / kMxfp4BlockBytes, seed, stream_);
    } else {
      DummyBf16(reinterpret_cast<uint16_t*>(to), data / 2, w.mean, seed, stream_);
    }
  }

  void PackStaged(const Piece& piece) {
    const PlacedWeight& w = *piece.weight;
    if (w.format == WeightFormat::kMxfp4) {
      return PackMxfp4({staging_.as<uint8_t>(), staging_.as<uint8_t>(DataBytes(piece)), piece.count,
                        piece.rows, w.cols, Target(piece)},
                       stream_);
    }
    for (int64_t i = 0; i < piece.count; ++i) {
      Pack({staging_.as<uint16_t>(i * piece.rows * w.SourceRowBytes()), piece.rows, w.cols, w.order,
            head_dim_, w.format, Target(piece) + i * (w.Bytes() / w.count)},
           stream_);
    }
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
