// The module behind yolact.mask: NumPy arrays and COCO's dictionaries in, the same out, no torch. Whatever takes long
// runs without the GIL. What a function does is told in yolact/mask.py; each takes what pycocotools._mask's takes.
#include <cmath>
#include <cstring>
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
#include "../cpu/run_string.h"
#include "objects.h"

namespace yolact {
namespace {

using cpu::IntervalMask;

// Strings one behind the other, none of which is written before there is room for it.
class Texts {
 public:
  // The string that `write(output, capacity)` makes, of at most `longest` bytes.
  template <class Write>
  void append(int64_t longest, Write write) {
    const int64_t used = end_.empty() ? 0 : end_.back();
    if (used + longest > capacity_) {
      capacity_ = 2 * used + longest;
      std::unique_ptr<uint8_t[]> grown(new uint8_t[capacity_]);
      if (used > 0) std::memcpy(grown.get(), data_.get(), static_cast<size_t>(used));
      data_ = std::move(grown);
    }
    end_.push_back(used + write(data_.get() + used, capacity_ - used));
  }

  std::string_view operator[](size_t i) const {
    const int64_t begin = i == 0 ? 0 : end_[i - 1];
    return {reinterpret_cast<const char*>(data_.get()) + begin, static_cast<size_t>(end_[i] - begin)};
  }

