// The state of one run: its uploads and projects, read from Airflow.

import { api, maybe, part, runPath, statusInLog, taskPath, xcom } from "./airflow.js";
import { END_STATES, MAX_PAGE_LIMIT, OPEN_LABEL, POLLS_PER_FULL_READ, ROWS_PER_PAGE } from "./constants.js";
import { last, size } from "./texts.js";

export const GROUPS = { failed: "Failed", active: "Uploading", waiting: "Waiting", done: "Done", skipped: "Skipped" };
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
    if (again) {
      const none = { numbers: undefined, percent: undefined, page: undefined, result: undefined, problems: undefined };
      Object.assign(this, none, { fields: {} });
    }
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

export class Run {
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
      if ((list.group === "done" || list.group === "failed") && !list.settled) {
        list.settled = true;
        if (list.group === "done") list.result = await xcom(list.ti, "return_value");
        list.problems = await xcom(list.ti, "inspection");
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
    // The result of a finished upload says whether its file is damaged; it is read once if the row is visible.
    const unread = (row) => visible.has(row) && row.uploads && row.group === "done" && !row.settled;
    const due = [...this.rows.values()].filter((row) => row.due || unread(row));
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
    if (row.kind === "folder" && (group === "failed" || row.result?.damaged || row.result?.doubtful)) {
      row.problems = await xcom(ti, "inspection");
    }
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

  /** Returns the numbers of damaged and doubtful files that the inspections found, and texts of the first ones. */
  problems() {
    const sum = { damaged: 0, doubtful: 0, files: [] };
    const listed = this.of("list").flatMap((list) => list.problems?.files ?? []);
    for (const row of this.rows.values()) {
      if (row.kind === "file" && listed.some((text) => text.startsWith(`${row.fields.path}: `))) continue;
      const found = row.problems ?? (row.kind === "file" && row.result);
      if (!found || !(found.damaged || found.doubtful)) continue;
      sum.damaged += found.damaged ?? 0;
      sum.doubtful += found.doubtful ?? 0;
      if (Array.isArray(found.files)) sum.files.push(...found.files);
      else sum.files.push(`${row.name}: see the log of its task`);
    }
    return sum;
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
