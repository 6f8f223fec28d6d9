// The module behind yolact.mask: NumPy arrays and COCO's dictionaries in, the same out, no torch. Everything that
// does not touch Python objects runs without the GIL. What a function does is told in yolact/mask.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../common/encode_run_lengths.h"
#include "../common/run_lengths.h"
#include "../cpu/level.h"
#include "../cpu/polygons.h"
#include "../cpu/run_length_algebra.h"

namespace py = pybind11;

namespace yolact {
namespace {

using cpu::IntervalMask;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

struct Size {
  int64_t height, width;
};

// A COCO dictionary whose string is borrowed: `owner` keeps it.
struct Rle {
  py::object owner;
  const uint8_t* text;
  int64_t length;
  Size size;
};

[[noreturn]] void fail(size_t row, const std::string& what) {
  throw py::value_error("mask " + std::to_string(row) + ": " + what);
}

void check_size(Size size) {
  if (size.height < 0 || size.width < 0 || (size.width > 0 && size.height > kMaxPixels / size.width))
    throw py::value_error("size must be two numbers from 0 on, with fewer than 2**32 pixels, got [" +
                          std::to_string(size.height) + ", " + std::to_string(size.width) + "]");
}

Size size_of(const py::handle& object) {
  const auto pair = py::reinterpret_steal<py::object>(PySequence_Fast(object.ptr(), ""));
  if (!pair) PyErr_Clear();
  if (!pair || PySequence_Fast_GET_SIZE(pair.ptr()) != 2)
    throw py::value_error("size must be (height, width), got " + std::string(py::repr(object)));
  PyObject** items = PySequence_Fast_ITEMS(pair.ptr());
  const Size size{PyLong_AsLongLong(items[0]), PyLong_AsLongLong(items[1])};
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error("size must be two whole numbers, got " + std::string(py::repr(object)));
  }
  check_size(size);
  return size;
}

Rle borrow(const py::handle& object) {
  static const py::str counts_key("counts"), size_key("size");
  if (!PyMapping_Check(object.ptr()) || PySequence_Check(object.ptr()))
    throw py::type_error("a mask must be a dictionary with size and counts, got " + std::string(py::repr(object)));
  Rle rle{object[counts_key], nullptr, 0, size_of(object[size_key])};
  Py_ssize_t length = 0;
  if (PyUnicode_Check(rle.owner.ptr())) {
    const char* text = PyUnicode_AsUTF8AndSize(rle.owner.ptr(), &length);
    if (text == nullptr) throw py::error_already_set();
    rle.text = reinterpret_cast<const uint8_t*>(text);
  } else if (PyBytes_Check(rle.owner.ptr())) {
    length = PyBytes_GET_SIZE(rle.owner.ptr());
    rle.text = reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(rle.owner.ptr()));
  } else {
    throw py::type_error("counts must be str or bytes, got " +
                         std::string(py::str(py::type::of(rle.owner).attr("__name__"))) +
                         " (frPyObjects compresses lists)");
  }
  rle.length = length;
  return rle;
}

std::vector<Rle> borrow_all(const py::sequence& objects) {
  std::vector<Rle> rles;
  rles.reserve(objects.size());
  for (const py::handle object : objects) rles.push_back(borrow(object));
  return rles;
}

py::dict to_dict(Size size, const std::string_view text) {
  static const py::str counts_key("counts"), size_key("size");
  py::list pair(2);
  pair[0] = size.height;
  pair[1] = size.width;
  py::dict result;
  result[size_key] = std::move(pair);
  result[counts_key] = py::bytes(text.data(), text.size());
  return result;
}

// The string that `write(output, capacity)` makes, in as many bytes as it asks for.
template <class Write>
std::string string_of(Write write) {
  std::string text(256, '\0');
  const auto attempt = [&] {
    return write(reinterpret_cast<uint8_t*>(text.data()), static_cast<int64_t>(text.size()));
  };
  const int64_t needed = attempt();
  const bool fits = needed <= static_cast<int64_t>(text.size());
  text.resize(needed);
  if (!fits) attempt();
  return text;
}

// The intervals of every string; what is wrong with one is told with its place in the list.
std::vector<IntervalMask> read_all(const std::vector<Rle>& rles) {
  std::vector<IntervalMask> masks(rles.size());
  size_t broken = 0;
  RunError error = RunError::kNone;
  {
    py::gil_scoped_release release;
    for (size_t i = 0; i < rles.size() && error == RunError::kNone; ++i) {
      masks[i].height = rles[i].size.height;
      masks[i].width = rles[i].size.width;
      error = cpu::read_intervals(rles[i].text, rles[i].length, &masks[i]);
      broken = i;
    }
  }
  if (error != RunError::kNone) fail(broken, std::string("counts ") + message_of(error));
  return masks;
}

