// Buttons that copy the text of what `data-copy` selects.
"use strict";
(() => {
  function chosen(text) {
    const range = document.createRange();
    range.selectNodeContents(text);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text.textContent);
      return true;
    } catch {
      chosen(text); // without HTTPS browsers may have no clipboard for pages: the old way, or by hand
      return document.execCommand("copy");
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
    const text = button && document.querySelector(button.dataset.copy);
    if (!text) return;
    const label = button.dataset.label || button.textContent;
    button.dataset.label = label;
    button.textContent = (await copy(text)) ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
})();
