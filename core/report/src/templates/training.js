"use strict";
(() => {
  const slider = document.getElementById("time");
  if (!slider) return;
  const sheets = Array.from(document.querySelectorAll(".sheet[data-label]"));
  const shown = document.getElementById("shown");
  slider.addEventListener("input", () => {
    let left = 0;
    for (const sheet of sheets) left = Math.max(left, sheet.scrollLeft);
    sheets.forEach((sheet, i) => { sheet.hidden = i !== Number(slider.value); });
    const now = sheets[Number(slider.value)];
    now.scrollLeft = left;
    shown.textContent = now.dataset.label + " images";
  });
})();