py::list encode(const py::array& masks) {  // [H, W, N] bool or uint8
  if (masks.ndim() != 3)
    throw py::value_error("masks must be of shape [H, W, N], got " + std::to_string(masks.ndim()) + " dimensions");
  if (!py::isinstance<py::array_t<uint8_t>>(masks) && !py::isinstance<py::array_t<bool>>(masks))
    throw py::type_error("masks must be of dtype uint8 or bool, got " + std::string(py::str(masks.dtype())));
  const Size size{masks.shape(0), masks.shape(1)};
  check_size(size);

  constexpr int64_t kCapacity = 4096;  // what needs more is encoded again
  const int64_t count = masks.shape(2);
  std::unique_ptr<uint8_t[]> data(new uint8_t[count * kCapacity]);
  std::vector<int64_t> length(count), needed(count), sizes(2 * count);
  std::vector<std::string> longer(count);
  {
    py::gil_scoped_release release;
    EncodeRunLengthsArguments arguments{};
    arguments.masks = static_cast<const uint8_t*>(masks.data());
    arguments.stride[0] = masks.strides(2);
    arguments.stride[1] = masks.strides(0);
    arguments.stride[2] = masks.strides(1);
    arguments.count = count;
    arguments.height = size.height;
    arguments.width = size.width;
    arguments.data = data.get();
    arguments.capacity = kCapacity;
    arguments.length = length.data();
    arguments.needed = needed.data();
    arguments.size = sizes.data();
    cpu::encode_run_lengths(arguments, serial());
    for (int64_t i = 0; i < count; ++i) {
      if (needed[i] <= kCapacity) continue;
      longer[i].resize(needed[i]);
      EncodeRunLengthsArguments one = arguments;
      one.masks += i * arguments.stride[0];
      one.count = 1;
      one.data = reinterpret_cast<uint8_t*>(longer[i].data());
      one.capacity = needed[i];
      one.length += i;
      one.needed += i;
      cpu::encode_run_lengths(one, serial());
    }
  }
  py::list result(count);
  for (int64_t i = 0; i < count; ++i)
    result[i] =
        to_dict(size, longer[i].empty() ? std::string_view(reinterpret_cast<char*>(&data[i * kCapacity]), length[i])
                                        : std::string_view(longer[i]));
  return result;
}

py::array_t<uint8_t> decode(const py::sequence& objects) {  // [H, W, N], by columns
  const std::vector<Rle> rles = borrow_all(objects);
  if (rles.empty()) throw py::value_error("decode needs at least one mask: the size is the masks' own");
  const Size size = rles[0].size;
  for (size_t i = 0; i < rles.size(); ++i)
    if (rles[i].size.height != size.height || rles[i].size.width != size.width)
      fail(i, "is not of the size of the first one");

  const py::ssize_t height = size.height, width = size.width, count = rles.size(), pixels = height * width;
  py::array_t<uint8_t> masks({height, width, count}, {py::ssize_t{1}, height, pixels});
  uint8_t* output = masks.mutable_data();
  size_t broken = 0;
  RunError error = RunError::kNone;
  {
    py::gil_scoped_release release;
    for (size_t i = 0; i < rles.size() && error == RunError::kNone; ++i, output += pixels) {
      uint8_t* run = output;
      RunReader reader(rles[i].text, rles[i].length, pixels);
      bool ones = false;
      for (int64_t length; reader.next(&length); run += length, ones = !ones) std::memset(run, ones, length);
      error = reader.error;
      broken = i;
    }
  }
  if (error != RunError::kNone) fail(broken, std::string("counts ") + message_of(error));
  return masks;
}

py::array_t<uint32_t> area(const py::sequence& objects) {
  const std::vector<IntervalMask> masks = read_all(borrow_all(objects));
  py::array_t<uint32_t> result(static_cast<py::ssize_t>(masks.size()));
  for (size_t i = 0; i < masks.size(); ++i) result.mutable_at(i) = cpu::area(masks[i]);
  return result;
}

py::array_t<double> bounding_boxes(const py::sequence& objects) {
  const std::vector<IntervalMask> masks = read_all(borrow_all(objects));
  py::array_t<double> result({static_cast<py::ssize_t>(masks.size()), py::ssize_t{4}});
  auto* boxes = reinterpret_cast<cpu::BoxXywh*>(result.mutable_data());
  for (size_t i = 0; i < masks.size(); ++i) boxes[i] = cpu::bounding_box(masks[i]);
  return result;
}

