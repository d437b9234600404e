// Elements that several views share: bars, rows, pages of rows.

import { OPEN_LABEL, ROWS_PER_PAGE } from "./constants.js";

export const LOADING = "Loading…";

export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function bar() {
  const fill = el("div", { className: "fill" });
  const node = el("div", { className: "bar" }, fill);
  node.setAttribute("role", "progressbar");
  node.show = (percent, group, label) => {
    node.dataset.group = group;
    node.dataset.unknown = percent === undefined;
    fill.style.width = `${percent ?? 100}%`;
    node.setAttribute("aria-label", label);
    if (percent === undefined) node.removeAttribute("aria-valuenow");
    else node.setAttribute("aria-valuenow", percent);
  };
  return node;
}

/** Updates a container's children to match the items; existing nodes are reused. */
export function keyed(container, items, key, make) {
  const nodes = (container.nodes ??= new Map());
  const wanted = items.map((item) => {
    const name = key(item);
    if (!nodes.has(name)) nodes.set(name, make());
    const node = nodes.get(name);
    node.show(item);
    return [name, node];
  });
  container.nodes = new Map(wanted);
  const order = wanted.map(([, node]) => node);
  if (order.length !== container.children.length || order.some((node, i) => node !== container.children[i])) {
    container.replaceChildren(...order);
  }
}

/** Returns a row that shows an item with the result of view. */
export function row(view) {
  const name = el("a", { className: "name" });
  const badge = el("span", { className: "badge" });
  const progress = bar();
  const left = el("span");
  const right = el("span");
  const button = el("a", { className: "button", target: "_blank", rel: "noopener noreferrer" }, OPEN_LABEL);
  const numbers = el("div", { className: "numbers" }, left, right);
  const node = el("li", {}, el("div", { className: "line" }, name, numbers, badge, button), progress);
  node.show = (item) => {
    const seen = view(item);
    name.textContent = name.title = seen.name;
    name.href = seen.href;
    badge.textContent = seen.badge;
    badge.dataset.group = seen.group;
    progress.show(seen.percent, seen.group, seen.name);
    left.textContent = seen.left;
    right.textContent = seen.right;
    button.hidden = !seen.page;
    if (seen.page) button.href = seen.page;
  };
  return node;
}

/** The pager of rows, hidden if there is only one page. */
export function pager(changed) {
  const text = el("span", { className: "muted small" });
  const back = el("button", { type: "button", ariaLabel: "Previous page" }, "‹");
  const on = el("button", { type: "button", ariaLabel: "Next page" }, "›");
  const node = el("div", { className: "pager" }, text, back, on);
  node.page = 0;
  back.onclick = () => ((node.page -= 1), changed());
  on.onclick = () => ((node.page += 1), changed());
  node.cut = (items) => {
    node.page = Math.max(0, Math.min(node.page, Math.ceil(items.length / ROWS_PER_PAGE) - 1));
    const from = node.page * ROWS_PER_PAGE;
    const shown = items.slice(from, from + ROWS_PER_PAGE);
    text.textContent = `${from + 1}–${from + shown.length} of ${items.length.toLocaleString("en")}`;
    back.disabled = node.page === 0;
    on.disabled = from + ROWS_PER_PAGE >= items.length;
    node.hidden = items.length <= ROWS_PER_PAGE;
    return shown;
  };
  return node;
}
