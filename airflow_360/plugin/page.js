// The uploads of a run, and the latest runs with uploads, as a component of Airflow's UI.
//
// All data comes from Airflow's public REST API, with the cookie of the signed-in user. So the page cannot show data
// that this user may not see. Names and texts are data: they are inserted as text, never as markup.

import { part } from "./airflow.js";
import { NAME } from "./constants.js";
import { el, LOADING } from "./elements.js";
import { STYLE } from "./style.js";
import { RunPage, RunsPage } from "./views.js";

const POLL_INTERVAL_MS = 5000; // between two polls of a run that is not over

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
