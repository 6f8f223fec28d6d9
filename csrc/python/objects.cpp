#include "objects.h"

#include <cmath>

namespace yolact {
namespace {

int64_t whole_number(py::handle object) {
  const int64_t value = PyLong_AsLongLong(object.ptr());
  if (value != -1 || !PyErr_Occurred()) return value;
  PyErr_Clear();
  // 480.0, as sizes come out of some JSON files.
  const double real = PyFloat_Check(object.ptr()) ? PyFloat_AS_DOUBLE(object.ptr()) : 0.5;
  if (std::abs(real) <= static_cast<double>(kMaxPixels) && real == std::trunc(real)) return static_cast<int64_t>(real);
  throw py::type_error("size must be two whole numbers, got " + shown(object));
}

// The value of a key, or KeyError.
py::object item(py::handle object, PyObject* key) {
  if (PyDict_CheckExact(object.ptr())) {
    if (PyObject* found = PyDict_GetItemWithError(object.ptr(), key)) return py::reinterpret_borrow<py::object>(found);
    if (PyErr_Occurred()) throw py::error_already_set();
    PyErr_SetObject(PyExc_KeyError, key);
    throw py::error_already_set();
  }
  PyObject* found = PyObject_GetItem(object.ptr(), key);
  if (found == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(found);
}

PyObject* counts_key() {
  static PyObject* const key = PyUnicode_InternFromString("counts");
  return key;
}

PyObject* size_key() {
  static PyObject* const key = PyUnicode_InternFromString("size");
  return key;
}

double number(const py::object& object) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error("coordinates must be numbers, got " + shown(object));
  }
  return value;
}

// Whether it is a list of bool and int, as it mostly is.
bool append_flags(py::handle objects, std::vector<uint8_t>* flags) {
  if (!PyList_CheckExact(objects.ptr())) return false;
  const Items items(objects, "pyiscrowd must be a list");
  flags->reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const py::handle flag = items.borrowed(i);
    if (!PyLong_CheckExact(flag.ptr()) && !PyBool_Check(flag.ptr())) {
      flags->clear();
      return false;
    }
    flags->push_back(PyObject_IsTrue(flag.ptr()) != 0);
  }
  return true;
}

}  // namespace

std::string shown(py::handle object) {
  constexpr size_t kMost = 200;
  const std::string text(py::repr(object));
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

Items::Items(py::handle objects, const char* wanted)
    : items_(py::reinterpret_steal<py::object>(PySequence_Fast(objects.ptr(), ""))) {
  if (items_) return;
  PyErr_Clear();
  throw py::type_error(std::string(wanted) + ", got " + shown(objects));
}

void check_size(Size size) {
  if (size.height < 0 || size.width < 0 || (size.width > 0 && size.height > kMaxPixels / size.width))
    throw py::value_error("size must be two numbers from 0 on, with fewer than 2**32 pixels, got [" +
                          std::to_string(size.height) + ", " + std::to_string(size.width) + "]");
}

Size size_of(py::handle height, py::handle width) {
  const Size size{whole_number(height), whole_number(width)};
  check_size(size);
  return size;
}

Size size_of(py::handle pair) {
  if (!PySequence_Check(pair.ptr())) throw py::value_error("size must be (height, width), got " + shown(pair));
  const Items items(pair, "size must be (height, width)");
  if (items.size() != 2) throw py::value_error("size must be (height, width), got " + shown(pair));
  return size_of(items[0], items[1]);
}

void fail(size_t row, const std::string& what) { throw py::value_error("mask " + std::to_string(row) + ": " + what); }

Rle rle_of(py::handle object) {
  if (!PyMapping_Check(object.ptr()) || is_sequence(object))
    throw py::type_error("a mask must be a dictionary with size and counts, got " + shown(object));
  Rle rle{item(object, counts_key()), nullptr, 0, size_of(item(object, size_key()))};
  PyObject* const counts = rle.owner.ptr();
  Py_ssize_t length = 0;
  if (PyBytes_Check(counts)) {
    length = PyBytes_GET_SIZE(counts);
    rle.text = reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(counts));
  } else if (PyUnicode_Check(counts)) {
    const char* text = PyUnicode_AsUTF8AndSize(counts, &length);
    if (text == nullptr) throw py::error_already_set();
    rle.text = reinterpret_cast<const uint8_t*>(text);
  } else {
    throw py::type_error("counts must be str or bytes, got " + std::string(Py_TYPE(counts)->tp_name) +
                         " (frPyObjects compresses lists)");
  }
  rle.length = length;
  return rle;
}

