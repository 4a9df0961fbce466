#include "bindings/cuda_ops.h"
#include "cuda/kernels/embed.h"

namespace py = pybind11;

namespace motet {
namespace {

Array<float> Embed(const Array<int32_t>& ids, const Array<uint16_t>& embedding) {
  Expect(ids.ndim() == 1 && embedding.ndim() == 2, "ids [tokens], embedding [vocab, hidden]");
  const cuda::OwnedStream stream;
  const OnDevice<int32_t> device_ids(ids, stream);
  const OnDevice<uint16_t> device_embedding(embedding, stream);
  const int64_t hidden = embedding.shape(1);
  const OnDevice<float> x(ids.size() * hidden, stream);
  cuda::Embed(
      {static_cast<int>(ids.size()), device_ids.data(), device_embedding.data(), hidden, x.data()},
      stream);
  return x.Host({ids.size(), hidden});
}

py::tuple Rotary(const Array<int32_t>& positions, const Array<double>& frequencies, double scale) {
  Expect(positions.ndim() == 1 && frequencies.ndim() == 1,
         "positions [tokens], frequencies [half]");
  const cuda::OwnedStream stream;
  const OnDevice<int32_t> device_positions(positions, stream);
  const OnDevice<double> device_frequencies(frequencies, stream);
  const int64_t half = frequencies.size();
  const OnDevice<float> cos(positions.size() * half, stream), sin(positions.size() * half, stream);
  cuda::Rotary({static_cast<int>(positions.size()), device_positions.data(),
                device_frequencies.data(), scale, static_cast<int>(half), cos.data(), sin.data()},
               stream);
  return py::make_tuple(cos.Host({positions.size(), half}), sin.Host({positions.size(), half}));
}

Array<uint8_t> CopyPages(const Array<uint8_t>& pages, const Array<int32_t>& copies) {
  Expect(
      pages.ndim() == 3 && pages.shape(2) % 16 == 0 && copies.ndim() == 2 && copies.shape(1) == 2,
      "pages [arrays, pages, bytes], copies [n, 2] (from, to)");
  const cuda::OwnedStream stream;
  const OnDevice<uint8_t> device_pages(pages, stream);
  const OnDevice<int32_t> device_copies(copies, stream);
  cuda::CopyPages(
      {device_pages.data(), pages.shape(1) * pages.shape(2), static_cast<int>(pages.shape(0)),
       pages.shape(2), reinterpret_cast<const PageCopy*>(device_copies.data()),
       static_cast<int>(copies.shape(0))},
      stream);
  return device_pages.Host({pages.shape(0), pages.shape(1), pages.shape(2)});
}

}  // namespace

void BindCudaEmbed(py::module_& m) {
  using namespace py::literals;
  m.def("embed", &Embed, "ids"_a, "embedding"_a);
  m.def("rotary", &Rotary, "positions"_a, "frequencies"_a, "scale"_a, "(cos, sin)");
  m.def("copy_pages", &CopyPages, "pages"_a, "copies"_a, "The pages after the copies.");
}

}  // namespace motet
