// Airflow's REST API, with the cookie of the signed-in user.

const REQUEST_TIMEOUT_MS = 30000; // for a reply of Airflow

class Refusal extends Error {
  constructor(status) {
    super(`Airflow answered ${status}`);
    this.status = status;
  }
}

export const part = encodeURIComponent;
export const runPath = (dag, run) => `dags/${part(dag)}/dagRuns/${part(run)}`;
export const taskPath = (ti) => `${runPath(ti.dag_id, ti.dag_run_id)}/taskInstances/${part(ti.task_id)}`;

export async function api(path, params = {}, body) {
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
export async function maybe(path, params) {
  try {
    return (await api(path, params)).json;
  } catch (error) {
    if (error.status === 403 || error.status === 404) return null;
    throw error;
  }
}

/** Returns a task's XCom; the versions of Airflow write its JSON differently. */
export async function xcom(ti, key) {
  const entry = await maybe(`${taskPath(ti)}/xcomEntries/${part(key)}`, { map_index: ti.map_index });
  if (typeof entry?.value !== "string") return entry?.value;
  try {
    return JSON.parse(entry.value);
  } catch {
    return entry.value;
  }
}

/** Returns a project's last status from its trigger's log, because a trigger cannot store state. */
export async function statusInLog(ti) {
  const path = `${taskPath(ti)}/logs/${ti.try_number}`;
  const log = await maybe(path, { map_index: ti.map_index, full_content: true });
  for (const line of [...(log?.content ?? [])].reverse()) {
    const found = /Project \S+: status (\d+) of 100/.exec(line.event ?? line);
    if (found) return Number(found[1]);
  }
  return undefined;
}
