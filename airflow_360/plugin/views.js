// The views of one run and of the latest runs.

import { api, maybe, part, runPath } from "./airflow.js";
import { END_STATES, MAX_PAGE_LIMIT, NAME, POLLS_PER_FULL_READ, ROWS_PER_PAGE } from "./constants.js";
import { bar, el, keyed, LOADING, pager, row } from "./elements.js";
import { GROUPS, Run } from "./model.js";
import { count, duration, joined, last, since, size, time } from "./texts.js";

const OPERATORS = [
  "CreateProjectOperator", "ListFilesOperator", "ProjectReadySensor", "UploadFileOperator", "UploadFilesOperator",
];
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

export class RunPage {
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
    this.problemCount = el("p", {});
    this.problems = el("ul", { className: "problems" });
    this.parts = {
      total: el("section", { className: "card" },
        el("div", { className: "line" }, this.headline, this.live), this.total, this.detail),
      problems: el("section", {}, el("h2", {}, "Inspection"), this.problemCount, this.problems),
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
    this.showProblems(this.model.problems());
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

  showProblems({ damaged, doubtful, files }) {
    this.parts.problems.hidden = !files.length;
    this.problemCount.textContent = joined(
      damaged && `${count(damaged, "file")} damaged`, doubtful && `${count(doubtful, "file")} doubtful`);
    const shown = files.slice(0, ROWS_PER_PAGE);
    if (shown.length < damaged + doubtful) shown.push("More are in the logs of the tasks");
    this.problems.replaceChildren(...shown.map((text) => el("li", {}, text)));
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

export class RunsPage {
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
