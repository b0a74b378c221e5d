"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const canvases = [...document.querySelectorAll(".canvas")];

  // Colours of the page ------------------------------------------------------------------------------------------

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

  // A page opened from a file may be refused storage; then the choice lasts as long as the page.
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("hotlap-theme", value);
      return localStorage.getItem("hotlap-theme");
    } catch {
      return null;
    }
  };

  const label = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };

  // Plots --------------------------------------------------------------------------------------------------------

  const themed = () => {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const changes = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": colour("--text"),
      "font.family": getComputedStyle(document.body).fontFamily,
      "font.size": 12,
      "hoverlabel.bgcolor": colour("--card"),
      "hoverlabel.bordercolor": colour("--soft"),
      "hoverlabel.font.color": colour("--text"),
      "hoverlabel.align": "left",
      "legend.bgcolor": "rgba(0,0,0,0)",
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": colour("--soft"),
      "modebar.activecolor": colour("--text"),
    };
    for (const axis of ["xaxis", "yaxis"]) {
      changes[`${axis}.gridcolor`] = colour("--line");
      changes[`${axis}.linecolor`] = colour("--line");
      changes[`${axis}.tickcolor`] = colour("--line");
    }
    return changes;
  };

  const nested = (flat, into) => {
    for (const [path, value] of Object.entries(flat)) {
      const keys = path.split(".");
      const last = keys.pop();
      let place = into;
      for (const key of keys) place = place[key] ??= {};
      place[last] = value;
    }
    return into;
  };

  const draw = (canvas) => {
    if (canvas.dataset.drawn || typeof Plotly === "undefined") return;
    canvas.dataset.drawn = "yes";
    const source = document.querySelector(`script[data-for="${canvas.id}"]`);
    const figure = JSON.parse(source.textContent);
    // A finger that drags wants to scroll the page.
    const mouse = matchMedia("(hover: hover)").matches;
    const layout = nested(themed(), figure.layout);
    if (!mouse) layout.dragmode = false;
    Plotly.newPlot(canvas, figure.data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: mouse ? "hover" : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "pan2d", "zoomIn2d", "zoomOut2d"],
    });
  };

  const repaint = () => {
    for (const canvas of canvases) if (canvas.dataset.drawn) Plotly.relayout(canvas, themed());
  };

  if ("IntersectionObserver" in window) {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "800px" });
    for (const canvas of canvases) watcher.observe(canvas);
  } else {
    canvases.forEach(draw);
  }

  // Tables -------------------------------------------------------------------------------------------------------

  const order = new Intl.Collator(undefined, { numeric: true }).compare;

  const sort = (header) => {
    const rows = [...header.closest("table").tBodies[0].rows];
    const column = header.cellIndex;
    // Figures are first of interest from the top, names from A.
    const first = header.classList.contains("number") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = header.getAttribute("aria-sort") === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value;
      const missing = value === undefined && (cell.textContent === "–" || header.classList.contains("number"));
      return { row, missing, number: Number(value), value, text: cell.textContent };
    });
    keyed.sort((a, b) => {
      if (a.missing || b.missing) return a.missing - b.missing;
      return sign * (a.value !== undefined && b.value !== undefined ? a.number - b.number : order(a.text, b.text));
    });
    for (const one of header.parentElement.cells) one.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    header.closest("table").tBodies[0].append(...keyed.map((one) => one.row));
  };

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest(".sort");
    if (pressed) sort(pressed.closest("th"));
  });

  // Theme and print ----------------------------------------------------------------------------------------------

  const saved = remembered();
  if (saved === "dark" || saved === "light") root.dataset.theme = saved;
  label();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    label();
    repaint();
  });
  dark.addEventListener("change", () => { label(); repaint(); });

  let chosen = null;
  addEventListener("beforeprint", () => {
    chosen ??= { theme: root.dataset.theme };
    root.dataset.theme = "light";
    canvases.forEach(draw);
    repaint();
  });
  addEventListener("afterprint", () => {
    if (chosen?.theme) root.dataset.theme = chosen.theme;
    else delete root.dataset.theme;
    chosen = null;
    repaint();
  });
})();
