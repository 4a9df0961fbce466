// One function a file of this folder; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace motet {

void BindErrors();
void BindEngine(pybind11::module_& m);
void BindOps(pybind11::module_& m);
void BindSched(pybind11::module_& m);
void BindSampling(pybind11::module_& m);

}  // namespace motet
