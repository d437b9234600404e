// The uploads of a run, and the latest runs with uploads, as a component of Airflow's UI.
//
// All data comes from Airflow's public REST API, with the cookie of the signed-in user. So the page cannot show data
// that this user may not see. Names and texts are data: they are inserted as text, never as markup.

const NAME = "360 uploads"; // as in page.py
const POLL_INTERVAL_MS = 5000; // between two polls of a run that is not over
const POLLS_PER_FULL_READ = 12; // a full read of all task instances; the other polls read only those that changed
const ROWS_PER_PAGE = 25; // rows of a page, and small requests of one poll
const MAX_PAGE_LIMIT = 100; // Airflow's default for the largest page of its API
const REQUEST_TIMEOUT_MS = 30000; // for a reply of Airflow
const OPEN_LABEL = "Open in 360"; // as in links/project.py
const OPERATORS = [
  "CreateProjectOperator", "ListFilesOperator", "ProjectReadySensor", "UploadFileOperator", "UploadFilesOperator",
];
const END_STATES = new Set(["success", "failed"]);

// -- Airflow's API

class Refusal extends Error {
  constructor(status) {
    super(`Airflow answered ${status}`);
    this.status = status;
  }
}

const part = encodeURIComponent;
const runPath = (dag, run) => `dags/${part(dag)}/dagRuns/${part(run)}`;
const taskPath = (ti) => `${runPath(ti.dag_id, ti.dag_run_id)}/taskInstances/${part(ti.task_id)}`;

