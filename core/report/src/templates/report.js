(() => {
  // Cases on a page of the gallery.
  const PAGE = 60;
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("index").textContent);
  // What each predictor says of an image; null where it did not explain it.
  const said = (side) => side && (([score, scoreText, flagged, reconstruction, flip, flipText, series]) => ({
    score, scoreText, positive: score >= 0.5, flagged, reconstruction, flip, flipText, series,
  }))(side);
  const cases = data.rows.map(([[id, path, group, thumbnail], [label, synthetic], metadata, sides], order) => ({
    id, path, group, thumbnail, label, synthetic, metadata, order, words: null,
    sides: sides.map(said), known: sides.filter((s) => s).map(said),
  }));
  const byId = new Map(cases.map((c) => [c.id, c]));
  let shown = cases;
  let page = 0;
  let open = null;
  let live = null;
  let scroll = 0;

  // Where all images are synthetic the page says so once.
  const mixed = cases.some((c) => !c.synthetic);
  const several = data.predictors.length > 0;
  const differs = (c, side) => c.label !== null && (c.label === 1) !== side.positive;
  const wrong = (c) => c.known.some((side) => differs(c, side));
  const compared = (c) => c.known.length > 1;
  const disagree = (c) => c.known.some((side) => side.positive !== c.known[0].positive);
  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const chosen = (id) => ($(id) ? $(id).value : "");

  if (cases.length) gallery();
  $("keys").addEventListener("click", () => $("help").showModal());
  $("case-previous").addEventListener("click", () => move(-1));
  $("case-next").addEventListener("click", () => move(1));
  window.addEventListener("hashchange", route);
  document.addEventListener("keydown", keys);
  route();

  function gallery() {
    for (const id of ["by-label", "by-prediction"]) {
      for (const option of $(id) ? $(id).options : []) {
        if (!option.textContent) option.textContent = (option.dataset.before || "") + data.names[Number(option.value)];
      }
    }
    $("filters").addEventListener("input", select);
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => {
      $("descending").setAttribute("aria-pressed", "false");
      setTimeout(select);
    });
    $("descending").addEventListener("click", () => {
      $("descending").setAttribute("aria-pressed", $("descending").getAttribute("aria-pressed") !== "true");
      select();
    });
    $("page-previous").addEventListener("click", () => turn(-1));
    $("page-next").addEventListener("click", () => turn(1));
    select();
  }

  // What is searched in a case; made when it is first needed.
  function words(c) {
    if (c.words === null) c.words = [c.id, c.path, c.group, ...c.metadata].filter((w) => w).join("\n").toLowerCase();
    return c.words;
  }

  // Filters and sorts, and shows the first page.
  function select() {
    const asked = $("search").value.toLowerCase().split(/\s+/).filter((w) => w);
    const [label, prediction, flag, flip] = ["by-label", "by-prediction", "by-flag", "by-flip"].map(chosen);
    const predicted = {
      "": () => true,
      1: (c) => c.known.every((side) => side.positive),
      0: (c) => c.known.every((side) => !side.positive),
      wrong,
      right: (c) => c.label !== null && !wrong(c),
      agree: (c) => compared(c) && !disagree(c),
      disagree,
      missing: (c) => c.known.length < c.sides.length,
    }[prediction];
    const flips = (c) => c.known.filter((side) => side.series).map((side) => side.flip !== null);
    shown = cases.filter((c) =>
      (label === "" || (label === "none" ? c.label === null : c.label === Number(label)))
      && predicted(c)
      && (flag === "" || c.known.some((side) => side.flagged) === (flag === "1"))
      && (flip === "" || (flips(c).length > 0 && flips(c).every((is) => is) === (flip === "1")))
      && asked.every((w) => words(c).includes(w)));
    // The best of what the predictors of a case have; null where none has it.
    const of = (best, value) => (c) => {
      const values = c.known.map(value).filter((v) => v !== null);
      return values.length ? best(...values) : null;
    };
    const [sort, k] = $("sort").value.split(":");
    const key = {
      order: (c) => c.order,
      id: (c) => c.id,
      score: (c) => (c.sides[k || 0] ? c.sides[k || 0].score : null),
      spread: (c) => (compared(c) ? of(Math.max, (side) => side.score)(c) - of(Math.min, (side) => side.score)(c) : null),
      doubt: of(Math.min, (side) => Math.abs(side.score - 0.5)),
      gap: of(Math.max, (side) => (side.reconstruction === null ? null : Math.abs(side.score - side.reconstruction))),
      flip: of(Math.min, (side) => (side.flip === null ? null : Math.abs(side.flip))),
    }[sort];
    const sign = $("descending").getAttribute("aria-pressed") === "true" ? -1 : 1;
    // What is not known stays last, and equals keep the run's order.
    shown.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a.order - b.order;
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a.order - b.order;
    });
    page = 0;
    draw();
  }

  function turn(by) {
    const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
    const to = Math.min(last, Math.max(0, page + by));
    if (to === page) return;
    page = to;
    draw();
    $("cases").scrollIntoView();
  }

  // Only the cases of one page are ever in the document.
  function draw() {
    const from = page * PAGE;
    const here = shown.slice(from, from + PAGE);
    $("gallery").replaceChildren(...here.map(card));
    later($("gallery"));
    const filtered = shown.length < cases.length;
    $("status").textContent = !shown.length ? "No case is left: fewer filters?"
      : (shown.length > PAGE ? count(from + 1) + " – " + count(from + here.length) + " of " : "") + count(shown.length)
        + (shown.length === 1 ? " case" : " cases") + (filtered ? ", of " + count(cases.length) + " in the run" : "");
    const pages = Math.ceil(shown.length / PAGE);
    $("pages").hidden = pages < 2;
    $("page-place").textContent = "Page " + (page + 1) + " of " + pages;
    $("page-previous").disabled = page === 0;
    $("page-next").disabled = page >= pages - 1;
  }

  // Pictures that are not in sight are loaded after those that are, so that paper has them too.
  function later(root) {
    setTimeout(() => { for (const img of all(root, "img[loading=lazy]")) img.loading = "eager"; }, 500);
  }

  function element(name, className, ...children) {
    const made = document.createElement(name);
    made.className = className;
    made.append(...children);
    return made;
  }

  function card(c) {
    const link = element("a", "");
    link.href = "#case/" + encodeURIComponent(c.id);
    const source = data.embedded ? template(c.id)?.querySelector("#original")?.getAttribute("src") : c.thumbnail;
    if (source) {
      const img = element("img", "");
      img.loading = "lazy";
      img.decoding = "async";
      img.alt = "Image " + c.id + ", " + (several ? c.sides.map((side, k) => data.predictors[k] + " " + (side ? side.scoreText : "–")).join(", ")
        : "f(x) = " + c.known[0].scoreText);
      img.src = source;
      link.append(img);
    } else {
      link.append(element("span", "missing", "picture missing"));
    }
    link.append(element("span", "name", c.id));
    for (const [k, side] of c.sides.entries()) {
      const score = element("span", "value", ...(side ? [element("i", "dot " + (side.positive ? "above" : "below")), side.scoreText] : ["–"]));
      score.title = side ? "f(x), " + data.names[1] : "not explained";
      const line = element("span", several ? "line of-one" : "line", score);
      if (several) line.append(element("span", "muted by", data.predictors[k]));
      else if (c.label !== null) line.append(element("span", "muted", data.names[c.label]));
      link.append(line);
    }
    if (several && c.label !== null) link.append(element("span", "line muted", data.names[c.label]));
    const tags = element("span", "tags");
    const tag = (text, kind) => tags.append(element("span", "tag" + (kind || ""), text));
    if (several) {
      if (disagree(c)) tag("they disagree", " differ");
    } else {
      if (wrong(c)) tag("f disagrees");
      if (c.known[0].flip !== null) tag("flips at " + c.known[0].flipText + " σ");
    }
    if (c.known.some((side) => side.flagged)) tag("flagged", " flagged");
    if (c.synthetic && mixed) tag("synthetic", " synthetic");
    if (tags.childNodes.length) link.append(tags);
    return element("li", "", link);
  }

  function template(id) {
    return all(document, "template[data-case]").find((t) => t.dataset.case === id)?.content;
  }

  // The view of a case: from the page, or from its file beside it, which calls shiftlensCase.
  function load(c) {
    const own = template(c.id);
    if (own) return Promise.resolve(own.cloneNode(true));
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      window.shiftlensCase = (id, html) => {
        const parsed = document.createElement("template");
        parsed.innerHTML = html;
        if (id === c.id) resolve(parsed.content);
      };
      script.addEventListener("load", () => { script.remove(); reject(new Error("it holds another case")); });
      script.addEventListener("error", () => { script.remove(); reject(new Error("it is missing")); });
      script.src = "report/" + encodeURIComponent(c.id) + ".js";
      document.head.append(script);
    });
  }

  function route() {
    let id = null;
    try {
      const match = /^#case\/(.+)$/.exec(location.hash);
      id = match && decodeURIComponent(match[1]);
    } catch { /* no case is called like that */ }
    const c = byId.get(id);
    if (c) show(c);
    else close();
  }

  async function show(c) {
    if (!open) scroll = window.scrollY;
    if (live) live.stop();
    live = null;
    open = c;
    document.body.dataset.view = "case";
    $("overview").hidden = true;
    $("case").hidden = false;
    place();
    let content;
    try {
      content = await load(c);
    } catch (e) {
      const text = "The view of " + c.id + " cannot be shown, report/" + c.id + ".js: " + e.message
        + ". Keep " + (several ? "report and the predictors' folders" : "the folders report and cases") + " beside report.html.";
      content = element("p", "notice", text);
    }
    // Another one may have been asked for meanwhile.
    if (open !== c) return;
    $("case-body").replaceChildren(content);
    later($("case-body"));
    const article = $("case-body").querySelector("article");
    if (article) live = activateCase(article);
    document.body.dataset.case = c.id;
    window.scrollTo(0, 0);
    const head = $("case-body").querySelector("h2");
    if (head) head.focus({ preventScroll: true });
  }

  function place() {
    const i = shown.indexOf(open);
    $("case-place").textContent = i < 0 ? "" : count(i + 1) + " of " + count(shown.length)
      + (shown.length < cases.length ? ", filtered" : "");
    $("case-previous").disabled = i <= 0;
    $("case-next").disabled = i < 0 || i >= shown.length - 1;
  }

  function close() {
    $("case").hidden = true;
    $("overview").hidden = false;
    delete document.body.dataset.view;
    delete document.body.dataset.case;
    if (!open) return;
    if (live) live.stop();
    live = null;
    open = null;
    $("case-body").replaceChildren();
    const target = location.hash.length > 1 && location.hash !== "#cases" && $(location.hash.slice(1));
    if (target) target.scrollIntoView();
    else window.scrollTo(0, scroll);
  }

  function move(by) {
    const i = shown.indexOf(open);
    const next = i < 0 ? null : shown[i + by];
    if (next) location.hash = "#case/" + encodeURIComponent(next.id);
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const at = event.target;
    if (at.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    // Sliders and the strip's pictures have the arrows for themselves.
    const own = at.matches?.("input[type=range], .strip button");
    const toEnd = 1e9;
    const λ = { ArrowLeft: -1, ArrowRight: 1, Home: -toEnd, End: toEnd }[event.key];
    if (event.key === "?") $("help").showModal();
    else if (event.key === "n" || event.key === "p") { const by = event.key === "n" ? 1 : -1; if (open) move(by); else if (cases.length) turn(by); }
    else if (event.key === "/" && !open && cases.length) $("search").focus();
    else if (event.key === "Escape" && open) location.hash = "#cases";
    else if (event.key === "o" && live) live.overlay();
    else if (event.key === " " && live && !at.matches?.("button, summary, a, input, [tabindex='0']")) live.play();
    else if (λ !== undefined && live && !own) live.step(λ);
    else return;
    event.preventDefault();
  }
})();
