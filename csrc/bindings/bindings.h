// One function a file of this folder; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace motet {

struct Metrics;

void BindErrors();
void BindConfig(pybind11::module_& m);
void BindEvents(pybind11::module_& m);
void BindEngine(pybind11::module_& m);
void BindOps(pybind11::module_& m);
void BindCudaOps(pybind11::module_& m);
void BindSched(pybind11::module_& m);
void BindSampling(pybind11::module_& m);

// {name: number, {label: number} or a histogram}.
pybind11::dict MetricsDict(const Metrics& metrics);

}  // namespace motet
