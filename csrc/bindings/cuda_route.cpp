#include "bindings/cuda_ops.h"
#include "cuda/kernels/route.h"

namespace py = pybind11;

namespace motet {
namespace {

py::dict ListsDict(const OnDevice<int32_t>& lists, int64_t tiles, int64_t pairs) {
  const Array<int32_t> all = lists.Host({4 * tiles + 2 * pairs});
  const auto part = [&](int64_t begin, int64_t count) {
    return py::object(all[py::slice(begin, begin + count, 1)]);
  };
  py::dict out;
  out["tiles"] = part(0, 4 * tiles).attr("reshape")(-1, 4);  // expert, first, count, used
  out["pair_token"] = part(4 * tiles, pairs);
  out["pair_of_choice"] = part(4 * tiles + pairs, pairs);
  return out;
}

py::dict GroupByExpert(const Array<int32_t>& experts, const Array<int32_t>& slots,
                       int num_experts) {
  Expect(experts.ndim() == 2 && slots.size() == experts.shape(0), "experts [T, k], slots [T]");
  const int tokens = static_cast<int>(experts.shape(0)), k = static_cast<int>(experts.shape(1));
  const cuda::OwnedStream stream;
  const OnDevice<int32_t> device_experts(experts, stream), device_slots(slots, stream);
  const OnDevice<int32_t> lists(cuda::ExpertListsBytes(tokens, num_experts, k) / 4, stream);
  cuda::GroupByExpert({tokens, device_slots.data(), device_experts.data(), num_experts, k,
                       cuda::ExpertListsIn(lists.data(), tokens, num_experts, k)},
                      stream);
  return ListsDict(lists, cuda::MaxExpertTiles(tokens, num_experts, k), int64_t{tokens} * k);
}

py::dict Route(const Array<float>& x, const Array<uint16_t>& norm, const Array<uint16_t>& router,
               const Array<uint16_t>& bias, const Array<int32_t>& slots, int k, float eps) {
  Expect(x.ndim() == 2 && router.ndim() == 2 && norm.size() == x.shape(1) &&
             router.shape(1) == x.shape(1) && bias.size() == router.shape(0) &&
             slots.size() == x.shape(0),
         "x [T, hidden], norm [hidden], router [experts, hidden], bias [experts], slots [T]");
  const int tokens = static_cast<int>(x.shape(0)), hidden = static_cast<int>(x.shape(1));
  const int num_experts = static_cast<int>(router.shape(0));
  const cuda::OwnedStream stream;
  const OnDevice<float> device_x(x, stream), logits(int64_t{tokens} * num_experts, stream),
      weights(int64_t{tokens} * k, stream);
  const OnDevice<uint16_t> device_norm(norm, stream), device_router(router, stream),
      device_bias(bias, stream);
  const OnDevice<int32_t> device_slots(slots, stream), experts(int64_t{tokens} * k, stream);
  const OnDevice<unsigned> ticket(1, stream);
  cuda::Fill(ticket.data(), 0, sizeof(unsigned), stream);
  const OnDevice<int32_t> lists(cuda::ExpertListsBytes(tokens, num_experts, k) / 4, stream);
  const OnDevice<uint16_t> normed(cuda::RowsBytes(tokens, hidden) / 2, stream);
  const cuda::Rows rows = cuda::RowsIn(normed.data(), hidden);
  cuda::Route(
      {tokens, device_slots.data(), device_x.data(), device_norm.data(), eps, device_router.data(),
       device_bias.data(), hidden, num_experts, k, logits.data(), ticket.data(), rows,
       experts.data(), weights.data(), cuda::ExpertListsIn(lists.data(), tokens, num_experts, k)},
      stream);
  py::dict out =
      ListsDict(lists, cuda::MaxExpertTiles(tokens, num_experts, k), int64_t{tokens} * k);
  out["logits"] = logits.Host({tokens, num_experts});
  out["experts"] = experts.Host({tokens, k});
  out["weights"] = weights.Host({tokens, k});
  out["ticket"] = ticket.Host({1});
  out["normed"] = normed.Host({tokens, rows.stride});
  return out;
}

}  // namespace

void BindCudaRoute(py::module_& m) {
  using namespace py::literals;
  m.def("group_by_expert", &GroupByExpert, "experts"_a, "slots"_a, "num_experts"_a);
  m.def("route", &Route, "x"_a, "norm"_a, "router"_a, "bias"_a, "slots"_a, "k"_a, "eps"_a);
}

}  // namespace motet
