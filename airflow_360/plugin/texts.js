// Numbers and dates as readable text.

export function size(bytes) {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let unit = "";
  for (unit of ["KiB", "MiB", "GiB", "TiB"]) {
    bytes /= 1024;
    if (bytes < 1023.95) break;
  }
  return `${bytes.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} ${unit}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

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
export function time(date) {
  const chosen = { timeZone: zone() };
  const day = (value) => new Date(value).toLocaleDateString([], chosen);
  const today = day(date) === day(Date.now());
  return new Date(date).toLocaleString([], { ...chosen, timeStyle: "short", ...(!today && { dateStyle: "medium" }) });
}

export const last = (path) => String(path ?? "").replace(/\/+$/, "").split("/").pop();
export const joined = (...texts) => texts.filter(Boolean).join(" · ");
export const since = (ti) => (ti.start_date ? `since ${time(ti.start_date)}` : "");