async function api(path, params = {}, body) {
  const address = new URL(`api/v2/${path}`, document.baseURI);
  for (const [name, values] of Object.entries(params)) {
    for (const value of [values].flat()) address.searchParams.append(name, value);
  }
  const reply = await fetch(address, {
    method: body ? "POST" : "GET",
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  if (!reply.ok) throw new Refusal(reply.status);
  // A proxy in front of Airflow replies with its own sign-in page.
  if (!reply.headers.get("Content-Type")?.includes("json")) throw new Refusal(401);
  return { json: await reply.json(), date: reply.headers.get("Date") };
}

/** Like api, but returns null for data that does not exist or may not be read. */
async function maybe(path, params) {
  try {
    return (await api(path, params)).json;
  } catch (error) {
    if (error.status === 403 || error.status === 404) return null;
    throw error;
  }
}

/** Returns a task's XCom; the versions of Airflow write its JSON differently. */
async function xcom(ti, key) {
  const entry = await maybe(`${taskPath(ti)}/xcomEntries/${part(key)}`, { map_index: ti.map_index });
  if (typeof entry?.value !== "string") return entry?.value;
  try {
    return JSON.parse(entry.value);
  } catch {
    return entry.value;
  }
}

/** Returns a project's last status from its trigger's log, because a trigger cannot store state. */
async function statusInLog(ti) {
  const path = `${taskPath(ti)}/logs/${ti.try_number}`;
  const log = await maybe(path, { map_index: ti.map_index, full_content: true });
  for (const line of [...(log?.content ?? [])].reverse()) {
    const found = /Project \S+: status (\d+) of 100/.exec(line.event ?? line);
    if (found) return Number(found[1]);
  }
  return undefined;
}

// -- Texts

function size(bytes) {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let unit = "";
  for (unit of ["KiB", "MiB", "GiB", "TiB"]) {
    bytes /= 1024;
    if (bytes < 1023.95) break;
  }
  return `${bytes.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} ${unit}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** Returns the time zone that the user chose in Airflow, which stores it as JSON; by default that of the browser. */
function zone() {
  try {
    const timeZone = JSON.parse(localStorage.getItem("timezone")) ?? undefined;
    return new Intl.DateTimeFormat([], { timeZone }).resolvedOptions().timeZone;
  } catch {
    return undefined; // this browser does not know the time zone
  }
}

/** Returns a point in time as readable text. */
function time(date) {
  const chosen = { timeZone: zone() };
  const day = (value) => new Date(value).toLocaleDateString([], chosen);
  const today = day(date) === day(Date.now());
  return new Date(date).toLocaleString([], { ...chosen, timeStyle: "short", ...(!today && { dateStyle: "medium" }) });
}

const last = (path) => String(path ?? "").replace(/\/+$/, "").split("/").pop();
const joined = (...texts) => texts.filter(Boolean).join(" · ");
const since = (ti) => (ti.start_date ? `since ${time(ti.start_date)}` : "");

// -- One run

const GROUPS = { failed: "Failed", active: "Uploading", waiting: "Waiting", done: "Done", skipped: "Skipped" };
const GROUP_OF = {
  failed: "failed", upstream_failed: "failed", success: "done", skipped: "skipped", removed: "skipped",
  running: "active", restarting: "active", deferred: "active", up_for_retry: "active", up_for_reschedule: "active",
};

/** Returns the kind of a task for this page; it depends on the task's fields, so that subclasses count too. */
function kindOf(task) {
  const has = (...fields) => fields.every((field) => task.template_fields?.includes(field));
  if (task.class_ref?.class_name === "ListFilesOperator") return "list";
  if (!has("three_sixty_conn_id")) return null;
  if (has("download_link")) return "project";
  if (has("upload_id", "path")) return has("paths") ? "folder" : "file";
  return has("project_name") ? "wait" : null;
}

class Row {
  constructor(kind) {
    this.kind = kind;
    this.read = 0; // the last poll that asked for its numbers
  }

  update(ti) {
    const again = !ti.state || this.ti?.try_number !== ti.try_number; // cleared or retried
    if (again) Object.assign(this, { numbers: undefined, percent: undefined, page: undefined, result: undefined, fields: {} });
    if (again || this.ti?.state !== ti.state) this.settled = false;
    this.ti = ti;
    this.fields = { ...this.fields, ...ti.rendered_fields };
  }

  get uploads() {
    return this.kind === "file" || this.kind === "folder";
  }

  /** Whether there is data left to request; for a finished upload with a known size there is none. */
  get due() {
    if (this.settled || this.kind === "list" || this.group === "waiting" || this.group === "skipped") return false;
    return !this.uploads || this.group !== "done" || this.size === undefined;
  }

  get group() {
    return GROUP_OF[this.ti.state] ?? "waiting";
  }

  get name() {
    const { filename, archive, path: folder } = this.fields;
    const path = filename || archive || this.listed?.filename || folder || this.listed?.path;
    const mapped = this.ti.map_index < 0 ? "" : ` [${this.ti.map_index}]`;
    const { rendered_map_index: label, map_index: index } = this.ti; // before a task starts, its label is its index
    return (label !== String(index) && label) || last(path) || this.ti.task_display_name + mapped;
  }

  /** The total bytes, if they are known yet. */
  get size() {
    const given = [this.fields.size, this.numbers?.size, this.result?.bytes, this.result?.size, this.listed?.size];
    const known = given.find((value) => value !== undefined && value !== null && value !== "" && value !== "None");
    return known === undefined ? undefined : Number(known);
  }

  get received() {
    return this.group === "done" ? (this.size ?? 0) : (this.numbers?.received ?? 0);
  }

  get files() {
    return this.kind === "file" ? 1 : (this.result?.files ?? this.numbers?.files ?? 0);
  }

  get filesDone() {
    return this.group === "done" ? this.files : (this.numbers?.files_done ?? 0);
  }
}

class Run {
  constructor(dag, run) {
    Object.assign(this, { dag, run, rows: new Map(), polls: 0, arrived: [], kinds: null, since: null, state: null });
  }

  get over() {
    return END_STATES.has(this.state) && !this.owed;
  }

  of(...kinds) {
    return [...this.rows.values()].filter((row) => kinds.includes(row.kind));
  }

  async poll(visible) {
    if (!this.kinds) await this.learnKinds();
    this.state = (await api(runPath(this.dag, this.run))).json.state;
    if (this.kinds.size) {
      await this.readInstances();
      await this.readListings();
      await this.readNumbers(visible);
    }
    this.polls += 1;
  }

  async learnKinds() {
    const [{ json }, version] = await Promise.all([api(`dags/${part(this.dag)}/tasks`), maybe("version")]);
    const kinds = json.tasks.map((task) => [task.task_id, kindOf(task), task.class_ref?.class_name]);
    this.version = version?.version ?? "";
    const [major, minor] = this.version.split(".").map(Number);
    this.remembers = !(major === 3 && minor < 3);
    this.operators = [...new Set(kinds.filter(([, kind]) => kind).map(([, , name]) => name))];
    this.kinds = new Map(kinds.filter(([, kind]) => kind).map(([id, kind]) => [id, kind]));
  }

  /** Reads all relevant task instances, or those that changed since the last poll. */
  async readInstances() {
    const whole = this.polls % POLLS_PER_FULL_READ === 0;
    const filter = { operator: this.operators, limit: MAX_PAGE_LIMIT, order_by: "id" };
    if (!whole) filter.updated_at_gte = this.since;
    const seen = new Set();
    let began, got, total;
    let offset = 0;
    do {
      const { json, date } = await api(`${runPath(this.dag, this.run)}/taskInstances`, { ...filter, offset });
      began ??= date ?? 0;
      got = json.task_instances;
      for (const ti of got) seen.add(this.update(ti));
      offset += got.length; // Airflow may be configured to return fewer than requested
      total = json.total_entries;
    } while (got.length && offset < total);
    this.since = new Date(Date.parse(began) - 30000).toISOString();
    if (whole) for (const key of this.rows.keys()) if (!seen.has(key)) this.rows.delete(key);
  }

  update(ti) {
    const key = `${ti.task_id} ${ti.map_index}`;
    const kind = this.kinds.get(ti.task_id);
    if (kind) {
      if (!this.rows.has(key)) this.rows.set(key, new Row(kind));
      this.rows.get(key).update(ti);
      if (ti.map_index >= 0) this.rows.delete(`${ti.task_id} -1`); // it was the placeholder for the mapped ones
    }
    return key;
  }

  /** Sets names and sizes of uploads that have not started, if their task is mapped over an unchanged listing. */
  async readListings() {
    for (const list of this.of("list")) {
      if (list.group === "done" && !list.settled) {
        list.settled = true;
        list.result = await xcom(list.ti, "return_value");
      }
      if (!Array.isArray(list.result)) continue;
      const uploads = this.of("file").filter((row) => row.ti.map_index >= 0);
      const fits = uploads.length === list.result.length && uploads.every(({ ti, fields }) => {
        const path = list.result[ti.map_index]?.path;
        return path && (!fields.path || fields.path === path);
      });
      if (fits) for (const row of uploads) row.listed = list.result[row.ti.map_index];
    }
  }

  /** Requests the numbers of single tasks, for a limited number of tasks: the visible and the oldest ones first. */
  async readNumbers(visible) {
    const due = [...this.rows.values()].filter((row) => row.due);
    due.sort((a, b) => visible.has(b) - visible.has(a) || a.read - b.read);
    await Promise.all(due.slice(0, ROWS_PER_PAGE).map((row) => this.readRow(row)));
    this.owed = due.some((row) => !row.settled && row.group !== "active");
  }

  async readRow(row) {
    const { ti, group } = row;
    const unfinished = group === "active" || group === "failed";
    row.read = this.polls + 1;
    if (!Object.keys(row.fields).length) { // Airflow 3.2 omits them from its lists
      const path = ti.map_index < 0 ? taskPath(ti) : `${taskPath(ti)}/${ti.map_index}`;
      row.fields = (await maybe(path))?.rendered_fields ?? {};
    }
    if (row.uploads && group === "done") row.result = await xcom(ti, "return_value");
    if (this.remembers && unfinished) {
      const path = `${taskPath(ti)}/state-store/${part("360 progress")}`;
      row.numbers = (await maybe(path, { map_index: ti.map_index }))?.value ?? row.numbers;
    }
    if (!row.uploads && !row.page) {
      const link = (await maybe(`${taskPath(ti)}/links`, { map_index: ti.map_index }))?.extra_links?.[OPEN_LABEL];
      row.page = /^https?:\/\//.test(link ?? "") ? link : undefined;
    }
    if (!row.uploads && unfinished) {
      const told = row.numbers?.percent;
      const inLog = ti.state === "deferred" || (told === undefined && (group === "failed" || !this.remembers));
      row.percent = (inLog ? await statusInLog(ti) : told) ?? row.percent;
    }
    row.settled = group !== "active";
  }

  /** Returns bytes, files and rate over all uploads, from the known numbers. */
  totals() {
    const sum = { received: 0, size: 0, files: 0, filesDone: 0, rate: 0, unknown: 0 };
    const now = Date.now();
    let silent = false;
    for (const row of this.of("file", "folder")) {
      if (row.group === "skipped") continue;
      if (row.size === undefined) sum.unknown += 1;
      sum.size += row.size ?? 0;
      sum.received += row.received;
      sum.files += row.files;
      sum.filesDone += row.filesDone;
      if (row.ti.state === "running") {
        sum.rate += row.numbers?.rate ?? 0;
        silent ||= this.remembers && row.numbers?.rate === undefined;
      }
    }
    // Small files are complete before they report a rate, so it is computed from the bytes that arrived since this
    // page was opened.
    this.arrived = [...this.arrived.filter(([when]) => now - when < 120000), [now, sum.received]];
    const [when, received] = this.arrived[0];
    if (silent && now - when > 15000) sum.rate = Math.max(0, (1000 * (sum.received - received)) / (now - when));
    return sum;
  }

  /** Returns each task that creates a project with the task that waits for it: the one for its name, or the only one
   * in its group. */
  projects() {
    const place = ({ ti }) => `${ti.task_id.split(".").slice(0, -1).join(".")} ${ti.map_index}`;
    const alone = (rows) => {
      const found = new Map();
      for (const row of rows) found.set(place(row), found.has(place(row)) ? undefined : row);
      return found;
    };
    const [creating, waiting] = [this.of("project"), this.of("wait")];
    const [createAt, waitAt] = [alone(creating), alone(waiting)];
    const waitFor = new Map(waiting.map((wait) => [part(wait.fields.project_name), wait]));
    const found = creating.map((create) => {
      const named = create.page && waitFor.get(last(create.page));
      return { create, wait: named || (createAt.get(place(create)) && waitAt.get(place(create))) };
    });
    const taken = new Set(found.map(({ wait }) => wait));
    return [...found, ...waiting.filter((wait) => !taken.has(wait)).map((wait) => ({ wait }))];
  }
}

// -- Views

const LOADING = "Loading…";

function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function bar() {
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
function keyed(container, items, key, make) {
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
function row(view) {
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

const STATES = {
  queued: "Queued", scheduled: "Queued", deferred: "Waiting for a rate limit", up_for_retry: "Waiting to retry",
  up_for_reschedule: "Waiting for a rate limit", upstream_failed: "Not begun: a task before it failed",
  skipped: "Skipped", removed: "Removed",
};

const at = (ti) => {
  const mapped = ti.map_index < 0 ? "" : `/mapped/${ti.map_index}`;
  return `dags/${part(ti.dag_id)}/runs/${part(ti.dag_run_id)}/tasks/${part(ti.task_id)}${mapped}`;
};

function uploadView(upload, remembers) {
  const { ti, group, numbers } = upload;
  const whole = upload.size;
  const begun = numbers?.received !== undefined && group !== "waiting";
  const percent = group === "done" ? 100 : begun ? numbers.percent : group === "active" ? undefined : 0;
  const held = begun ? `${size(numbers.received)} of ${size(whole)} (${numbers.percent} %)` : "";
  const amount = whole === undefined ? "" : size(whole);
  const files = upload.kind === "folder" && upload.files ? count(upload.files, "file") : "";
  const texts = {
    done: [joined(files, amount), ti.duration ? `in ${duration(ti.duration)}` : ""],
    waiting: [amount, ""],
    skipped: ["", ""],
    failed: [held ? `Stopped at ${held}` : amount, ""],
    active: remembers ? [held || joined("Starting", amount), ""] : [amount, since(ti)],
  };
  if (group === "active" && begun && files) texts.active[0] = `${numbers.files_done} of ${files}, ${held}`;
  if (ti.state === "running" && begun) {
    const left = numbers.seconds_left;
    texts.active[1] = joined(`${size(numbers.rate)}/s`, left === null ? "" : `${duration(left)} left`);
  }
  const resumed = numbers?.resumed_from ? `resumed at ${size(numbers.resumed_from)}` : "";
  const attempt = ti.try_number > 1 ? `attempt ${ti.try_number}` : "";
  return {
    group, percent, name: upload.name, href: at(ti),
    badge: STATES[ti.state] ?? GROUPS[group],
    left: texts[group][0], right: joined(attempt, resumed, texts[group][1]),
  };
}

function projectView({ create, wait }, uploading) {
  const first = create ?? wait;
  const step = !create || create.group === "done" ? (wait ?? create) : create;
  const page = create?.page ?? wait?.page;
  const begun = step === wait || (create && step.group === "active" && step.ti.state !== "running");
  const view = { page, href: at(step.ti), group: step.group, percent: 0, right: "" };
  view.name = create?.fields.title || last(create?.fields.path) || wait?.fields.project_name ||
    (first.ti.map_index < 0 ? "Project" : first.name);
  if (step.group === "done") {
    const ready = step === wait || create.percent !== undefined;
    Object.assign(view, { badge: ready ? "Ready" : "Created", percent: 100 });
    view.left = ready ? "Processed" : "Created; no task of this run waits until it is processed";
    if (step.ti.duration) view.right = `at ${time(step.ti.end_date)}`;
  } else if (step.group === "failed") {
    const stopped = step.percent === undefined ? "" : ` at ${step.percent} of 100`;
    view.badge = "Failed";
    view.percent = step.percent ?? 0;
    view.left = step.ti.state === "upstream_failed" ? "Not created: a task before it failed"
      : begun ? `The wait for it failed${stopped}; see the task's log` : "Not created; see the task's log";
  } else if (step.group === "active" && begun) {
    view.badge = "Processing";
    view.percent = step.percent;
    view.left = step.percent === undefined ? "No number yet" : `${step.percent} of 100`;
    view.right = since(step.ti);
  } else if (step.group === "active") {
    Object.assign(view, { badge: "Creating", percent: undefined, left: "Being created" });
  } else if (step === wait && create) {
    Object.assign(view, { badge: "Created", group: "active", left: "Created; the server processes it", percent: undefined });
  } else {
    view.badge = step.group === "skipped" ? "Skipped" : "Waiting";
    view.left = step.group === "skipped" ? "" : uploading ? "Is created when all uploads are complete" : "Is created next";
  }
  return view;
}

/** The pager of rows, hidden if there is only one page. */
function pager(changed) {
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

class RunPage {
  constructor(root, dag, run) {
    this.model = new Run(dag, run);
    this.filter = null;
    this.note = el("p", { className: "note" }, LOADING);
    this.headline = el("div", { className: "headline" });
    this.detail = el("span", { className: "muted" });
    this.live = el("span", { className: "muted small live" });
    this.total = bar();
    this.chips = el("div", { className: "chips" });
    this.uploads = el("ul");
    this.uploadPages = pager(() => this.show());
    this.projects = el("ul");
    this.projectPages = pager(() => this.show());
    this.parts = {
      total: el("section", { className: "card" },
        el("div", { className: "line" }, this.headline, this.live), this.total, this.detail),
      projects: el("section", {}, el("h2", {}, "Projects"), this.projects, this.projectPages),
      uploads: el("section", {}, el("h2", {}, "Uploads"), this.chips, this.uploads, this.uploadPages),
    };
    root.append(this.note, ...Object.values(this.parts));
    for (const section of Object.values(this.parts)) section.hidden = true;
    this.visible = new Set();
  }

  get over() {
    return this.model.over;
  }

  async poll() {
    try {
      await this.model.poll(this.visible);
    } finally {
      if (this.model.kinds) this.show(); // show the known data even if the rest could not be read
    }
  }

  show() {
    const { model, parts } = this;
    const uploads = model.of("file", "folder");
    const projects = model.projects();
    this.note.textContent = !model.kinds?.size
      ? "No task of this DAG uploads anything to 360."
      : model.remembers ? ""
        : `Airflow ${model.version} keeps no numbers of running uploads: how far a single one is, is in ` +
          "its task's log. From Airflow 3.3 on it is shown here.";
    this.note.hidden = !this.note.textContent;
    parts.total.hidden = parts.uploads.hidden = !uploads.length;
    parts.projects.hidden = !projects.length;
    this.visible = new Set();
    if (uploads.length) this.showTotal(uploads);
    this.showUploads(uploads);
    this.showProjects(projects, uploads);
  }

  showTotal(uploads) {
    const sum = this.model.totals();
    const sized = sum.size > 0;
    const [done, skipped, failed] = ["done", "skipped", "failed"].map((group) =>
      uploads.filter((row) => row.group === group).length);
    const none = skipped === uploads.length;
    const all = done + skipped === uploads.length;
    const share = sized ? sum.received / sum.size : done / uploads.length;
    const percent = none ? 0 : all ? 100 : Math.floor(100 * share);
    const least = sum.unknown ? "at least " : "";
    const files = sum.files > 1 && `${sum.filesDone.toLocaleString("en")} of ${count(sum.files, "file")}`;
    const rate = sum.rate > 0 && `${size(Math.round(sum.rate))}/s`;
    const left = rate && !sum.unknown && `${duration((sum.size - sum.received) / sum.rate)} left`;
    this.headline.textContent = none ? "Nothing was uploaded"
      : all ? joined("All uploaded", sized && size(sum.size))
      : sized && this.model.remembers ? `${size(sum.received)} of ${least}${size(sum.size)}`
      : `${done} of ${count(uploads.length, "upload")} done`;
    this.detail.textContent = !all ? joined(`${percent} %`, files, rate, left)
      : sum.files ? count(sum.files, "file") : "";
    this.total.show(percent, none ? "skipped" : all ? "done" : failed ? "failed" : "active", "All uploads");
    this.live.textContent = this.model.over ? "This run is over" : "Live";
    this.live.dataset.live = !this.model.over;
  }

  showUploads(uploads) {
    const groups = Object.keys(GROUPS);
    const counts = groups.map((group) => [group, uploads.filter((row) => row.group === group).length]);
    if (!counts.some(([group, number]) => group === this.filter && number)) this.filter = null;
    const choices = [[null, uploads.length], ...counts.filter(([, number]) => number)];
    this.chips.hidden = choices.length < 3;
    keyed(this.chips, choices, ([group]) => group, () => {
      const button = el("button", { type: "button", className: "chip" });
      button.show = ([group, number]) => {
        button.textContent = `${GROUPS[group] ?? "All"} ${number.toLocaleString("en")}`;
        button.ariaPressed = this.filter === group;
        button.onclick = () => ((this.filter = group), (this.uploadPages.page = 0), this.show());
      };
      return button;
    });
    const chosen = uploads.filter((row) => !this.filter || row.group === this.filter);
    chosen.sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group) || a.ti.map_index - b.ti.map_index);
    const shown = this.uploadPages.cut(chosen);
    for (const upload of shown) this.visible.add(upload);
    keyed(this.uploads, shown, (upload) => `${upload.ti.task_id} ${upload.ti.map_index}`, () =>
      row((upload) => uploadView(upload, this.model.remembers)));
  }

  showProjects(projects, uploads) {
    this.uploading = uploads.some((row) => row.group === "active" || row.group === "waiting");
    const shown = this.projectPages.cut(projects);
    for (const { create, wait } of shown) this.visible.add(create).add(wait);
    const key = ({ create, wait }) => `${(create ?? wait).ti.task_id} ${(create ?? wait).ti.map_index}`;
    keyed(this.projects, shown, key, () => row((project) => projectView(project, this.uploading)));
    this.parts.projects.firstChild.textContent = projects.length === 1 ? "Project" : "Projects";
  }
}

