#include <pybind11/pybind11.h>

PYBIND11_MODULE(_mask, m) { m.doc() = "COCO run lengths over NumPy arrays."; }