 private:
  int64_t capacity_ = 0;
  std::unique_ptr<uint8_t[]> data_;
  std::vector<int64_t> end_;
};

// A mask [H, W], or [H, W, N], of bool or uint8.
py::object encode(py::handle bimask) {
  const py::array pixels(py::reinterpret_borrow<py::object>(bimask));
  const bool many = pixels.ndim() == 3;
  if (!many && pixels.ndim() != 2)
    throw py::value_error("masks must be of shape [H, W] or [H, W, N], got " + std::to_string(pixels.ndim()) +
                          " dimensions");
  const py::dtype dtype = pixels.dtype();
  if (dtype.itemsize() != 1 || (dtype.kind() != 'u' && dtype.kind() != 'b'))
    throw py::type_error("masks must be of dtype uint8 or bool, got " + std::string(py::str(dtype)));
  const Size size{pixels.shape(0), pixels.shape(1)};
  check_size(size);

  const int64_t count = many ? pixels.shape(2) : 1, stride = many ? pixels.strides(2) : 0;
  const int64_t stride_y = pixels.strides(0), stride_x = pixels.strides(1);
  const auto* first = static_cast<const uint8_t*>(pixels.data());
  Texts texts;
  {
    const Release release(count * size.pixels());
    for (int64_t i = 0; i < count; ++i)
      // A character a pixel at most, and one for a first run of none; eight are written at once.
      texts.append(size.pixels() + 9, [&](uint8_t* output, int64_t capacity) {
        return cpu::encode_mask(first + i * stride, size.height, size.width, stride_y, stride_x, output, capacity);
      });
  }
  if (!many) return to_dict(size, texts[0]);
  py::list result(count);
  for (int64_t i = 0; i < count; ++i) result[i] = to_dict(size, texts[i]);
  return std::move(result);
}

// Zeros [H, W, N], by columns. What is large comes from the system, which has it zero already.
py::array zeros(py::ssize_t height, py::ssize_t width, py::ssize_t count) {
  constexpr py::ssize_t kLarge = 1 << 20;
  const py::ssize_t pixels = height * width;
  if (pixels * count >= kLarge) {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> make;
    make.call_once_and_store_result([] { return py::object(py::module_::import("numpy").attr("zeros")); });
    return make.get_stored()(py::make_tuple(height, width, count), "u1", "F");
  }
  py::array_t<uint8_t> masks({height, width, count}, {py::ssize_t{1}, height, pixels});
  std::memset(masks.mutable_data(), 0, static_cast<size_t>(pixels * count));
  return std::move(masks);
}

py::array decode(py::handle objects) {  // [H, W] of one, [H, W, N] of several, by columns
  const std::vector<Rle> rles = rles_of(objects);
  if (rles.empty()) throw py::value_error("decode needs at least one mask: the size is the masks' own");
  const Size size = rles[0].size;
  for (size_t i = 0; i < rles.size(); ++i)
    if (rles[i].size != size) fail(i, "is not of the size of the first one");

  const auto count = static_cast<py::ssize_t>(rles.size());
  py::array result = zeros(size.height, size.width, count);
  auto* output = static_cast<uint8_t*>(result.mutable_data());
  read_each(rles, size.pixels() * count, [&](size_t i, const IntervalMask& mask) {
    uint8_t* pixels = output + static_cast<int64_t>(i) * size.pixels();
    for (const cpu::Interval& run : mask) std::memset(pixels + run.begin, 1, run.end - run.begin);
  });
  return is_sequence(objects) ? result : py::array(result[py::make_tuple(py::ellipsis(), 0)]);
}

py::object area(py::handle objects) {  // uint32 of one, [N] uint32 of several
  const std::vector<Rle> rles = rles_of(objects);
  py::array_t<uint32_t> result(static_cast<py::ssize_t>(rles.size()));
  uint32_t* output = result.mutable_data();
  read_each(rles, bytes_of(rles), [&](size_t i, const IntervalMask& mask) { output[i] = cpu::area(mask); });
  if (is_sequence(objects)) return std::move(result);
  return py::reinterpret_steal<py::object>(PySequence_GetItem(result.ptr(), 0));
}

py::array_t<double> toBbox(py::handle objects) {  // [4] of one, [N, 4] of several
  const std::vector<Rle> rles = rles_of(objects);
  const auto count = static_cast<py::ssize_t>(rles.size());
  const bool many = is_sequence(objects);
  py::array_t<double> result(many ? std::vector<py::ssize_t>{count, 4} : std::vector<py::ssize_t>{4});
  auto* boxes = reinterpret_cast<cpu::BoxXywh*>(result.mutable_data());
  read_each(rles, bytes_of(rles), [&](size_t i, const IntervalMask& mask) { boxes[i] = cpu::bounding_box(mask); });
  return result;
}

py::dict merge(py::handle objects, py::handle intersect) {
  std::vector<Rle> rles;
  const Items items(objects, "masks must come in a list");
  for (size_t i = 0; i < items.size(); ++i) rles.push_back(rle_of(items[i]));
  std::vector<IntervalMask> masks = read_all(rles);
  const int intersection = PyObject_IsTrue(intersect.ptr());
  if (intersection < 0) throw py::error_already_set();
  for (const Rle& rle : rles)
    if (rle.size != rles[0].size) return to_dict({0, 0}, "");
  if (masks.empty()) return to_dict({0, 0}, "");
  if (masks.size() == 1)
    return to_dict(rles[0].size, {reinterpret_cast<const char*>(rles[0].text), static_cast<size_t>(rles[0].length)});
  Texts text;
  {
    const Release release(bytes_of(rles));
    const IntervalMask merged = cpu::merge(std::move(masks), intersection != 0);
    text.append(cpu::longest_string(2 * merged.count),
                [&](uint8_t* output, int64_t capacity) { return cpu::write_intervals(merged, output, capacity); });
  }
  return to_dict(rles[0].size, text[0]);
}

// Whether it is a list of dictionaries.
bool are_rles(py::handle objects) {
  if (!PyList_Check(objects.ptr())) return false;
  const Items items(objects, "masks must come in a list");
  for (size_t i = 0; i < items.size(); ++i)
    if (!PyDict_Check(items[i].ptr())) return false;
  return true;
}

py::array_t<double> by_columns(size_t rows, size_t columns) {
  constexpr py::ssize_t kItem = sizeof(double);
  const auto height = static_cast<py::ssize_t>(rows), width = static_cast<py::ssize_t>(columns);
  return py::array_t<double>({height, width}, {kItem, kItem * height});
}

py::object iou(py::handle detections, py::handle truths, py::handle crowd) {  // [M, N], by columns
  if (py::len(detections) == 0 || py::len(truths) == 0) return py::list();
  const bool are_masks = are_rles(detections);
  if (are_masks != are_rles(truths))
    throw py::type_error("dt and gt must be of one kind, but only one of them holds masks");
  if (are_masks) {
    const std::vector<IntervalMask> found = read_all(rles_of(detections)), true_ones = read_all(rles_of(truths));
    const std::vector<uint8_t> is_crowd = flags_of(crowd, true_ones.size());
    py::array_t<double> iou = by_columns(found.size(), true_ones.size());
    double* output = iou.mutable_data();
    const Release release(static_cast<int64_t>(found.size() * true_ones.size()) * 64);
    cpu::mask_iou(found, true_ones, is_crowd.data(), output);
    return std::move(iou);
  }
  const std::vector<cpu::BoxXywh> found = boxes_of(detections, "dt"), true_ones = boxes_of(truths, "gt");
  const std::vector<uint8_t> is_crowd = flags_of(crowd, true_ones.size());
  py::array_t<double> iou = by_columns(found.size(), true_ones.size());
  double* output = iou.mutable_data();
  const Release release(static_cast<int64_t>(found.size() * true_ones.size()));
  cpu::box_iou(found.data(), static_cast<int64_t>(found.size()), true_ones.data(),
               static_cast<int64_t>(true_ones.size()), is_crowd.data(), output);
  return std::move(iou);
}

// The mask between flips that `find()` gives, which is work for about `work` bytes.
template <class Find>
py::dict from_flips(Size size, int64_t work, Find find) {
  Texts text;
  {
    const Release release(work);
    const std::vector<uint32_t> flips = find();
    const auto count = static_cast<int64_t>(flips.size());
    text.append(cpu::longest_string(count), [&](uint8_t* output, int64_t capacity) {
      return cpu::write_flips(flips.data(), count, size.pixels(), output, capacity);
    });
  }
  return to_dict(size, text[0]);
}

// The mask of a closed line through x and y in turn.
py::dict draw(size_t row, const double* vertices, int64_t count, Size size) {
  for (int64_t k = 0; k < 2 * count; ++k)
    if (!(std::abs(vertices[k]) <= cpu::kFarthestVertex)) fail(row, "a vertex lies at " + std::to_string(vertices[k]));
  return from_flips(size, count * size.width,
                    [&] { return cpu::polygon_flips(vertices, count, size.height, size.width); });
}

py::list draw_boxes(const std::vector<cpu::BoxXywh>& boxes, Size size) {
  py::list result(boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i) {
    const double left = boxes[i].x, top = boxes[i].y, right = left + boxes[i].width, bottom = top + boxes[i].height;
    const double corners[] = {left, top, left, bottom, right, bottom, right, top};
    result[i] = draw(i, corners, 4, size);
  }
  return result;
}

py::dict draw_polygon(size_t row, py::handle polygon, Size size) {
  std::vector<double> vertices;
  append_numbers(polygon, &vertices);
  return draw(row, vertices.data(), static_cast<int64_t>(vertices.size() / 2), size);
}

// The mask of a dictionary whose counts are a list or an array.
py::dict compress(py::handle object) {
  if (!PyDict_Check(object.ptr()))
    throw py::type_error("a mask must be a dictionary with size and counts, got " + shown(object));
  const auto rle = py::reinterpret_borrow<py::dict>(object);
  const Size size = size_of(rle["size"]);
  const std::vector<int64_t> counts = whole_numbers(rle["counts"]);
  std::vector<uint32_t> flips(counts.size());
  int64_t position = 0;
  RunError error = RunError::kNone;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 0) error = RunError::kNegative;
    if (counts[i] > size.pixels() - position) error = RunError::kTooLong;
    if (error != RunError::kNone) break;
    flips[i] = static_cast<uint32_t>(position += counts[i]);
  }
  if (error == RunError::kNone && position < size.pixels()) error = RunError::kTooShort;
  if (error != RunError::kNone) throw py::value_error(std::string("counts ") + message_of(error));
  if (flips.empty()) return to_dict(size, "");
  return from_flips(size, static_cast<int64_t>(flips.size()), [&] { return std::move(flips); });
}