// -- The latest runs

class RunsPage {
  constructor(root) {
    this.note = el("p", { className: "note" }, LOADING);
    this.list = el("ul");
    root.append(el("h1", {}, NAME), el("p", { className: "muted" }, "The latest runs that send scans to 360."), this.note, this.list);
    this.counts = new Map();
    this.polls = 0;
    this.over = false; // a new run may start at any time
  }

  async poll() {
    if (this.polls % POLLS_PER_FULL_READ === 0) this.dags = await this.findDags();
    let runs = [];
    if (this.dags.length) {
      const body = { dag_ids: this.dags, order_by: "-run_after", page_limit: ROWS_PER_PAGE };
      runs = (await api("dags/~/dagRuns/list", {}, body)).json.dag_runs;
    }
    const due = runs.filter((run) => !END_STATES.has(run.state) || !this.counts.has(this.key(run)));
    await Promise.all(due.slice(0, 10).map((run) => this.countUploads(run)));
    this.polls += 1;
    this.note.textContent = runs.length ? "" : "No run that you may see has sent anything to 360 yet.";
    this.note.hidden = !this.note.textContent;
    keyed(this.list, runs, (run) => `${run.dag_id} ${run.dag_run_id}`, () => row((run) => this.view(run)));
  }

  /** Returns the DAGs that upload; this is the most expensive request of a poll for Airflow's database. */
  async findDags() {
    const filter = { operator: OPERATORS, map_index: [-1, 0], order_by: "-run_after", limit: MAX_PAGE_LIMIT };
    const { json } = await api("dags/~/dagRuns/~/taskInstances", filter);
    return [...new Set(json.task_instances.map((ti) => ti.dag_id))];
  }

