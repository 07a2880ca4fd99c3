// What the server cannot do: a page that refreshes itself waits while somebody is in the middle of it.
"use strict";

function isInUse(region) {
  const selection = document.getSelection();
  const selects = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  return document.hidden || selects || region.contains(document.activeElement);
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.id === "live" && isInUse(event.detail.elt)) {
    event.preventDefault();
  }
});