py::object frPyObjects(py::handle objects, py::handle height, py::handle width) {
  if (PyDict_Check(objects.ptr())) return compress(objects);
  const Size size = size_of(height, width);
  if (py::isinstance<py::array>(objects)) return draw_boxes(boxes_of(objects, "pyobj"), size);
  if (!PyList_Check(objects.ptr()) || py::len(objects) == 0)
    throw py::type_error("pyobj must be a non-empty list, an array or a dictionary, got " + shown(objects));
  const Items items(objects, "pyobj must be a list");
  const py::object first = items[0];
  if (PyDict_Check(first.ptr())) {
    py::list result;
    for (size_t i = 0; i < items.size(); ++i) result.append(compress(items[i]));
    return std::move(result);
  }
  const bool is_one = !is_sequence(first);  // a polygon or a box by its numbers
  const size_t numbers = is_one ? items.size() : py::len(first);
  if (numbers < 4)
    throw py::value_error("a polygon must have more than four numbers, a box four, got " +
                          shown(is_one ? objects : py::handle(first)));
  if (is_one) {
    if (numbers > 4) return draw_polygon(0, objects, size);
    return draw_boxes(boxes_of(py::make_tuple(objects), "pyobj"), size)[0];
  }
  if (numbers == 4) return draw_boxes(boxes_of(objects, "pyobj"), size);
  py::list result;
  for (size_t i = 0; i < items.size(); ++i) result.append(draw_polygon(i, items[i], size));
  return std::move(result);
}

}  // namespace
}  // namespace yolact

PYBIND11_MODULE(_mask, m) {
  namespace py = pybind11;
  m.doc() = "COCO run lengths over NumPy arrays: what yolact.mask is made of.";
  m.def("encode", &yolact::encode, py::arg("bimask"));
  m.def("decode", &yolact::decode, py::arg("rleObjs"));
  m.def("area", &yolact::area, py::arg("rleObjs"));
  m.def("toBbox", &yolact::toBbox, py::arg("rleObjs"));
  m.def("merge", &yolact::merge, py::arg("rleObjs"), py::arg("intersect") = false);
  m.def("iou", &yolact::iou, py::arg("dt"), py::arg("gt"), py::arg("pyiscrowd"));
  m.def("frPyObjects", &yolact::frPyObjects, py::arg("pyobj"), py::arg("h"), py::arg("w"));
  m.def("cpu_capability", [] { return yolact::cpu::name_of(yolact::cpu::level()); });
}
