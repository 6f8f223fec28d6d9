// Pictures to instances by a package of `yolact export --format package`: no Python.
//
//   segment yolact/_C.so model.pt2 photo.ppm...
//
// The pictures are binary PPM (P6) of one size, and go through the network together. One line an instance: the
// picture's number, label, score, box in pixels, and the string that pycocotools calls "counts".
#include <ATen/ops/from_blob.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Pictures {
  int64_t count = 0, height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [count, height, width, 3] RGB
};

void read_ppm(const std::string& path, Pictures& pictures) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, maximum = 0;
  file >> magic >> width >> height >> maximum;
  file.get();  // the one white space before the pixels
  if (!file || magic != "P6" || maximum != 255 || width <= 0 || height <= 0)
    throw std::runtime_error(path + ": no binary PPM of 8 bits");
  if (pictures.count > 0 && (width != pictures.width || height != pictures.height))
    throw std::runtime_error(path + ": of another size than the pictures before it");
  pictures.height = height;
  pictures.width = width;
  const size_t before = pictures.pixels.size(), size = static_cast<size_t>(height * width * 3);
  pictures.pixels.resize(before + size);
  if (!file.read(reinterpret_cast<char*>(&pictures.pixels[before]), static_cast<std::streamsize>(size)))
    throw std::runtime_error(path + ": ends before its last pixel");
  ++pictures.count;
}

void segment(const std::string& operators, const std::string& package, Pictures& pictures) {
  // Loading the library makes the operators known to torch, which the package calls by their names.
  if (!dlopen(operators.c_str(), RTLD_NOW)) throw std::runtime_error(dlerror());
  torch::inductor::AOTIModelPackageLoader model(package);

  const at::Tensor input =
      at::from_blob(pictures.pixels.data(), {pictures.count, pictures.height, pictures.width, 3}, at::kByte);
  const std::vector<at::Tensor> outputs = model.run({input});  // in the order that yolact/export/modules.py tells
  const auto boxes = outputs.at(0).accessor<float, 3>();
  const auto label = outputs.at(1).accessor<int64_t, 2>();
  const auto score = outputs.at(2).accessor<float, 2>();
  const auto count = outputs.at(3).accessor<int64_t, 1>();
  const auto run_lengths = outputs.at(4).accessor<uint8_t, 2>();
  const auto length = outputs.at(5).accessor<int64_t, 1>();
  const auto needed = outputs.at(6).accessor<int64_t, 1>();

  for (int64_t picture = 0; picture < pictures.count; ++picture)
    for (int64_t d = 0; d < count[picture]; ++d) {
      const int64_t row = picture * label.size(1) + d;
      if (needed[row] > run_lengths.size(1))
        throw std::runtime_error("a mask needs a capacity of " + std::to_string(needed[row]) + " bytes");
      const auto box = boxes[picture][d];
      std::printf("%d %d %.4f %.2f %.2f %.2f %.2f %.*s\n", static_cast<int>(picture),
                  static_cast<int>(label[picture][d]), score[picture][d], box[0], box[1], box[2], box[3],
                  static_cast<int>(length[row]), reinterpret_cast<const char*>(run_lengths[row].data()));
    }
}

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s yolact/_C.so model.pt2 photo.ppm...\n", argv[0]);
    return 2;
  }
  try {
    Pictures pictures;
    for (int i = 3; i < argc; ++i) read_ppm(argv[i], pictures);
    segment(argv[1], argv[2], pictures);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
