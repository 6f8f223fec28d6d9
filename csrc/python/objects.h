// Between Python's objects and what the kernels take.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../cpu/run_length_algebra.h"

namespace yolact {

namespace py = pybind11;

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

// Lets other threads have the interpreter while it lives, if the work is worth the change of hands.
class Release {
 public:
  explicit Release(int64_t bytes) : state_(bytes > kWorthwhile ? PyEval_SaveThread() : nullptr) {}
  ~Release() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  Release(const Release&) = delete;
  Release& operator=(const Release&) = delete;

 private:
  static constexpr int64_t kWorthwhile = 4096;  // of strings or pixels: about a microsecond
  PyThreadState* state_;
};

// An object as a message tells it: its repr, or how that begins.
std::string shown(py::handle object);

// The items of anything that can be iterated over; a list is read in place, and may change under foreign calls.
class Items {
 public:
  // `wanted` tells what they should be.
  Items(py::handle objects, const char* wanted);
  size_t size() const { return static_cast<size_t>(PySequence_Fast_GET_SIZE(items_.ptr())); }
  py::handle borrowed(size_t i) const { return PySequence_Fast_GET_ITEM(items_.ptr(), i); }  // until a foreign call
  py::object operator[](size_t i) const { return py::reinterpret_borrow<py::object>(borrowed(i)); }

 private:
  py::object items_;
};

struct Size {
  int64_t height, width;

  int64_t pixels() const { return height * width; }
  bool operator!=(Size other) const { return height != other.height || width != other.width; }
};

// Throws ValueError unless the size is one that run lengths can have.
void check_size(Size size);
Size size_of(py::handle height, py::handle width);
Size size_of(py::handle pair);

[[noreturn]] void fail(size_t row, const std::string& what);

// A COCO dictionary whose string is borrowed: `owner` keeps it.
struct Rle {
  py::object owner;
  const uint8_t* text;
  int64_t length;
  Size size;
};

Rle rle_of(py::handle object);

// One mask, or several of a sequence.
std::vector<Rle> rles_of(py::handle objects);
inline bool is_sequence(py::handle object) { return PySequence_Check(object.ptr()) && !PyDict_Check(object.ptr()); }

int64_t bytes_of(const std::vector<Rle>& rles);

// Calls use(i, mask) with the intervals of one string after the other; what is wrong with one is told with its place.
// Other threads have the interpreter meanwhile, where so many bytes are worth it.
template <typename Use>
void read_each(const std::vector<Rle>& rles, int64_t bytes, Use use) {
  size_t i = 0;
  RunError error = RunError::kNone;
  {
    const Release release(bytes);
    for (; i < rles.size(); ++i) {
      cpu::IntervalMask mask;
      mask.height = rles[i].size.height;
      mask.width = rles[i].size.width;
      error = cpu::read_intervals(rles[i].text, rles[i].length, &mask);
      if (error != RunError::kNone) break;
      use(i, std::move(mask));
    }
  }
  if (error != RunError::kNone) fail(i, std::string("counts ") + message_of(error));
}

// The intervals of every string at once.
std::vector<cpu::IntervalMask> read_all(const std::vector<Rle>& rles);

// A dictionary, counts as bytes.
py::dict to_dict(Size size, std::string_view text);

// Appends the numbers of a sequence.
void append_numbers(py::handle sequence, std::vector<double>* numbers);

// Those of a list, or of an array of one dimension.
std::vector<int64_t> whole_numbers(py::handle sequence);

// [N, 4] of boxes in any form; `name` is the argument's.
std::vector<cpu::BoxXywh> boxes_of(py::handle objects, const char* name);

// A flag a truth, not zero for a crowd.
std::vector<uint8_t> flags_of(py::handle objects, size_t truths);

}  // namespace yolact