  /** Returns a run's key; it changes if the run is cleared, because then its end date changes. */
  key(run) {
    return `${run.dag_id} ${run.dag_run_id} ${run.end_date}`;
  }

  /** Counts the finished uploads of a run with two numbers, without reading the rows. */
  async countUploads(run) {
    const ask = (state) => maybe(`${runPath(run.dag_id, run.dag_run_id)}/taskInstances`,
      { operator: OPERATORS.filter((name) => name.startsWith("Upload")), limit: 1, ...state });
    const [all, done] = await Promise.all([ask({}), ask({ state: "success" })]);
    this.counts.set(this.key(run), all && done ? [done.total_entries, all.total_entries] : []);
  }

  view(run) {
    const group = { success: "done", failed: "failed", running: "active" }[run.state] ?? "waiting";
    const [done, all] = this.counts.get(this.key(run)) ?? [];
    return {
      group, name: run.dag_display_name ?? run.dag_id,
      href: `plugin/360?${new URLSearchParams({ dag: run.dag_id, run: run.dag_run_id })}`,
      badge: { done: "Success", failed: "Failed", active: "Running", waiting: "Queued" }[group],
      percent: group === "done" ? 100 : all ? Math.floor((100 * done) / all) : 0,
      left: all ? `${done.toLocaleString("en")} of ${count(all, "upload")} done` : "",
      right: time(run.start_date ?? run.run_after),
    };
  }
}