std::vector<Rle> rles_of(py::handle objects) {
  std::vector<Rle> rles;
  if (!is_sequence(objects)) {
    rles.push_back(rle_of(objects));
    return rles;
  }
  const Items items(objects, "masks must come in a list");
  rles.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) rles.push_back(rle_of(items[i]));
  return rles;
}

int64_t bytes_of(const std::vector<Rle>& rles) {
  int64_t sum = 0;
  for (const Rle& rle : rles) sum += rle.length;
  return sum;
}

std::vector<cpu::IntervalMask> read_all(const std::vector<Rle>& rles) {
  std::vector<cpu::IntervalMask> masks(rles.size());
  read_each(rles, bytes_of(rles), [&](size_t i, cpu::IntervalMask&& mask) { masks[i] = std::move(mask); });
  return masks;
}

py::dict to_dict(Size size, std::string_view text) {
  py::list pair(2);
  PyList_SET_ITEM(pair.ptr(), 0, PyLong_FromLongLong(size.height));
  PyList_SET_ITEM(pair.ptr(), 1, PyLong_FromLongLong(size.width));
  const py::bytes counts(text.data(), text.size());
  py::dict result;
  if (PyDict_SetItem(result.ptr(), size_key(), pair.ptr()) != 0 ||
      PyDict_SetItem(result.ptr(), counts_key(), counts.ptr()) != 0)
    throw py::error_already_set();
  return result;
}

void append_numbers(py::handle sequence, std::vector<double>* numbers) {
  const Items items(sequence, "coordinates must come in a list");
  numbers->reserve(numbers->size() + items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const py::handle item = items.borrowed(i);
    numbers->push_back(PyFloat_CheckExact(item.ptr()) ? PyFloat_AS_DOUBLE(item.ptr()) : number(items[i]));
  }
}

std::vector<int64_t> whole_numbers(py::handle sequence) {
  std::vector<int64_t> numbers;
  if (PyList_CheckExact(sequence.ptr())) {
    const Items items(sequence, "counts must be a list");
    numbers.reserve(items.size());
    for (size_t i = 0; i < items.size() && PyLong_CheckExact(items.borrowed(i).ptr()); ++i) {
      int overflow = 0;
      numbers.push_back(PyLong_AsLongLongAndOverflow(items.borrowed(i).ptr(), &overflow));
      if (overflow != 0) throw py::value_error("counts must be less than 2**32, got " + shown(items[i]));
    }
    if (numbers.size() == items.size()) return numbers;
  }
  const auto array = py::array_t<int64_t, py::array::c_style | py::array::forcecast>::ensure(sequence);
  if (!array || array.ndim() != 1) {
    PyErr_Clear();
    throw py::value_error("counts must be a list of whole numbers, got " + shown(sequence));
  }
  numbers.assign(array.data(), array.data() + array.size());
  return numbers;
}

std::vector<cpu::BoxXywh> boxes_of(py::handle objects, const char* name) {
  const std::string wanted = std::string(name) + " must be masks, or boxes of shape [N, 4], got ";
  std::vector<cpu::BoxXywh> boxes;
  if (py::isinstance<py::array>(objects)) {
    const Doubles array(py::reinterpret_borrow<py::object>(objects));
    if (array.ndim() != 2 || array.shape(1) != 4) throw py::value_error(wanted + "shape " + shown(array.attr("shape")));
    const auto* first = reinterpret_cast<const cpu::BoxXywh*>(array.data());
    boxes.assign(first, first + array.shape(0));
    return boxes;
  }
  if (!is_sequence(objects)) throw py::type_error(wanted + shown(objects));
  const Items rows(objects, name);
  boxes.reserve(rows.size());
  std::vector<double> numbers;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (is_sequence(rows[i])) append_numbers(rows[i], &numbers);
    if (numbers.size() != 4) throw py::value_error(wanted + shown(rows[i]));
    boxes.push_back({numbers[0], numbers[1], numbers[2], numbers[3]});
    numbers.clear();
  }
  return boxes;
}

std::vector<uint8_t> flags_of(py::handle objects, size_t truths) {
  std::vector<uint8_t> flags;
  if (!append_flags(objects, &flags)) {
    const py::array_t<uint8_t, py::array::c_style | py::array::forcecast> array(
        py::reinterpret_borrow<py::object>(objects));
    if (array.ndim() != 1) throw py::value_error("pyiscrowd must be flat, got shape " + shown(array.attr("shape")));
    flags.assign(array.data(), array.data() + array.size());
  }
  if (flags.size() != truths)
    throw py::value_error("pyiscrowd must hold a flag for each of the " + std::to_string(truths) + " truths, got " +
                          std::to_string(flags.size()));
  return flags;
}

}  // namespace yolact
