// The page of a segmentation: which one is shown, its slices, its solid. Without this file links choose.
import { showSolid } from "./solid.js";

const section = document.querySelector("#view");
const links = [...section.querySelectorAll("a[data-k]")];
const exported = [...document.querySelectorAll("a[data-export]")];
const slider = document.querySelector("#slice");
const planes = JSON.parse(slider.dataset.names);
const written = document.querySelector("#slice-number");
const picture = document.querySelector("#slice-picture");
const MOST_KEPT = 120;
const AHEAD = 3;

let k = section.dataset.k;
const addressOf = (which) => `${section.dataset.base}/${which}`;
const nameOf = (which) => links.find((link) => link.dataset.k === which).dataset.name;

// Pictures stay in this page's memory only: the server lets nothing be kept on the disk.
const kept = new Map();

function fetchSlice(number) {
  const address = `${addressOf(k)}/slices/${number}.jpg`;
  if (!kept.has(address)) {
    const image = new Image();
    image.src = address;
    image.alt = `Slice ${number} of ${slider.max}, ${planes[number - 1]}, with the outlines of ${nameOf(k)}`;
    image.draggable = false;
    kept.set(address, image);
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(address);
}

let drawing = false;

// One is asked for at a time; of those that a held key passes, the newest comes next.
async function showSlice() {
  written.textContent = planes[slider.value - 1];
  solid.cut(Number(slider.value) - 1);
  if (drawing) return;
  drawing = true;
  let image = null;
  while (image !== fetchSlice(slider.value)) {
    image = fetchSlice(slider.value);
    const drawn = await image.decode().then(() => true, () => false);
    if (!drawn) kept.delete(image.getAttribute("src"));
    if (!drawn) break;
  }
  drawing = false;
  picture.replaceChildren(image);
  for (let step = 1; step <= AHEAD; step++) {
    for (const number of [Number(slider.value) + step, Number(slider.value) - step]) {
      if (drawing) return;
      if (number >= 1 && number <= Number(slider.max)) await fetchSlice(number).decode().catch(() => {});
    }
  }
}

// The address names what is shown, so that it can be sent to somebody else.
function remember() {
  const query = new URLSearchParams({ round: section.dataset.base.split("/").pop(), candidate: k, slice: slider.value });
  history.replaceState(null, "", `?${query}${location.hash}`);
}

function choose(which) {
  show(which);
  remember();
}

function moveTo(number) {
  slider.value = number;
  showSlice();
  remember();
}

function show(which) {
  k = which;
  for (const link of links) {
    if (link.dataset.k === k) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const link of exported) link.href = `${addressOf(k)}/export/${link.dataset.export}`;
  document.querySelector("#slice-form [name=candidate]").value = k;
  document.querySelector("#shown").textContent = nameOf(k);
  solid.show(`${addressOf(k)}/surfaces.glb`, nameOf(k));
  showSlice();
}

const solid = showSolid(document.querySelector("#solid"), {
  status: document.querySelector("#solid-status"),
  buttons: document.querySelector("#solid-views"),
  boxes: [...section.querySelectorAll("input[data-value]")],
  plane: JSON.parse(section.dataset.plane),
});

document.querySelector("#slice-form button").hidden = true;
slider.addEventListener("input", () => moveTo(slider.value));
picture.addEventListener("click", () => slider.focus());
picture.addEventListener("wheel", (event) => {
  if (document.activeElement !== slider) return;
  event.preventDefault();
  moveTo(Number(slider.value) - Math.sign(event.deltaY));
}, { passive: false });
for (const link of links) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(link.dataset.k);
  });
}
// Within the view only: elsewhere a digit may mean something else (WCAG 2.2, 2.1.4).
section.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (links.some((link) => link.dataset.k === event.key)) {
    event.preventDefault();
    choose(event.key);
  }
});
show(k);