// -- The element, and the component that Airflow loads

const STYLE = `
  :host { display: block; color: var(--chakra-colors-fg, CanvasText); container-type: inline-size;
    --line: var(--chakra-colors-border, #d4d4d8); --muted: var(--chakra-colors-fg-muted, GrayText);
    --active: var(--chakra-colors-running-solid, #00b3d7); --done: var(--chakra-colors-success-solid, #16a34a);
    --failed: var(--chakra-colors-failed-solid, #dc2626); --waiting: var(--chakra-colors-none-solid, #a1a1aa);
    --skipped: var(--chakra-colors-skipped-solid, #db2777); }
  * { box-sizing: border-box; }
  [hidden] { display: none !important; }
  main { max-width: 70rem; margin: 0 auto; padding: 1rem .75rem; }
  h1, h2 { font-size: 1.125rem; font-weight: 600; margin: 1.5rem 0 .5rem; }
  h1 { font-size: 1.375rem; margin-top: 0; }
  p { margin: 0 0 .75rem; }
  a { color: inherit; }
  ul { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); border-radius: .375rem; }
  ul:empty { display: none; }
  li { padding: .5rem .875rem; }
  li + li { border-top: 1px solid var(--line); }
  .card { border: 1px solid var(--line); border-radius: .375rem; padding: 1rem; }
  .line { display: flex; gap: .25rem .75rem; align-items: center; justify-content: space-between; min-width: 0; }
  nav { margin-bottom: 1rem; overflow-wrap: anywhere; }
  nav .name { white-space: normal; color: var(--chakra-colors-fg-info, LinkText); }
  .headline { font-size: 1.375rem; font-weight: 600; }
  .name { font-weight: 500; text-decoration: none; flex: 1 0 auto; max-width: 60%; overflow: hidden; text-overflow: ellipsis;
    white-space: nowrap; }
  .name:hover { text-decoration: underline; }
  .numbers { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 0 .75rem; font-size: .875rem; margin-left: auto;
    color: var(--muted); font-variant-numeric: tabular-nums; text-align: right; }
  .small { font-size: .875rem; }
  .muted { color: var(--muted); }
  .note { border: 1px solid var(--line); border-radius: .375rem; padding: .75rem 1rem; color: var(--muted); }
  .bar { height: .5rem; border-radius: .25rem; margin: .375rem 0; overflow: hidden;
    background: var(--chakra-colors-bg-emphasized, #e4e4e7); }
  .card .bar { height: .75rem; border-radius: .375rem; margin: .625rem 0; }
  .fill { height: 100%; border-radius: inherit; transition: width .6s; background: var(--waiting); }
  [data-group=active] > .fill { background: var(--active); }
  [data-group=done] > .fill { background: var(--done); }
  [data-group=failed] > .fill { background: var(--failed); }
  [data-group=skipped] > .fill { background: var(--skipped); }
  [data-unknown=true] > .fill { opacity: .45; background-size: 1rem 1rem; animation: slide 1s linear infinite;
    background-image: linear-gradient(45deg, #fff6 25%, transparent 25% 50%, #fff6 50% 75%, transparent 75%); }
  @keyframes slide { to { background-position-x: 1rem; } }
  .badge { flex: none; font-size: .75rem; border-radius: 1rem; padding: .0625rem .5rem; border: 1px solid var(--line); }
  .badge::before, .live[data-live=true]::before { content: ""; display: inline-block; width: .5rem; height: .5rem;
    border-radius: 50%; margin-right: .375rem; background: var(--waiting); }
  .badge[data-group=active]::before, .live[data-live=true]::before { background: var(--active); }
  .badge[data-group=done]::before { background: var(--done); }
  .badge[data-group=failed]::before { background: var(--failed); }
  .badge[data-group=skipped]::before { background: var(--skipped); }
  .live[data-live=true]::before { animation: pulse 2s infinite; }
  [role=alert]:not([hidden]) ~ section .live { visibility: hidden; }
  @keyframes pulse { 50% { opacity: .25; } }
  .button, button { font: inherit; font-size: .875rem; border-radius: .25rem; border: 1px solid var(--line); cursor: pointer;
    padding: .25rem .75rem; background: none; color: inherit; text-decoration: none; flex: none; }
  .button { background: var(--chakra-colors-brand-solid, #0369a1); color: var(--chakra-colors-brand-contrast, #fff);
    border-color: transparent; }
  button:disabled { opacity: .4; cursor: default; }
  .chips, .pager { display: flex; flex-wrap: wrap; gap: .375rem; align-items: center; margin: .5rem 0; }
  .pager { justify-content: flex-end; }
  .chip { border-radius: 1rem; padding: .125rem .75rem; }
  .chip[aria-pressed=true] { background: var(--chakra-colors-bg-emphasized, #e4e4e7); font-weight: 600; }
  @container (max-width: 40rem) {
    .line { flex-wrap: wrap; }
    .name { flex: 1 1 50%; max-width: none; white-space: normal; overflow-wrap: anywhere; }
    .numbers { order: 1; flex: 1 0 100%; justify-content: space-between; text-align: left; margin: 0; }
  }
  @media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;

/** Returns the navigation of a run's own page: back to all runs, and to the run in Airflow. */
function way(dag, run) {
  const back = el("a", { className: "name", href: "plugin/360" }, NAME);
  const there = el("a", { className: "name", href: `dags/${part(dag)}/runs/${part(run)}` }, dag, " › ", run);
  return el("nav", {}, back, " › ", there);
}

const TROUBLE_TEXTS = {
  401: "You are signed out. Load this page again to sign in.",
  403: "You may not see these tasks. Whoever runs this Airflow can let you read the DAG.",
  404: "There is no such run, or you may not see it.",
};

class Uploads extends HTMLElement {
  connectedCallback() {
    const { dag, run } = this.dataset;
    const main = el("main");
    this.trouble = el("p", { className: "note", hidden: true });
    this.trouble.setAttribute("role", "alert");
    main.append(this.trouble);
    (this.shadowRoot ?? this.attachShadow({ mode: "open" })).replaceChildren(el("style", {}, STYLE), main);
    if (run && this.dataset.alone) main.append(way(dag, run));
    this.page = run ? new RunPage(main, dag, run) : new RunsPage(main);
    this.failures = 0;
    main.addEventListener("click", (event) => this.go(event));
    this.seen = () => (document.hidden ? clearTimeout(this.timer) : this.poll());
    document.addEventListener("visibilitychange", this.seen);
    this.poll();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.page = null;
  }

  /** Runs one poll after the other; pauses while the page is hidden, and stops once everything is over. */
  async poll() {
    const page = this.page;
    clearTimeout(this.timer);
    if (this.polling === page) return;
    this.polling = page;
    const error = await page.poll().then(() => null, (reason) => reason);
    if (this.page !== page) return; // the user left the page meanwhile
    this.polling = null;
    this.failures = error ? this.failures + 1 : 0;
    this.tell(error);
    const wait = POLL_INTERVAL_MS * Math.min(2 ** this.failures, 12);
    if ((error || !page.over) && !document.hidden) this.timer = setTimeout(() => this.poll(), wait);
  }

  tell(error) {
    this.trouble.hidden = !error;
    if (!error) return;
    const { status } = error;
    if (!status) console.error(error);
    const what = status ? `answered ${status}` : "does not answer";
    this.trouble.textContent = TROUBLE_TEXTS[status] ?? `Airflow ${what}. Trying again.`;
    if (this.page.note.textContent === LOADING) this.page.note.hidden = true;
  }

  /** Follows a link inside Airflow without reloading Airflow. */
  go(event) {
    const link = event.target.closest("a.name");
    if (!link || !this.navigate || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.navigate(`/${link.getAttribute("href")}`);
  }
}

if (!customElements.get("three-sixty-uploads")) customElements.define("three-sixty-uploads", Uploads);

/** The component. In a run's tab Airflow passes the run. In the navigation the run is in the URL, so that the page
 * has the full width. */
function Page({ dagId, runId }) {
  const { useLocation, useNavigate } = globalThis.ReactRouterDOM;
  const navigate = useNavigate();
  const asked = new URLSearchParams(useLocation().search);
  const [dag, run] = runId ? [dagId, runId] : [asked.get("dag") ?? undefined, asked.get("run") ?? undefined];
  return globalThis.React.createElement("three-sixty-uploads", {
    key: `${dag} ${run}`,
    "data-dag": dag,
    "data-run": run,
    "data-alone": runId ? undefined : "yes",
    ref: (node) => {
      if (node) node.navigate = navigate;
    },
  });
}

globalThis[NAME] = Page;