py::dict merge(const py::sequence& objects, bool intersect) {
  const std::vector<Rle> rles = borrow_all(objects);
  std::vector<IntervalMask> masks = read_all(rles);
  for (const IntervalMask& mask : masks)
    if (mask.height != masks[0].height || mask.width != masks[0].width) return to_dict({0, 0}, "");
  if (masks.empty()) return to_dict({0, 0}, "");
  if (masks.size() == 1)
    return to_dict(rles[0].size, {reinterpret_cast<const char*>(rles[0].text), static_cast<size_t>(rles[0].length)});
  std::string text;
  {
    py::gil_scoped_release release;
    const IntervalMask merged = cpu::merge(std::move(masks), intersect);
    text = string_of([&](uint8_t* output, int64_t capacity) { return cpu::write_intervals(merged, output, capacity); });
  }
  return to_dict(rles[0].size, text);
}

py::array_t<double> by_columns(py::ssize_t rows, py::ssize_t columns) {
  constexpr py::ssize_t kItem = sizeof(double);
  return py::array_t<double>({rows, columns}, {kItem, kItem * rows});
}

py::array_t<double> mask_iou(const py::sequence& detections, const py::sequence& truths,
                             const py::array_t<uint8_t>& crowd) {
  const std::vector<IntervalMask> found = read_all(borrow_all(detections)), true_ones = read_all(borrow_all(truths));
  py::array_t<double> iou = by_columns(found.size(), true_ones.size());
  const uint8_t* is_crowd = crowd.data();
  double* output = iou.mutable_data();
  py::gil_scoped_release release;
  cpu::mask_iou(found, true_ones, is_crowd, output);
  return iou;
}

py::array_t<double> box_iou(const Doubles& detections, const Doubles& truths, const py::array_t<uint8_t>& crowd) {
  py::array_t<double> iou = by_columns(detections.shape(0), truths.shape(0));
  const auto boxes = [](const Doubles& array) { return reinterpret_cast<const cpu::BoxXywh*>(array.data()); };
  const auto *found = boxes(detections), *true_ones = boxes(truths);
  const py::ssize_t found_count = detections.shape(0), true_count = truths.shape(0);
  const uint8_t* is_crowd = crowd.data();
  double* output = iou.mutable_data();
  py::gil_scoped_release release;
  cpu::box_iou(found, found_count, true_ones, true_count, is_crowd, output);
  return iou;
}

// One dictionary a polygon: x and y in turn.
py::list polygons(const std::vector<Doubles>& polygons, int64_t height, int64_t width) {
  check_size({height, width});
  py::list result(polygons.size());
  for (size_t i = 0; i < polygons.size(); ++i) {
    if (polygons[i].ndim() != 1) fail(i, "a polygon must be a flat list of x and y");
    const double* vertices = polygons[i].data();
    const int64_t count = polygons[i].size() / 2;
    for (int64_t k = 0; k < 2 * count; ++k)
      if (!(std::abs(vertices[k]) <= cpu::kFarthestVertex)) fail(i, "a vertex lies at " + std::to_string(vertices[k]));
    std::string text;
    {
      py::gil_scoped_release release;
      const std::vector<uint32_t> flips = cpu::polygon_flips(vertices, count, height, width);
      text = string_of([&](uint8_t* output, int64_t capacity) {
        RunWriter writer(output, capacity);
        for (const uint32_t flip : flips) writer.flip(flip);
        return writer.finish(height * width);
      });
    }
    result[i] = to_dict({height, width}, text);
  }
  return result;
}

// One dictionary for a list of counts.
py::dict compress(const py::array_t<int64_t, py::array::c_style | py::array::forcecast>& counts,
                  const py::handle& size) {
  const Size own = size_of(size);
  int64_t pixels = 0;
  std::vector<uint32_t> runs(counts.size());
  for (size_t i = 0; i < runs.size(); ++i) {
    const int64_t count = counts.data()[i];
    if (count < 0) throw py::value_error(std::string("counts ") + message_of(RunError::kNegative));
    if (count > own.height * own.width - pixels)
      throw py::value_error(std::string("counts ") + message_of(RunError::kTooLong));
    pixels += count;
    runs[i] = static_cast<uint32_t>(count);
  }
  if (pixels < own.height * own.width) throw py::value_error(std::string("counts ") + message_of(RunError::kTooShort));
  return to_dict(own, string_of([&](uint8_t* output, int64_t capacity) {
                   return write_string(runs.data(), runs.size(), output, capacity);
                 }));
}

}  // namespace
}  // namespace yolact

PYBIND11_MODULE(_mask, m) {
  m.doc() = "COCO run lengths over NumPy arrays: what yolact.mask is made of.";
  m.def("encode", &yolact::encode);
  m.def("decode", &yolact::decode);
  m.def("area", &yolact::area);
  m.def("bounding_boxes", &yolact::bounding_boxes);
  m.def("merge", &yolact::merge);
  m.def("mask_iou", &yolact::mask_iou);
  m.def("box_iou", &yolact::box_iou);
  m.def("polygons", &yolact::polygons);
  m.def("compress", &yolact::compress);
  m.def("cpu_capability", [] { return yolact::cpu::name_of(yolact::cpu::level()); });
}
