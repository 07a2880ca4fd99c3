// What the server cannot do: a page that refreshes itself waits while somebody is in the middle of it, times
// are shown in the browser's zone, and one box ticks all rows. Without scripts, times are UTC.
"use strict";

function isInUse(region) {
  const selection = document.getSelection();
  const selects = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  const ticked = region.querySelector("input[type=checkbox]:checked");
  return document.hidden || selects || ticked || region.contains(document.activeElement);
}

function localText(moment) {
  const two = (number) => String(number).padStart(2, "0");
  const day = [moment.getFullYear(), two(moment.getMonth() + 1), two(moment.getDate())].join("-");
  return `${day} ${[moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":")}`;
}

function showLocalTimes(region) {
  for (const time of region.querySelectorAll("time[datetime]")) {
    const text = localText(new Date(time.dateTime));
    if (time.title) {
      time.title = `${text} ${zone}`;
    } else {
      time.textContent = text;
    }
  }
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
const zoneNote = document.getElementById("zone");
if (zoneNote) {
  zoneNote.textContent = `Times are ${zone}`;
}
document.documentElement.classList.add("scripts");
showLocalTimes(document);
document.addEventListener("htmx:load", (event) => showLocalTimes(event.target));

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-tick-all]")) {
    for (const box of event.target.form.querySelectorAll("tbody input[type=checkbox]")) {
      box.checked = event.target.checked;
    }
  }
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.id === "live" && isInUse(event.detail.elt)) {
    event.preventDefault();
  }
});
