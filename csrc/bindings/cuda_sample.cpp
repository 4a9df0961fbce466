#include <pybind11/stl.h>

#include "bindings/cuda_ops.h"
#include "cuda/kernels/sample.h"
#include "ops/sample.h"

namespace py = pybind11;

namespace motet {
namespace {

Array<int32_t> Sample(const Array<float>& logits, const std::vector<Sampling>& rows,
                      const std::vector<uint64_t>& positions) {
  Expect(logits.ndim() == 2 && logits.shape(1) > 0, "logits [rows, vocab]");
  const auto n = static_cast<size_t>(logits.shape(0));
  Expect(n > 0 && rows.size() == n && positions.size() == n,
         "rows, a Sampling and a position for each");
  Array<uint8_t> bytes(static_cast<py::ssize_t>(n * sizeof(cuda::DrawParams)));
  for (size_t i = 0; i < n; ++i) {
    const Sampling& s = rows[i];
    const cuda::DrawParams params{s.temperature, s.top_p, s.min_p, s.top_k, s.seed, positions[i]};
    std::memcpy(bytes.mutable_data() + i * sizeof(params), &params, sizeof(params));
  }
  const cuda::OwnedStream stream;
  const OnDevice<float> device_logits(logits, stream);
  const OnDevice<uint8_t> params(bytes, stream);
  const OnDevice<int32_t> tokens(logits.shape(0), stream);
  const OnDevice<uint8_t> scratch(cuda::SampleScratchBytes(logits.shape(0), logits.shape(1)),
                                  stream);
  // As a graph, launched twice: what the first leaves in the scratch must not matter.
  cuda::Graph::Begin(stream);
  cuda::Sample(
      {static_cast<int>(n), device_logits.data(), logits.shape(1),
       reinterpret_cast<const cuda::DrawParams*>(params.data()), tokens.data(), scratch.data()},
      stream);
  const cuda::Graph graph = cuda::Graph::End(stream);
  graph.Launch(stream);
  cuda::Fill(tokens.data(), 0xFF, logits.shape(0) * 4, stream);
  graph.Launch(stream);
  return tokens.Host({logits.shape(0)});
}

}  // namespace

void BindCudaSample(py::module_& m) {
  using namespace py::literals;
  m.def("sample", &Sample, "logits"_a, "sampling"_a, "positions"_a,
        "A token for each row of logits [rows, vocab], by its Sampling's temperature, top_k, "
        "top_p, min_p and seed.");
}

}  // namespace motet
