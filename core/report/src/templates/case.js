"use strict";
const all = (root, selector) => Array.from(root.querySelectorAll(selector));

// Brings the markup of one case to life; answers what the keys do.
const activateCase = (article) => {
  // A picture is in the markup once; where it is shown again, its address is taken from there.
  for (const img of all(article, "img[data-of]")) {
    const source = article.querySelector("#" + img.dataset.of);
    if (source) {
      for (const side of ["width", "height"]) img.setAttribute(side, source.getAttribute(side));
      img.src = source.src;
    } else {
      img.remove();
    }
  }
  const shifts = all(article, ".shift").map(series);
  const overlays = all(article, "input.opacity").map(opacity);
  for (const maps of all(article, ".maps")) { classes(maps); oneScale(maps); }
  pointer(article);
  return {
    step: (by) => { if (shifts[0]) shifts[0].step(by); },
    play: () => { if (shifts[0]) shifts[0].play(); },
    overlay: () => overlays.forEach((toggle) => toggle()),
    stop: () => shifts.forEach((s) => s.stop()),
  };

  // The slider, the strip's pictures and the chart's ring show one and the same step.
  function series(shift) {
    const steps = all(article.querySelector("#" + shift.dataset.strip), "button");
    const slider = shift.querySelector("input[type=range]");
    const picture = shift.querySelector(".player");
    const ring = shift.querySelector("circle.now");
    const button = shift.querySelector(".play");
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
    const inside = (i) => Math.min(steps.length - 1, Math.max(0, i));
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
      button.setAttribute("aria-label", "Play the series");
    };
    const start = () => {
      button.textContent = "Pause";
      button.setAttribute("aria-label", "Pause the series");
      timer = setInterval(() => {
        const i = Number(slider.value);
        if (i >= steps.length - 1) forward = false;
        if (i <= 0) forward = true;
        show(inside(i + (forward ? 1 : -1)));
      }, Math.max(120, 2400 / steps.length));
    };
    const play = () => { if (timer) stop(); else start(); };
    button.addEventListener("click", play);
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
    return { play, stop, step: (by) => { stop(); show(inside(Number(slider.value) + by)); } };
  }

  // How strongly overlays are drawn; answers what takes them away and brings them back.
  function opacity(input) {
    const layers = all(input.closest(".overlay"), ".layer");
    let before = input.max;
    const show = () => { for (const layer of layers) layer.style.opacity = input.value / 100; };
    input.addEventListener("input", show);
    return () => {
      if (Number(input.value) > 0) { before = input.value; input.value = 0; } else { input.value = before; }
      show();
    };
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

  // Draws the maps about a class with colours that all end at the largest value among them. The layers' opacity holds the
  // map on its own scale; a filter turns it into colour and opacity on the common one.
  function oneScale(maps) {
    const box = maps.querySelector("input.one-scale");
    const defs = maps.appendChild(document.createElement("div"));
    defs.className = "defs";
    box.addEventListener("change", () => {
      defs.replaceChildren();
      for (const [g, group] of all(maps, ".group").entries()) {
        const layers = all(group, ".layer[data-high]");
        const top = layers.reduce((a, b) => (Number(b.dataset.high) > Number(a.dataset.high) ? b : a), layers[0]);
        const words = top && ends(top)[1];
        const common = words && (words.dataset.own || words.textContent);
        for (const [i, layer] of layers.entries()) {
          const own = ends(layer);
          for (const end of own) end.dataset.own = end.dataset.own || end.textContent;
          own[0].textContent = box.checked ? "≤ 0" : own[0].dataset.own;
          own[1].textContent = box.checked ? common : own[1].dataset.own;
          layer.style.filter = box.checked ? "url(#scale-" + g + "-" + i + ")" : "";
          if (box.checked) {
            const [low, high, end] = [layer.dataset.low, layer.dataset.high, top.dataset.high].map(Number);
            defs.append(filter("scale-" + g + "-" + i, low / end, high / end));
          }
        }
      }
    });
    const ends = (layer) => all(layer.closest(".overlay, figure"), ".ends.scale span");
  }

  // A filter from the opacity a = 0.7 t of a layer to the colour and opacity of low + t (high - low).
  function filter(id, low, high) {
    const strongest = 0.7;
    const stops = getComputedStyle(document.documentElement).getPropertyValue("--sequential").split(",").map((hex) =>
      [1, 3, 5].map((at) => parseInt(hex.trim().slice(at, at + 2), 16) / 255));
    const places = Array.from({ length: 64 }, (_, i) => low + Math.min(1, i / 63 / strongest) * (high - low));
    const colour = (c) => places.map((t) => {
      const place = Math.min(1, Math.max(0, t)) * (stops.length - 1);
      const below = Math.min(stops.length - 2, Math.floor(place));
      return (stops[below][c] + (stops[below + 1][c] - stops[below][c]) * (place - below)).toFixed(4);
    });
    const svg = (name, attributes, ...children) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.append(...children);
      return element;
    };
    const table = (channel, values) => svg("feFunc" + channel, { type: "table", tableValues: values.join(" ") });
    const rows = "0 0 0 1 0  ".repeat(4);
    return svg("svg", { width: 0, height: 0, "aria-hidden": "true" },
      svg("filter", { id, x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB" },
        svg("feColorMatrix", { type: "matrix", values: rows.trim() }),
        svg("feComponentTransfer", {},
          table("R", colour(0)), table("G", colour(1)), table("B", colour(2)),
          table("A", places.map((t) => (strongest * Math.min(1, Math.max(0, t))).toFixed(4))))));
  }

  // The place under the pointer is marked in the image and in all its maps.
  function pointer(root) {
    const stacks = all(root, ".stack");
    if (stacks.length < 2) return;
    const marks = stacks.map((stack) => stack.appendChild(Object.assign(document.createElement("i"), { className: "mark" })));
    for (const stack of stacks) {
      stack.addEventListener("pointermove", (event) => {
        const box = stack.getBoundingClientRect();
        const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        for (const mark of marks) { mark.style.left = 100 * x + "%"; mark.style.top = 100 * y + "%"; }
        root.classList.add("pointing");
      });
      stack.addEventListener("pointerleave", () => root.classList.remove("pointing"));
    }
  }
};
