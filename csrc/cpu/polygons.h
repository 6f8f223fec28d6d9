// Polygons to run lengths, to the count as pycocotools rasterises them.
#pragma once

#include <cstdint>
#include <vector>

namespace yolact::cpu {

// Vertices farther out than this are refused: their fifths of a pixel no longer fit the exact part of a double.
constexpr double kFarthestVertex = 1e14;

// The flat indices at which the pixels of a polygon change, ascending: a closed line through `vertices`, pairs of
// x and y in pixels. Every vertex must be finite and within kFarthestVertex.
std::vector<uint32_t> polygon_flips(const double* vertices, int64_t vertex_count, int64_t height, int64_t width);

}  // namespace yolact::cpu
