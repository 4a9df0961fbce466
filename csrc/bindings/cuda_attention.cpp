#include "bindings/cuda_ops.h"
#include "cuda/kernels/append_kv.h"
#include "cuda/kernels/attention.h"
#include "ops/kv_page.h"

namespace py = pybind11;

namespace motet {
namespace {

// All arrays of cuda::AttentionArgs, keys and values as bytes; scratch has room for
// `scratch_tokens`.
Array<uint16_t> Attend(const Array<uint16_t>& q, const Array<uint8_t>& keys,
                       const Array<uint8_t>& values, KvDtype cache_type, int kv_heads,
                       const Array<int32_t>& page_table, const Array<int32_t>& positions,
                       const Array<int32_t>& slots, const Array<uint16_t>& sinks, int64_t window,
                       int min_run, int max_run, int scratch_tokens, int64_t chunks_per_block,
                       bool listed) {
  Expect(q.ndim() == 3 && page_table.ndim() == 2 && positions.size() == q.shape(0) &&
             slots.size() == q.shape(0) && sinks.size() == q.shape(1) &&
             keys.size() % (kv_heads * KvHeadBytes(q.shape(2), cache_type)) == 0 &&
             keys.size() == values.size(),
         "q [tokens, heads, head_dim], keys and values of whole pages, page_table [sequences, "
         "pages], positions and slots [tokens], sinks [heads]");
  const int tokens = static_cast<int>(q.shape(0)), heads = static_cast<int>(q.shape(1)),
            head_dim = static_cast<int>(q.shape(2));
  const cuda::OwnedStream stream;
  const OnDevice<uint16_t> device_q(q, stream), device_sinks(sinks, stream);
  const OnDevice<uint8_t> device_keys(keys, stream), device_values(values, stream);
  const OnDevice<int32_t> device_table(page_table, stream), device_positions(positions, stream),
      device_slots(slots, stream);
  const int64_t size = int64_t{heads} * head_dim;
  const OnDevice<uint16_t> out(cuda::RowsBytes(tokens, size) / 2, stream);
  const cuda::Rows rows = cuda::RowsIn(out.data(), size);
  const cuda::AttentionArgs args = {
      device_positions.data(),
      device_slots.data(),
      {device_keys.data(), device_values.data(), device_table.data(), page_table.shape(1), window},
      cache_type,
      device_q.data(),
      device_sinks.data(),
      heads,
      kv_heads,
      head_dim,
      rows};

  std::vector<int32_t> singles;
  std::vector<cuda::TokenRun> runs;
  if (max_run == 0) max_run = cuda::MaxRunTokens(heads, kv_heads, head_dim);
  cuda::SplitTokens(tokens, positions.data(), slots.data(), min_run, max_run, singles, runs);
  int64_t context = 1;
  for (int i = 0; i < tokens; ++i) {
    if (slots.at(i) >= 0) context = std::max<int64_t>(context, positions.at(i) + 1);
  }
  const int64_t chunks = cuda::NumChunks(context, window);
  const OnDevice<uint8_t> scratch(
      scratch_tokens * cuda::AttentionScratchBytes(heads, head_dim, chunks), stream);
  const OnDevice<int32_t> device_singles(
      Array<int32_t>(static_cast<py::ssize_t>(singles.size()), singles.data()), stream);
  const OnDevice<int32_t> device_runs(Array<int32_t>(static_cast<py::ssize_t>(runs.size() * 2),
                                                     reinterpret_cast<const int32_t*>(runs.data())),
                                      stream);
  cuda::AttendRuns(args, static_cast<int>(runs.size()),
                   reinterpret_cast<const cuda::TokenRun*>(device_runs.data()), stream);
  const int count = listed ? static_cast<int>(singles.size()) : tokens;
  if (chunks_per_block == 0) chunks_per_block = cuda::ChunksPerBlock(count, kv_heads, chunks);
  const OnDevice<uint32_t> tickets(int64_t{tokens} * kv_heads, stream);
  cuda::Fill(tickets.data(), 0, int64_t{tokens} * kv_heads * sizeof(uint32_t), stream);
  cuda::AttendTokens(
      args,
      {count, listed ? device_singles.data() : nullptr, chunks, chunks_per_block, scratch.data(),
       scratch_tokens * cuda::AttentionScratchBytes(heads, head_dim, chunks), tickets.data()},
      stream);
  return out.Host({tokens, rows.stride});
}

// Pages of keys and values, whose bytes are 0xFF where nothing was written.
py::tuple AppendInt8(const Array<float>& kv, const Array<int32_t>& positions,
                     const Array<int32_t>& slots, const Array<int32_t>& page_table, int64_t pages) {
  Expect(kv.ndim() == 4 && kv.shape(1) == 2 && page_table.ndim() == 2 &&
             positions.size() == kv.shape(0) && slots.size() == kv.shape(0),
         "kv [tokens, 2, kv_heads, head_dim], positions and slots [tokens], page_table "
         "[sequences, pages]");
  const int64_t kv_heads = kv.shape(2), head_dim = kv.shape(3);
  const int64_t head_bytes = KvHeadBytes(head_dim, KvDtype::kInt8);
  const cuda::OwnedStream stream;
  const OnDevice<float> device_kv(kv, stream);
  const OnDevice<int32_t> device_table(page_table, stream), device_positions(positions, stream),
      device_slots(slots, stream);
  const OnDevice<uint8_t> keys(pages * kv_heads * head_bytes, stream),
      values(pages * kv_heads * head_bytes, stream);
  cuda::AppendInt8({static_cast<int>(kv.shape(0)),
                    device_positions.data(),
                    device_slots.data(),
                    {keys.data(), values.data(), device_table.data(), page_table.shape(1), 0},
                    device_kv.data(),
                    static_cast<int>(kv_heads),
                    static_cast<int>(head_dim)},
                   stream);
  const std::vector<py::ssize_t> shape = {pages, kv_heads, head_bytes};
  return py::make_tuple(keys.Host(shape), values.Host(shape));
}

py::tuple SplitTokens(const Array<int32_t>& positions, const Array<int32_t>& slots, int min_run,
                      int max_run) {
  Expect(positions.ndim() == 1 && slots.size() == positions.size(), "positions, slots [tokens]");
  std::vector<int32_t> tokens;
  std::vector<cuda::TokenRun> runs;
  cuda::SplitTokens(static_cast<int>(positions.size()), positions.data(), slots.data(), min_run,
                    max_run, tokens, runs);
  py::list token_list, run_list;
  for (const int32_t token : tokens) token_list.append(token);
  for (const cuda::TokenRun& run : runs) run_list.append(py::make_tuple(run.first, run.count));
  return py::make_tuple(token_list, run_list);
}

}  // namespace

void BindCudaAttention(py::module_& m) {
  using namespace py::literals;
  py::enum_<KvDtype>(m, "CacheType").value("F16", KvDtype::kF16).value("INT8", KvDtype::kInt8);
  m.def("append_int8", &AppendInt8, "kv"_a, "positions"_a, "slots"_a, "page_table"_a, "pages"_a,
        "Pages of keys and values, [pages, kv_heads, bytes] of csrc/cuda/kernels/int8_page.cuh.");
  m.def("attend", &Attend, "q"_a, "keys"_a, "values"_a, "cache_type"_a, "kv_heads"_a,
        "page_table"_a, "positions"_a, "slots"_a, "sinks"_a, "window"_a, "min_run"_a,
        "max_run"_a = 0, "scratch_tokens"_a = 100, "chunks_per_block"_a = 0, "listed"_a = true,
        "Rows of the output. Sequences with min_run or more tokens are runs (of "
        "max_run tokens, 0: the most there can be), the others single tokens, given as a list or, "
        "not listed, as all there are. chunks_per_block 0: what is best.");
  m.def("chunks_per_block", &cuda::ChunksPerBlock, "tokens"_a, "kv_heads"_a, "num_chunks"_a);
  m.def("split_tokens", &SplitTokens, "positions"_a, "slots"_a, "min_run"_a, "max_run"_a,
        "(tokens, runs as pairs)");
  m.def(
      "attention_chunks",
      [](int64_t context, int64_t window) { return cuda::NumChunks(context, window); }, "context"_a,
      "window"_a);
}

}  // namespace motet
