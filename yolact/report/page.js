"use strict";
// The page: all pictures as a gallery, one of them at a time with its instances, and the filters of both.

// ---- the gallery: what is in sight is drawn, what is far away is let go

const near = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    const { scene } = pictures[target.dataset.index];
    const { clientWidth, clientHeight } = scene.frame;
    if (isIntersecting) {
      scene.load(Math.ceil(Math.max(clientWidth, clientHeight) * Math.min(devicePixelRatio, 2)));
      scene.update();
    } else if (scene.longest) scene.clear();
  }
}, { rootMargin: "300px" });

for (const picture of pictures) {
  picture.scene = new Scene(picture);
  picture.count = element("span", { className: "count" });
  const name = element("span", { className: "name", textContent: picture.name, title: picture.name });
  const button = element("button", { type: "button" }, picture.scene.frame, element("span", { className: "caption" }, name, picture.count));
  button.addEventListener("click", () => go(picture));
  picture.card = element("li", {}, button);
  picture.card.dataset.index = picture.index;
  picture.card.style.setProperty("--aspect", Math.min(3, Math.max(0.5, picture.size[1] / picture.size[0])));
  $("gallery").append(picture.card);
  near.observe(picture.card);
}

// ---- one picture: which, the address tells, so that a browser's own way back leads to the gallery

let inHistory = false;  // the gallery, one step back

function go(picture) {
  inHistory = true;
  location.hash = picture.index + 1;
  follow();
}

function step(by) {
  const seen = pictures.filter(picture => !picture.card.hidden || picture === current);
  const next = seen[seen.indexOf(current) + by];
  if (!next) return;
  location.replace(`#${next.index + 1}`);
  follow();
}

function back() {
  if (inHistory) history.back();
  else location.replace("#");
}

function follow() {
  const picture = pictures[Number(location.hash.slice(1)) - 1] || null;
  if (picture === current) return;
  const before = current;
  current = picture;
  active = pinned = null;
  $("gallery").hidden = picture !== null;
  $("single").hidden = picture === null;
  if (picture) {
    $("name").textContent = picture.name;
    picture.alone = new Scene(picture);
    $("stage").replaceChildren(picture.alone.frame);
    picture.alone.load(Infinity);
    $("instances").replaceChildren(...picture.instances.map(row));
    refresh();
    $("single").scrollIntoView({ block: "nearest" });
    if (!before) $("back").focus({ preventScroll: true });
  } else {
    inHistory = false;
    $("stage").replaceChildren();
    $("instances").replaceChildren();
    before.alone = null;
    refresh();
    before.card.scrollIntoView({ block: "nearest" });
    before.card.firstChild.focus();
  }
}

function row(instance) {
  const { name, colour } = classes[instance.label];
  const check = element("input", { type: "checkbox", checked: !instance.hidden, title: "Show" });
  check.setAttribute("aria-label", `Show ${name} ${instance.score.toFixed(2)}`);
  check.addEventListener("change", () => { instance.hidden = !check.checked; refresh(); });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = colour;
  const choose = element("button", { type: "button" }, swatch, element("span", { className: "name", textContent: name }),
    element("span", { className: "score", textContent: instance.score.toFixed(2) }));
  choose.addEventListener("click", () => pin(pinned === instance ? null : instance));
  choose.addEventListener("focus", () => highlight(instance));
  choose.addEventListener("blur", () => highlight(null));
  instance.row = element("li", {}, check, choose);
  instance.row.addEventListener("pointerenter", () => highlight(instance));
  instance.row.addEventListener("pointerleave", () => highlight(null));
  return instance.row;
}

function highlight(instance) {
  if (active === instance) return;
  active = instance;
  describe();
  current.alone.update();
}

function pin(instance) {
  pinned = instance;
  if (instance) instance.row.scrollIntoView({ block: "nearest" });
  describe();
  current.alone.update();
}

function describe() {
  const instance = active || pinned;
  for (const { row } of current.instances) {
    row.classList.toggle("active", row === instance?.row);
    row.lastChild.setAttribute("aria-pressed", row === pinned?.row);
  }
  if (!instance) {
    const [height, width] = current.size;
    $("about").textContent = `${width} × ${height} pixels. Point at an instance, or choose it, to see it alone.`;
    return;
  }
  const [x, y, w, h] = instance.box.map(side => number.format(side));
  $("about").textContent =
    `${classes[instance.label].name}, score ${instance.score.toFixed(3)}, box ${x}, ${y}, ${w} × ${h}, area ${number.format(instance.area)} px`;
}

function under(event) {
  const { left, top, width, height } = current.alone.frame.getBoundingClientRect();
  const x = (event.clientX - left) / width, y = (event.clientY - top) / height;
  return x >= 0 && x < 1 && y >= 0 && y < 1 ? current.alone.at(x, y) : null;
}

$("stage").addEventListener("pointermove", event => { if (event.pointerType === "mouse") highlight(under(event)); });
$("stage").addEventListener("pointerleave", () => highlight(null));
$("stage").addEventListener("click", event => { const hit = under(event); pin(hit === pinned ? null : hit); });

