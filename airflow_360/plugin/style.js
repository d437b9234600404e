// The style of the page, in the colors of Airflow's theme.

export const STYLE = `
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
  .problems { overflow-wrap: anywhere; }
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
