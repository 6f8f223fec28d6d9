"use strict";
// Masks as COCO has them: lengths of runs of zeros and of ones in turn, down one column after the other.

/** Where the runs of a compressed mask end, in pixels from its start: [zeros, ones, zeros, ...]. */
function runEnds(counts) {
  const lengths = [], ends = [];
  for (let p = 0, end = 0; p < counts.length;) {
    let length = 0, shift = 0, byte;
    do {
      byte = counts.charCodeAt(p++) - 48;
      length |= (byte & 31) << shift;  // five bits a letter, the lowest first
      shift += 5;
    } while (byte & 32);
    if (byte & 16) length |= -1 << shift;  // negative
    if (lengths.length > 2) length += lengths[lengths.length - 2];  // to the run before of its kind
    lengths.push(length);
    ends.push(end += length);
  }
  return ends;
}

/**
 * Write a value wherever a mask is, into a plane that may be smaller than the picture.
 *
 * @param plane [width * height], column by column
 * @param size  [height, width] of the plane
 * @param ends  of the mask's runs, on a picture of `full` = [height, width]
 */
function fillMask(plane, [height, width], ends, [fullHeight, fullWidth], value) {
  const firstRow = y => Math.ceil(y * height / fullHeight - 0.5);  // whose middle is not before y
  const firstColumn = x => Math.ceil(x * width / fullWidth - 0.5);
  for (let i = 1; i < ends.length; i += 2) {
    const from = ends[i - 1], to = ends[i];
    const left = Math.floor(from / fullHeight), right = Math.ceil(to / fullHeight);
    for (let x = firstColumn(left); x < firstColumn(right); x++) {
      const start = Math.floor((x + 0.5) * fullWidth / width) * fullHeight;  // of the picture's column seen here
      const top = firstRow(Math.max(from - start, 0)), bottom = firstRow(Math.min(to - start, fullHeight));
      plane.fill(value, x * height + top, x * height + bottom);
    }
  }
}

/**
 * Give each pixel the colour of what is seen there.
 *
 * @param image   ImageData, transparent
 * @param plane   Uint16Array, column by column: 0, or whose pixel it is
 * @param insides, borders  Uint32Arrays: the colour of each, ABGR
 * @param line    pixels from its edge on that are border
 * @param stripe  pixels between stripes; 0 fills all
 */
function colourPlane(image, plane, insides, borders, line, stripe) {
  const { width, height } = image, pixels = new Uint32Array(image.data.buffer), step = line * height;
  for (let left = 0; left < width; left += 32) {  // some columns at a time: rows of pixels stay in the cache
    for (let y = 0; y < height; y++) {
      for (let x = left, i = left * height + y; x < Math.min(left + 32, width); x++, i += height) {
        const owner = plane[i];
        if (!owner) continue;
        const inside = y >= line && y < height - line && x >= line && x < width - line &&
          plane[i - line] === owner && plane[i + line] === owner && plane[i - step] === owner && plane[i + step] === owner;
        if (!inside) pixels[y * width + x] = borders[owner];
        else if (!stripe || (x + y) % stripe < line) pixels[y * width + x] = insides[owner];
      }
    }
  }
}
