"use strict";

// Tables: a click on a column's name sorts by it (names upwards, numbers downwards), a second click the other way.
// Missing values stay last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const cells = [...body.rows].map((row) => row.cells[column]);
      const numeric = cells.some((cell) => cell.dataset.sort !== undefined);
      const before = head.getAttribute("aria-sort") ?? (numeric ? "ascending" : "descending");
      const sign = before === "descending" ? 1 : -1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const missing = (cell) => cell.dataset.sort === "";
      cells.sort((a, b) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        if (numeric) return sign * (a.dataset.sort - b.dataset.sort);
        return sign * a.textContent.trim().localeCompare(b.textContent.trim(), "en", { numeric: true });
      });
      body.append(...cells.map((cell) => cell.parentElement));
    });
  });
}

// Charts over epochs: pointing anywhere shows what every line says at the nearest epoch.
for (const figure of document.querySelectorAll("figure.chart")) {
  const svg = figure.querySelector("svg");
  const lines = [...svg.querySelectorAll("g[data-readings]")].map((group) => ({
    label: group.dataset.label,
    tone: group.classList[1],
    readings: JSON.parse(group.dataset.readings),
    xs: (group.querySelector("polyline")?.getAttribute("points") ?? "").split(" ").map((pair) => parseFloat(pair)),
  }));
  if (lines.length === 0) continue;
  const cursor = document.createElementNS(svg.namespaceURI, "line");
  cursor.setAttribute("class", "cursor");
  const box = document.createElement("div");
  box.className = "reading";
  const hide = () => { cursor.remove(); box.remove(); };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * svg.viewBox.baseVal.width;
    const near = lines.flatMap((line) => line.xs.map((at, i) => ({ line, i, at, distance: Math.abs(at - x) })));
    const nearest = near.reduce((best, each) => (each.distance < best.distance ? each : best));
    if (!(nearest.distance < 20)) return hide();
    const here = near.filter((each) => Math.abs(each.at - nearest.at) < 0.06);
    const rows = here.slice(0, 20).map(({ line, i }) => {
      const row = document.createElement("div"), name = document.createElement("b"), value = document.createElement("span");
      row.className = line.tone;
      name.textContent = line.label;
      value.textContent = line.readings[i].slice(line.readings[i].lastIndexOf(": ") + 2);
      row.append(name, value);
      return row;
    });
    const head = document.createElement("small");
    head.textContent = nearest.line.readings[nearest.i].slice(0, nearest.line.readings[nearest.i].lastIndexOf(": "));
    box.replaceChildren(head, ...rows);
    for (const [name, value] of [["x1", nearest.at], ["x2", nearest.at], ["y1", 6], ["y2", 206]]) cursor.setAttribute(name, value);
    svg.append(cursor);
    figure.append(box);
    const left = (nearest.at / svg.viewBox.baseVal.width) * area.width;
    box.style.left = `${left + 12 + box.offsetWidth > figure.clientWidth ? Math.max(0, left - 12 - box.offsetWidth) : left + 12}px`;
    box.style.top = `${area.top - figure.getBoundingClientRect().top + 8}px`;
  });
}
