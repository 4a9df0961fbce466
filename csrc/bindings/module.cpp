#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "motet's engine in C++; private, the public surface is the package motet";
  motet::BindErrors();
  motet::BindSampling(m);
  motet::BindConfig(m);
  motet::BindEvents(m);
  motet::BindEngine(m);
  motet::BindOps(m);
  motet::BindCudaOps(m);
  motet::BindSched(m);
}
