// The model's hyper-parameters and the tensors that they ask for.
#include "model/config.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"
#include "model/weights.h"

namespace py = pybind11;

namespace motet {
namespace {

ModelConfig MakeConfig(int64_t num_layers, int64_t hidden_size, int64_t intermediate_size,
                       int64_t num_heads, int64_t num_kv_heads, int64_t head_dim,
                       int64_t vocab_size, int64_t num_experts, int64_t experts_per_token,
                       int64_t sliding_window, std::vector<bool> layer_is_sliding,
                       double rms_norm_eps, double swiglu_limit, int64_t max_position_embeddings,
                       double rope_theta, double rope_factor, double rope_beta_fast,
                       double rope_beta_slow, int64_t rope_original_max_position,
                       bool rope_truncate, bool experts_mxfp4) {
  ModelConfig config{num_layers,
                     hidden_size,
                     intermediate_size,
                     num_heads,
                     num_kv_heads,
                     head_dim,
                     vocab_size,
                     num_experts,
                     experts_per_token,
                     sliding_window,
                     layer_is_sliding,
                     rms_norm_eps,
                     swiglu_limit,
                     max_position_embeddings,
                     rope_theta,
                     rope_factor,
                     rope_beta_fast,
                     rope_beta_slow,
                     rope_original_max_position,
                     rope_truncate,
                     experts_mxfp4};
  config.Validate();
  return config;
}

std::vector<std::tuple<std::string, std::string, py::tuple>> Slots(const ModelConfig& config) {
  std::vector<std::tuple<std::string, std::string, py::tuple>> slots;
  for (const WeightSlot& slot : WeightSlots(config)) {
    slots.emplace_back(slot.name, DTypeName(slot.dtype), py::tuple(py::cast(slot.shape)));
  }
  return slots;
}

}  // namespace

void BindConfig(py::module_& m) {
  using namespace py::literals;
  py::class_<ModelConfig>(m, "ModelConfig")
      .def(py::init(&MakeConfig), py::kw_only(), "num_layers"_a, "hidden_size"_a,
           "intermediate_size"_a, "num_heads"_a, "num_kv_heads"_a, "head_dim"_a, "vocab_size"_a,
           "num_experts"_a, "experts_per_token"_a, "sliding_window"_a, "layer_is_sliding"_a,
           "rms_norm_eps"_a, "swiglu_limit"_a, "max_position_embeddings"_a, "rope_theta"_a,
           "rope_factor"_a, "rope_beta_fast"_a, "rope_beta_slow"_a, "rope_original_max_position"_a,
           "rope_truncate"_a, "experts_mxfp4"_a);
  m.def("weight_slots", &Slots, "config"_a,
        "(name, dtype 'BF16' | 'U8', shape) of every tensor of the model, as published.");
}

}  // namespace motet
