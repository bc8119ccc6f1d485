// Names for what the theme makes while a page is read: tables that scroll, buttons of code blocks.
"use strict";

function name() {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    table.tabIndex = 0;
    table.setAttribute("role", "group");
    table.setAttribute("aria-label", "table");
  }
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => {
    const label = `code ${index + 1}`;
    if (nav.getAttribute("aria-label") !== label) nav.setAttribute("aria-label", label);
  });
}

name();
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
