// Numbers and names that several parts of the page share.

export const NAME = "360 uploads"; // as in page.py
export const POLLS_PER_FULL_READ = 12; // a full read of all task instances; the other polls read only those that changed
export const ROWS_PER_PAGE = 25; // rows of a page, and small requests of one poll
export const MAX_PAGE_LIMIT = 100; // Airflow's default for the largest page of its API
export const OPEN_LABEL = "Open in 360"; // as in links/project.py
export const END_STATES = new Set(["success", "failed"]);
