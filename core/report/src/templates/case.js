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
  const first = article.querySelector(".together") ? together(article.querySelector(".together")) : shifts[0] && shifts[0].player;
  const overlays = all(article, "input.opacity").map(opacity);
  for (const maps of all(article, ".maps")) { classes(maps); oneScale(maps); }
  pointer(article);
  return {
    step: (by) => { if (first) first.step(by); },
    play: () => { if (first) first.play(); },
    overlay: () => overlays.forEach((toggle) => toggle()),
    stop: () => { if (first) first.stop(); shifts.forEach((s) => s.player && s.player.stop()); },
  };

  // What a slider and its button go through: `draw` shows the place i and answers it in words.
  function player(slider, button, count, origin, draw) {
    const [name, playing] = [button.getAttribute("aria-label"), button.getAttribute("aria-label").replace("Play", "Pause")];
    let timer = 0;
    let forward = true;
    const show = (i) => {
      slider.value = Math.min(count - 1, Math.max(0, i));
      slider.setAttribute("aria-valuetext", draw(Number(slider.value)));
    };
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
      button.setAttribute("aria-label", name);
    };
    const start = () => {
      button.textContent = "Pause";
      button.setAttribute("aria-label", playing);
      timer = setInterval(() => {
        const i = Number(slider.value);
        if (i >= count - 1) forward = false;
        if (i <= 0) forward = true;
        show(i + (forward ? 1 : -1));
      }, Math.max(120, 2400 / count));
    };
    const play = () => { if (timer) stop(); else start(); };
    const to = (i) => { stop(); show(i); };
    slider.max = count - 1;
    button.addEventListener("click", play);
    slider.addEventListener("input", () => to(Number(slider.value)));
    show(origin);
    return { play, stop, to, step: (by) => to(Number(slider.value) + by) };
  }

  // The slider, the strip's pictures and the chart's ring show one and the same step. A series without a slider of its own
  // moves together with others: `go` is then theirs.
  function series(shift) {
    const steps = all(article.querySelector("#" + shift.dataset.strip), "button");
    const lambdas = steps.map((step) => Number(step.dataset.at));
    const picture = shift.querySelector(".player");
    const ring = shift.querySelector("circle.now");
    const draw = (i) => {
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
      steps.forEach((s, j) => { if (j === i) s.setAttribute("aria-current", "true"); else s.removeAttribute("aria-current"); });
      return step.getAttribute("aria-label");
    };
    const slider = shift.querySelector("input[type=range]");
    const own = slider && player(slider, shift.querySelector(".play"), steps.length, Number(shift.dataset.origin), draw);
    const made = { player: own, lambdas, draw, go: own ? own.to : draw };
    steps.forEach((step, i) => {
      step.addEventListener("click", () => made.go(i));
      step.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: steps.length - 1 }[event.key];
        if (to === undefined || !steps[to]) return;
        event.preventDefault();
        made.go(to);
        steps[to].focus();
      });
    });
    return made;
  }

  // One slider over every λ that a series has: each of them shows its nearest.
  function together(bar) {
    const places = Array.from(new Set(shifts.flatMap((s) => s.lambdas))).sort((a, b) => a - b);
    const nearest = (values, λ) => values.reduce((best, v, i) => (Math.abs(v - λ) < Math.abs(values[best] - λ) ? i : best), 0);
    const text = (λ) => (λ > 0 ? "+" : λ < 0 ? "−" : "") + String(Math.round(100 * Math.abs(λ)) / 100);
    const draw = (place) => {
      const λ = places[place];
      const words = shifts.map((s) => s.draw(nearest(s.lambdas, λ)));
      bar.querySelector(".lambda").textContent = text(λ);
      return "λ = " + text(λ) + " σ: " + words.join("; ");
    };
    const own = player(bar.querySelector("input"), bar.querySelector(".play"), places.length, nearest(places, 0), draw);
    for (const s of shifts) s.go = (i) => own.to(places.indexOf(s.lambdas[i]));
    return own;
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
