"use strict";
(() => {
  const data = JSON.parse(document.getElementById("embedded").textContent);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value; else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };

  // Pictures: each is in the page once, and shown wherever it is asked for.
  const fill = (frame) => {
    const uri = data.thumbnails[frame.dataset.image];
    if (!uri) return;
    const image = make("img", { src: uri, alt: frame.dataset.alt });
    image.addEventListener("load", () => { if (image.naturalWidth <= 40) image.classList.add("tiny"); });
    frame.append(image);
    const heat = data.heat[frame.dataset.heat];
    if (heat) frame.append(make("img", { src: heat, alt: "", class: "heat" }));
  };
  document.querySelectorAll("[data-image]").forEach(fill);
  for (const frame of document.querySelectorAll(".scroll")) if (frame.scrollWidth > frame.clientWidth || frame.scrollHeight > frame.clientHeight) frame.tabIndex = 0;
  // On paper nothing can be opened any more.
  let closed = [];
  window.addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; for (const one of closed) one.open = true; });
  window.addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
  const toggle = document.getElementById("heat-toggle");
  if (toggle) toggle.addEventListener("change", () => document.body.classList.toggle("no-heat", !toggle.checked));

  // Tables.
  const sortTable = (header) => {
    const table = header.closest("table"), body = table.tBodies[0];
    const column = [...header.parentNode.children].indexOf(header);
    const descending = header.getAttribute("aria-sort") === "none" ? header.classList.contains("number") : header.getAttribute("aria-sort") === "ascending";
    const key = (row) => { const cell = row.children[column]; return cell.dataset.value !== undefined ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent; };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return descending ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
    for (const other of header.parentNode.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };
  document.querySelectorAll(".sortable .sort").forEach((button) => button.addEventListener("click", () => sortTable(button.closest("th"))));
  const filter = document.getElementById("class-filter");
  if (filter) filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of document.getElementById("class-table").tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });

  // The confusion matrix: only the cells in sight are in the page, so that 1,000 classes scroll.
  const view = document.getElementById("matrix-view"), panel = document.getElementById("cell-images");
  if (!view) return;
  const { names, cells, images } = data.matrix;
  const nameOf = (index) => (index < 0 ? "(unknown class)" : names[index]);
  const counts = new Map(), rowSums = new Map(), columnSums = new Map(), errors = new Map(), hits = new Map();
  const add = (map, key, value) => map.set(key, (map.get(key) || 0) + value);
  let most = 0, mostWrong = 0;
  for (const [label, answer, n] of cells) {
    counts.set(label + "," + answer, n); add(rowSums, label, n); add(columnSums, answer, n);
    if (label === answer) { add(hits, label, n); most = Math.max(most, n); } else { add(errors, label, n); add(errors, answer, n); mostWrong = Math.max(mostWrong, n); }
  }
  const rowExtra = rowSums.has(-1) ? [-1] : [], columnExtra = columnSums.has(-1) ? [-1] : [];
  const orders = {
    name: () => 0,
    errors: (a, b) => (errors.get(b) || 0) - (errors.get(a) || 0),
    support: (a, b) => (rowSums.get(b) || 0) - (rowSums.get(a) || 0),
    recall: (a, b) => recall(a) - recall(b),
  };
  const recall = (index) => (rowSums.get(index) ? (hits.get(index) || 0) / rowSums.get(index) : 2);
  const mode = document.getElementById("matrix-mode"), order = document.getElementById("matrix-order");
  const many = names.length > 30;
  const cell = many ? 30 : 40, longest = Math.max(...names.map((name) => name.length));
  const head = Math.min(Math.max(longest * 8 + 14, 60), window.innerWidth < 500 ? 96 : 176), upright = longest > 3, top = upright ? Math.min(longest * 8 + 14, 130) : 44;  // What the corner's two lines take.
  for (const [key, value] of [["--cell", cell], ["--head", head], ["--top", top], ["--whole", head + names.length * cell]]) view.style.setProperty(key, value + "px");
  view.classList.toggle("many", many);
  let sequence = names.map((_, i) => i), chosen = null, drawn = "";
  const space = make("div", { class: "space" }), table = make("table", { "aria-label": "Confusion matrix" });
  space.append(table); view.append(space);
  const show = (value, share) => (share === null ? String(value) : share >= 0.995 ? "1" : share < 0.005 ? "0" : share.toFixed(2).slice(1));

  const draw = (force) => {
    const rows = [...sequence, ...rowExtra], columns = [...sequence, ...columnExtra];
    space.style.width = head + columns.length * cell + "px"; space.style.height = top + rows.length * cell + "px";
    const wide = Math.max(view.clientWidth, 320), high = Math.max(view.clientHeight, 240);
    const rowCount = Math.min(rows.length, rows.length <= 30 ? rows.length : Math.floor((high - top) / cell));
    const columnCount = Math.min(columns.length, columns.length <= 30 ? columns.length : Math.floor((wide - head) / cell));
    const firstRow = Math.min(Math.round(view.scrollTop / cell), rows.length - rowCount);
    const firstColumn = Math.min(Math.round(view.scrollLeft / cell), columns.length - columnCount);
    const state = [firstRow, firstColumn, rowCount, columnCount].join();
    if (!force && state === drawn) return;
    drawn = state;
    // A table that is shown whole scrolls with its frame; a part of one stays where it is.
    if (rowCount === rows.length) space.style.height = "auto";
    table.style.position = rowCount < rows.length || columnCount < columns.length ? "sticky" : "static";
    const shownRows = rows.slice(firstRow, firstRow + rowCount), shownColumns = columns.slice(firstColumn, firstColumn + columnCount);
    const header = make("tr", {}, make("td", { class: "corner", text: "label ↓ answer →" }));
    for (const answer of shownColumns) header.append(make("th", { scope: "col", class: upright ? "upright" : "", title: nameOf(answer) }, make("span", { text: nameOf(answer) })));
    const body = make("tbody");
    for (const label of shownRows) {
      const line = make("tr", {}, make("th", { scope: "row", title: nameOf(label), text: nameOf(label) }));
      for (const answer of shownColumns) {
        const key = label + "," + answer, n = counts.get(key), td = make("td");
        if (n) {
          const whole = mode.value === "rows" ? rowSums.get(label) : mode.value === "columns" ? columnSums.get(answer) : null;
          const share = whole === null ? null : n / whole, right = label === answer;
          const strength = share !== null ? share : right ? n / most : n / Math.max(mostWrong, 1);
          const value = Math.round(12 + 80 * Math.sqrt(strength));
          td.append(make("button", { type: "button", "data-cell": key, class: value > 72 ? "deep" : "", "aria-pressed": key === chosen,
            style: `--v:${value};--tone:var(${right ? "--heat" : "--miss"})`, title: `${nameOf(label)} taken for ${nameOf(answer)}: ${n}`,
            "aria-label": `${nameOf(label)} taken for ${nameOf(answer)}: ${n} images`, text: show(n, share) }));
        }
        line.append(td);
      }
      body.append(line);
    }
    table.replaceChildren(make("thead", {}, header), body);
  };

  const picture = (position) => {
    const about = data.test_images[position], key = "test:" + position;
    const caption = make("figcaption", {}, make("b", { text: about.label }));
    if (about.label !== about.predicted) caption.append(" taken for ", make("b", { text: about.predicted }));
    caption.append(make("small", { text: about.confidence.toFixed(4) }), make("small", { class: "name", text: about.name }));
    const figure = make("figure", { class: about.label === about.predicted ? "shot" : "shot wrong" });
    if (data.thumbnails[key]) {
      const frame = make("div", { class: "frame", "data-image": key, "data-heat": key, "data-alt": `${about.name}: labelled ${about.label}, taken for ${about.predicted}` });
      fill(frame); figure.append(frame);
    }
    figure.append(caption);
    return figure;
  };
  const showImages = (title, total, positions) => {
    panel.replaceChildren(make("h3", { text: title }));
    const pictured = positions.filter((i) => data.thumbnails["test:" + i]), named = positions.filter((i) => !data.thumbnails["test:" + i]);
    panel.append(make("div", { class: "gallery" }, ...pictured.map(picture)));
    if (named.length) panel.append(make("ul", { class: "names" }, ...named.map((i) => make("li", {}, make("code", { text: data.test_images[i].name }), ` (${data.test_images[i].confidence.toFixed(4)})`))));
    if (total > positions.length) panel.append(make("p", { class: "soft", text: positions.length ? `and ${total - positions.length} more` : `${total} images, not named in this report` }));
  };
  const choose = (key, scroll) => {
    chosen = key;
    const [label, answer] = key.split(",").map(Number), n = counts.get(key) || 0;
    showImages(`${nameOf(label)} ${label === answer ? "recognised" : "taken for " + nameOf(answer)}: ${n} image${n === 1 ? "" : "s"}`, n, images[key] || []);
    draw(true);
    if (scroll) panel.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.cell) {
      const focused = document.activeElement === button && view.contains(button);
      choose(button.dataset.cell, true);
      if (focused) { const again = view.querySelector(`[data-cell="${button.dataset.cell}"]`); if (again) again.focus({ preventScroll: true }); }
    }
    if (button.dataset.class !== undefined) {
      const index = Number(button.dataset.class);
      const found = Object.entries(images).filter(([key]) => { const [a, b] = key.split(",").map(Number); return a !== b && (a === index || b === index); });
      const total = cells.reduce((sum, [a, b, n]) => sum + (a !== b && (a === index || b === index) ? n : 0), 0);
      showImages(`Mistakes with ${nameOf(index)}: ${total}`, total, found.flatMap(([, positions]) => positions));
      panel.scrollIntoView({ block: "start" });
    }
  });
  order.addEventListener("change", () => { sequence = names.map((_, i) => i).sort(orders[order.value]); view.scrollTo(0, 0); draw(true); });
  mode.addEventListener("change", () => draw(true));
  view.addEventListener("scroll", () => draw(false), { passive: true });
  window.addEventListener("resize", () => draw(true));
  draw(true);
})();