window.addEventListener("hashchange", follow);
$("back").addEventListener("click", back);
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
document.addEventListener("keydown", event => {
  const typing = event.target.matches("input[type=search], input[type=range]");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const layer = { m: "masks", b: "boxes", l: "labels", t: "truth" }[event.key];
  if (layer) document.querySelector(`[data-layer=${layer}]`).click();
  else if (current && event.key === "Escape") back();
  else if (current && event.key === "ArrowLeft") step(-1);
  else if (current && event.key === "ArrowRight") step(1);
});

// ---- the filters

function refresh() {
  const counts = classes.map(() => ({ shown: 0, pictures: 0 }));
  let total = 0;
  for (const picture of pictures) {
    const visible = picture.instances.filter(isShown);
    for (const { label } of visible) counts[label].shown++;
    for (const label of new Set(visible.map(shape => shape.label))) counts[label].pictures++;
    total += visible.length;
    picture.count.textContent = number.format(visible.length);
    const hasTruth = shown.truth && picture.truths.some(isClassShown);
    const wanted = picture.name.toLowerCase().includes($("search").value.trim().toLowerCase());
    picture.card.hidden = !wanted || ($("hide-empty").checked && !visible.length && !hasTruth);
    if (!current && picture.scene.longest) picture.scene.update();
  }
  const seen = pictures.filter(picture => !picture.card.hidden);
  $("summary").textContent =
    `${plural(seen.length, "picture")}${seen.length < pictures.length ? ` of ${number.format(pictures.length)}` : ""} · ` +
    `${plural(total, "instance")}${total < every.length ? ` of ${number.format(every.length)}` : ""}`;
  classes.forEach((entry, label) => {
    const { shown, pictures } = counts[label];
    entry.cells.shown.textContent = shown === entry.total ? number.format(shown) : `${number.format(shown)}/${number.format(entry.total)}`;
    entry.cells.pictures.textContent = number.format(pictures);
  });
  if (current) {
    for (const instance of current.instances) instance.row.hidden = instance.score < shown.score || !isClassShown(instance);
    if (pinned && !isShown(pinned)) pinned = null;
    const place = seen.indexOf(current);
    $("position").textContent = place < 0 ? "" : `${place + 1} of ${seen.length}`;
    $("previous").disabled = place === 0;
    $("next").disabled = place === seen.length - 1;
    describe();
    current.alone.update();
  }
}

let waiting = false;
function soon() {  // once a frame, however fast a slider moves
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; refresh(); });
}

const every = pictures.flatMap(picture => picture.instances);
const truths = pictures.flatMap(picture => picture.truths);
classes.forEach((entry, label) => {
  const own = every.filter(instance => instance.label === label);
  entry.total = own.length;
  entry.check = element("input", { type: "checkbox", checked: true });
  entry.check.addEventListener("change", () => { shown.off[entry.check.checked ? "delete" : "add"](label); refresh(); });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = entry.colour;
  const name = element("span", { className: "name", textContent: entry.name, title: entry.name });
  const head = element("th", { scope: "row" }, element("label", {}, entry.check, swatch, name));
  const mean = own.reduce((sum, { score }) => sum + score, 0) / own.length;
  entry.cells = { shown: element("td"), pictures: element("td") };
  entry.line = element("tr", {}, head, entry.cells.shown, entry.cells.pictures, element("td", { textContent: own.length ? mean.toFixed(2) : "" }));
  if (truths.length) entry.line.append(element("td", { textContent: number.format(truths.filter(truth => truth.label === label).length) }));
});
$("classes").append(...[...classes].sort((a, b) => b.total - a.total).map(entry => entry.line));
if (truths.length) {
  document.querySelector("[data-layer=truth]").parentNode.hidden = false;
  document.querySelector("th.truth").hidden = false;
}

const bins = new Array(20).fill(0);
for (const { score } of every) bins[Math.min(19, Math.max(0, Math.floor(20 * score)))]++;
for (const bin of bins) {
  const bar = element("i");
  bar.style.height = `${100 * bin / Math.max(...bins, 1)}%`;
  $("histogram").append(bar);
}

for (const check of document.querySelectorAll("[data-layer]")) {
  shown[check.dataset.layer] = check.checked;
  check.addEventListener("change", () => { shown[check.dataset.layer] = check.checked; refresh(); });
}
for (const [id, key] of [["score", "score"], ["opacity", "opacity"]]) {
  const read = () => { shown[key] = Number($(id).value); $("score-value").value = shown.score.toFixed(2); };
  $(id).addEventListener("input", () => { read(); soon(); });
  read();  // browsers remember what was set
}
$("search").addEventListener("input", soon);
$("hide-empty").addEventListener("change", refresh);
function switchAll(on) {
  shown.off = new Set(on ? [] : classes.keys());
  for (const { check } of classes) check.checked = on;
  refresh();
}
$("all").addEventListener("click", () => switchAll(true));
$("none").addEventListener("click", () => switchAll(false));
if (matchMedia("(max-width: 760px)").matches) $("filters").open = false;
refresh();
follow();
