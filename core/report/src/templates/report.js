"use strict";
(() => {
  const all = (root, selector) => Array.from(root.querySelectorAll(selector));

  // A picture is in the page once; where it is shown again, its address is taken from there.
  for (const img of all(document, "img[data-of]")) {
    const source = document.getElementById(img.dataset.of);
    if (source) {
      for (const side of ["width", "height"]) img.setAttribute(side, source.getAttribute(side));
      img.src = source.src;
    } else {
      img.remove();
    }
  }

  for (const shift of all(document, ".shift")) series(shift);
  for (const input of all(document, "input.opacity")) {
    const layers = all(input.closest(".overlay"), ".layer");
    input.addEventListener("input", () => { for (const layer of layers) layer.style.opacity = input.value / 100; });
  }
  for (const maps of all(document, ".maps")) classes(maps);
  for (const article of all(document, "article.case")) pointer(article);
  overview(document.getElementById("overview"));

  // The slider, the strip's pictures and the chart's ring show one and the same step.
  function series(shift) {
    const steps = all(document.getElementById(shift.dataset.strip), "button");
    const slider = shift.querySelector("input[type=range]");
    const picture = shift.querySelector(".player");
    const ring = shift.querySelector("circle.now");
    const play = shift.querySelector(".play");
    let timer = 0;
    let forward = true;

    const show = (i) => {
      const step = steps[i];
      const img = step.querySelector("img");
      if (picture && img) {
        picture.src = img.src;
        picture.alt = "Shifted picture, generated: " + step.getAttribute("aria-label");
      }
      shift.querySelector(".lambda").textContent = step.dataset.lambda;
      shift.querySelector(".score").textContent = step.dataset.score;
      ring.setAttribute("cx", step.dataset.x);
      ring.setAttribute("cy", step.dataset.y);
      slider.value = i;
      slider.setAttribute("aria-valuetext", step.getAttribute("aria-label"));
      steps.forEach((s, j) => { if (j === i) s.setAttribute("aria-current", "true"); else s.removeAttribute("aria-current"); });
    };
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
      play.setAttribute("aria-label", "Play the series");
    };
    const start = () => {
      play.textContent = "Pause";
      play.setAttribute("aria-label", "Pause the series");
      timer = setInterval(() => {
        const i = Number(slider.value);
        if (i >= steps.length - 1) forward = false;
        if (i <= 0) forward = true;
        show(Math.min(steps.length - 1, Math.max(0, i + (forward ? 1 : -1))));
      }, Math.max(120, 2400 / steps.length));
    };
    play.addEventListener("click", () => { if (timer) stop(); else start(); });
    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    steps.forEach((step, i) => {
      step.addEventListener("click", () => { stop(); show(i); });
      step.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: steps.length - 1 }[event.key];
        if (to === undefined || !steps[to]) return;
        event.preventDefault();
        stop();
        show(to);
        steps[to].focus();
      });
    });
    show(Number(shift.dataset.origin));
  }

  // A button per class shows and hides the maps about it.
  function classes(maps) {
    const groups = all(maps, ".group");
    for (const button of all(maps, ".classes button")) {
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", shown);
        groups[Number(button.dataset.group)].hidden = !shown;
      });
    }
  }

  // The place under the pointer is marked in the image and in all its maps.
  function pointer(article) {
    const stacks = all(article, ".stack");
    if (stacks.length < 2) return;
    const marks = stacks.map((stack) => stack.appendChild(Object.assign(document.createElement("i"), { className: "mark" })));
    for (const stack of stacks) {
      stack.addEventListener("pointermove", (event) => {
        const box = stack.getBoundingClientRect();
        const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        for (const mark of marks) { mark.style.left = 100 * x + "%"; mark.style.top = 100 * y + "%"; }
        article.classList.add("pointing");
      });
      stack.addEventListener("pointerleave", () => article.classList.remove("pointing"));
    }
  }

  // A click on a column's head sorts by it, a second one the other way round; unknown values stay last.
  function overview(table) {
    if (!table) return;
    const heads = all(table, "thead th");
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = all(table, "tbody tr").map((row) => ({ row, key: row.cells[column].dataset.sort }));
        const order = (a, b) => {
          if (a.key === "~" || b.key === "~") return (a.key === "~") - (b.key === "~");
          const [x, y] = [Number(a.key), Number(b.key)];
          const result = Number.isNaN(x) || Number.isNaN(y) ? a.key.localeCompare(b.key) : x - y;
          return descending ? -result : result;
        };
        rows.sort(order);
        rows.forEach(({ row }) => table.tBodies[0].append(row));
      });
    });
  }
})();
