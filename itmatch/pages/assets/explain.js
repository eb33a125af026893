// Lights up what goes with the word, region or relation under the mouse or the keyboard's focus.
// The listeners are on the document, so that explanations which are put into the page later work as well.
(() => {
  "use strict";
  const tables = new WeakMap();

  function tableOf(root) {
    if (!tables.has(root)) {
      let table = [];
      try { table = JSON.parse(root.dataset.alignment || "[]"); } catch { /* nothing lights up */ }
      tables.set(root, table);
    }
    return tables.get(root);
  }

  // Values of one row or column as light in [0, 1]; all the same = no light. Where some are above 0 the others count as
  // 0; where none is, and some are 0 because they did not win, nothing lights up. What does not meet is null.
  function lights(values) {
    const met = values.filter(value => value !== null);
    const positive = met.some(value => value > 0), lost = !positive && met.includes(0);
    const clipped = value => positive ? Math.max(value, 0) : value;
    const low = Math.min(...met.map(clipped)), high = Math.max(...met.map(clipped));
    return values.map(value => value !== null && !lost && high > low ? (clipped(value) - low) / (high - low)
      : value !== null && met.length === 1 && value > 0 ? 1 : 0);
  }

  function show(element, light, chosen) {
    element.style.setProperty("--itm-light", light.toFixed(3));
    element.classList.toggle("itm-on", chosen || light >= 0.6);
    element.classList.toggle("itm-chosen", chosen);
  }

  function clear(root) {
    root.classList.remove("itm-active");
    for (const element of root.querySelectorAll("[data-row], [data-column], [data-ends]")) show(element, 0, false);
  }

  function light(root, target) {
    const table = tableOf(root);
    clear(root);
    root.classList.add("itm-active");
    show(target, 1, true);
    const column = target.dataset.column, row = target.dataset.row;
    if (column !== undefined && table.length) {
      const found = lights(table.map(line => line[column]));
      for (const element of root.querySelectorAll("[data-row]")) show(element, found[element.dataset.row] ?? 0, false);
    } else if (row !== undefined && table[row]) {
      const found = lights(table[row]);
      for (const element of root.querySelectorAll("[data-column]")) {
        show(element, found[element.dataset.column] ?? 0, false);
      }
    } else if (target.matches(".itm-effect")) { // its arrow, whose ends light up below
      for (const arrow of root.querySelectorAll(".itm-arrow")) {
        if (arrow.dataset.ends === target.dataset.ends) show(arrow, 1, false);
      }
    }
    const lit = new Set();  // the regions that are lit: their relations are, too
    for (const element of root.querySelectorAll(".itm-box.itm-on")) lit.add(element.dataset.row);
    for (const arrow of root.querySelectorAll("[data-ends]")) {
      const ends = arrow.dataset.ends.split(" ");
      if (arrow.classList.contains("itm-on")) {
        for (const end of ends) {
          const box = root.querySelector(`.itm-box[data-row="${end}"]`);
          if (box && !box.classList.contains("itm-on")) show(box, 0.7, false);
        }
      } else if (ends.some(end => lit.has(end))) show(arrow, 0.8, false);
    }
  }

  const TARGETS = ["[data-row]", "[data-column]", ".itm-effect"];

  function over(event) {
    const target = event.target.closest?.(TARGETS.join());
    const root = target?.closest(".itm-explain");
    if (root) light(root, target);
  }

  function out(event) {
    const root = event.target.closest?.(".itm-explain");
    if (!root) return;
    const focused = root.querySelector(TARGETS.map((target) => `${target}:focus`).join());
    if (focused && event.type === "mouseout") light(root, focused); else clear(root);
  }

  document.addEventListener("mouseover", over);
  document.addEventListener("mouseout", out);
  document.addEventListener("focusin", over);
  document.addEventListener("focusout", out);
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") for (const root of document.querySelectorAll(".itm-active")) clear(root);
  });
})();
