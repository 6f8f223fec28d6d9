"use strict";
// The pictures of the page, what is in them, what is shown of it, and how one is drawn.

const SURFACE = 4096 * 4096;  // pixels: the largest canvas that every browser has
const $ = id => document.getElementById(id);
const number = new Intl.NumberFormat("en");

const classes = JSON.parse(document.querySelector("script.classes").textContent);
const pictures = [...document.querySelectorAll("script.picture")].map((script, index) => {
  const { name, size, instances, truths } = JSON.parse(script.textContent);
  const largestFirst = (a, b) => b.area - a.area;  // painted in this order: what is small stays in sight
  return {
    index, name, size, instances,
    jpeg: script.nextElementSibling,
    painted: [...instances].sort(largestFirst),
    truths: (truths || []).sort(largestFirst),
  };
});
const shown = { score: 0, opacity: 0.5, masks: true, boxes: false, labels: false, truth: false, off: new Set() };
let current = null;  // the picture that is alone on the page
let active = null, pinned = null;  // instances of it: under the pointer, and chosen

const isClassShown = shape => !shown.off.has(shape.label);
const isShown = instance => instance.score >= shown.score && isClassShown(instance) && !instance.hidden;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function plural(count, word) {
  return `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
}

/** Colour as canvases have it, ABGR, some of it mixed with white. */
function packed(colour, alpha, white = 0) {
  const channels = [5, 3, 1].map(at => parseInt(colour.slice(at, at + 2), 16)).map(c => Math.round(c + (255 - c) * white));
  return channels.reduce((value, channel) => value * 256 + channel, Math.round(255 * alpha));
}

/** A picture with what is found in it: a frame to be put somewhere. */
class Scene {
  constructor(picture) {
    this.picture = picture;
    this.img = element("img", { alt: `${picture.name}: ${plural(picture.instances.length, "instance")}`, decoding: "async" });
    this.masks = element("canvas", { className: "masks" });
    this.truth = element("canvas", { className: "truth" });
    this.boxes = element("div", { className: "boxes" });
    this.frame = element("div", { className: "frame" }, this.img, this.truth, this.masks, this.boxes);
    this.frame.style.setProperty("--aspect", picture.size[1] / picture.size[0]);
  }

  /** Decode the picture; its masks will have at most so many pixels on their longer side. */
  load(longest) {
    this.longest = longest;
    if (!this.img.src) this.img.src = `data:image/jpeg;base64,${this.picture.jpeg.textContent}`;
  }

  /** Draw what is to be seen. */
  update() {
    const { painted, truths } = this.picture;
    const chosen = this.picture === current && (active || pinned);
    const visible = painted.filter(isShown).filter(shape => shape !== chosen);
    if (chosen && isShown(chosen)) visible.push(chosen);
    const wanted = shown.truth ? truths.filter(isClassShown) : [];
    const dim = chosen ? 0.35 : 1;
    this.owners = this.paint(this.masks, shown.masks ? visible : [], 0, shape => {
      const strength = shape === chosen ? Math.min(1, shown.opacity + 0.2) : shown.opacity * dim;
      return [packed(classes[shape.label].colour, strength), packed(classes[shape.label].colour, shape === chosen ? 1 : 0.9 * dim, 0.45)];
    });
    this.paint(this.truth, wanted, 6, shape => [packed(classes[shape.label].colour, 0.8), packed("#ffffff", 1)]);
    this.boxes.replaceChildren(
      ...visible.filter(shape => shown.boxes || shown.labels || shape === chosen).map(shape => this.box(shape, shape === chosen)),
      ...wanted.filter(() => shown.boxes || shown.labels).map(shape => this.box(shape, false)),
    );
  }

  /** Masks on a canvas, later ones over earlier ones; returns whose each pixel is. */
  paint(canvas, shapes, stripes, colours) {
    const [height, width] = this.picture.size;
    const scale = Math.min(1, this.longest / Math.max(height, width), Math.sqrt(SURFACE / (height * width)));
    const size = [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
    shapes = shapes.filter(shape => shape.counts);
    canvas.hidden = !shapes.length;
    [canvas.height, canvas.width] = shapes.length ? size : [0, 0];
    if (!shapes.length) return null;
    const plane = new Uint16Array(size[0] * size[1]);
    const insides = new Uint32Array(shapes.length + 1), borders = new Uint32Array(shapes.length + 1);
    shapes.forEach((shape, i) => {
      shape.ends ||= runEnds(shape.counts);
      fillMask(plane, size, shape.ends, this.picture.size, i + 1);
      [insides[i + 1], borders[i + 1]] = colours(shape);
    });
    const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
    const line = Math.max(1, Math.round(1.2 * Math.max(...size) / (this.frame.clientWidth || Math.max(...size))));
    colourPlane(image, plane, insides, borders, line, stripes * line);
    context.putImageData(image, 0, 0);
    return { plane, size, shapes };
  }

  box(shape, isChosen) {
    const [height, width] = this.picture.size, [x, y, w, h] = shape.box, { name, colour } = classes[shape.label];
    const isTruth = shape.score === undefined;
    const box = element("div", { className: `box${isTruth ? " truth" : ""}` });
    if (!shown.boxes && !isChosen) box.classList.add("bare");
    const place = { left: x / width, top: y / height, width: w / width, height: h / height };
    for (const [side, share] of Object.entries(place)) box.style[side] = `${100 * share}%`;
    box.style.setProperty("--colour", colour);
    if (shown.labels || isChosen) {
      box.append(element("span", { textContent: isTruth ? name : `${name} ${shape.score.toFixed(2)}` }));
    }
    return box;
  }

  /** The instance seen at a place, given as shares of width and height: by its mask, else the smallest box there. */
  at(x, y) {
    if (this.owners) {
      const { plane, size: [height, width], shapes } = this.owners;
      const owner = plane[Math.floor(x * width) * height + Math.floor(y * height)];
      if (owner) return shapes[owner - 1];
    }
    const [height, width] = this.picture.size;
    const within = shape => {
      const [left, top, w, h] = shape.box;
      return x * width >= left && x * width < left + w && y * height >= top && y * height < top + h;
    };
    const maskless = shape => isShown(shape) && !(shown.masks && shape.counts);
    return this.picture.painted.filter(maskless).filter(within).at(-1) || null;
  }

  clear() {
    this.img.removeAttribute("src");
    this.longest = this.owners = null;
    for (const canvas of [this.masks, this.truth]) canvas.width = canvas.height = 0;
    this.boxes.replaceChildren();
  }
}
