// Keys for the buttons: once per page, so that a key held down votes once.
"use strict";

let pressed = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || pressed) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  if (!button) return;
  pressed = true;
  event.preventDefault();
  button.click();
});
