#include "bindings/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/kernels/moe.h"

namespace py = pybind11;

namespace motet {
namespace {

// x after the op, and its norm as `normed` is, if `norm` is not empty. `normed` are rows as
// csrc/cuda/rows.h has them; weights are packed.
py::tuple Moe(const Array<float>& x, const Array<uint16_t>& normed, const Array<int32_t>& experts,
              const Array<float>& weights, const Array<int32_t>& slots,
              const Array<uint8_t>& gate_up, const Array<uint16_t>& gate_up_bias,
              const Array<uint8_t>& down, const Array<uint16_t>& down_bias, float limit,
              WeightFormat format, const Array<uint16_t>& norm, float eps, cuda::MoeKernel kernel) {
  Expect(x.ndim() == 2 && normed.ndim() == 2 && experts.ndim() == 2 &&
             weights.size() == experts.size() && (norm.size() == 0 || norm.size() == x.shape(1)) &&
             gate_up_bias.ndim() == 2 && down_bias.ndim() == 2,
         "x [T, hidden], normed [T, stride], experts [T, k], weights [T, k], biases "
         "[experts, rows]");
  const int tokens = static_cast<int>(x.shape(0)), k = static_cast<int>(experts.shape(1));
  const int num_experts = static_cast<int>(down_bias.shape(0));
  const int64_t hidden = x.shape(1), intermediate = gate_up_bias.shape(1) / 2;
  Expect(normed.size() * 2 == cuda::RowsBytes(tokens, hidden), "padded rows");

  const cuda::OwnedStream stream;
  const OnDevice<float> device_x(x, stream), device_weights(weights, stream);
  const OnDevice<uint16_t> device_normed(normed, stream), b1(gate_up_bias, stream),
      b2(down_bias, stream);
  const OnDevice<int32_t> device_experts(experts, stream), device_slots(slots, stream);
  const OnDevice<uint8_t> w1(gate_up, stream), w2(down, stream);
  const OnDevice<int32_t> lists(cuda::ExpertListsBytes(tokens, num_experts, k) / 4, stream);
  const OnDevice<char> scratch(cuda::MoeScratchBytes(tokens, k, hidden, intermediate), stream);
  const OnDevice<uint16_t> device_norm(norm, stream), next_normed(normed.size(), stream);
  const cuda::Rows next = cuda::RowsIn(next_normed.data(), hidden);
  const cuda::ExpertLists expert_lists = cuda::ExpertListsIn(lists.data(), tokens, num_experts, k);
  cuda::GroupByExpert(
      {tokens, device_slots.data(), device_experts.data(), num_experts, k, expert_lists}, stream);
  cuda::Moe({tokens,
             num_experts,
             k,
             {format, w1.data(), nullptr, 2 * intermediate, hidden},
             {format, w2.data(), nullptr, hidden, intermediate},
             b1.data(),
             b2.data(),
             limit,
             cuda::RowsIn(device_normed.data(), hidden),
             expert_lists,
             device_weights.data(),
             scratch.data(),
             device_x.data(),
             {norm.size() ? device_norm.data() : nullptr, eps, next},
             kernel},
            stream);
  return py::make_tuple(
      device_x.Host({tokens, hidden}),
      norm.size() ? py::object(next_normed.Host({tokens, next.stride})) : py::none());
}

}  // namespace

void BindCudaMoe(py::module_& m) {
  using namespace py::literals;
  m.def("has_warpgroups", &cuda::HasWarpgroups, "Whether MoeKernel.WARPGROUP_MMA can run here.");
  py::enum_<cuda::MoeKernel>(m, "MoeKernel")
      .value("AUTO", cuda::MoeKernel::kAuto)
      .value("MMA", cuda::MoeKernel::kMma)
      .value("WARPGROUP_MMA", cuda::MoeKernel::kWarpgroupMma);
  m.def("moe", &Moe, "x"_a, "normed"_a, "experts"_a, "weights"_a, "slots"_a, "gate_up"_a,
        "gate_up_bias"_a, "down"_a, "down_bias"_a, "limit"_a, "format"_a,
        "norm"_a = Array<uint16_t>(0), "eps"_a = 0.0f, "kernel"_a = cuda::MoeKernel::kAuto);
}

}  // namespace motet
