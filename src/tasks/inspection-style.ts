/** The style of the inspection page, in light and dark. */
export const inspectionStyle = `
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #626a73; --paper: #fbfaf7; --card: #fff; --line: #e2ddd3; --accent: #0b6e99; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e1; --soft: #9aa3ab; --paper: #15171a; --card: #1d2024; --line: #33383e; --accent: #6cc4e8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, nav, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { margin: 0; font-size: 24px; letter-spacing: -0.01em; }
h2 { margin: 28px 0 8px; font-size: 15px; color: var(--soft); font-weight: 600; }
#about, #meaning, #reader { margin: 4px 0; color: var(--soft); font-size: 14px; }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; padding-top: 12px; padding-bottom: 12px; background: var(--paper); }
fieldset { display: flex; flex-wrap: wrap; gap: 4px; margin: 0; padding: 0; border: 0; }
legend { float: left; margin-right: 8px; color: var(--soft); font-size: 14px; line-height: 32px; }
button { padding: 4px 12px; border: 1px solid var(--line); border-radius: 16px; background: var(--card); color: var(--ink); font: inherit; font-size: 14px; cursor: pointer; }
button[aria-pressed=true] { border-color: var(--accent); background: var(--accent); color: var(--paper); }
button:focus-visible, select:focus-visible, .word:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
label { color: var(--soft); font-size: 14px; }
select { padding: 4px 8px; border: 1px solid var(--line); border-radius: 6px; background: var(--card); color: var(--ink); font: inherit; font-size: 14px; }
#words, #sources { padding: 14px 18px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); font: 17px/2 ui-serif, Georgia, serif; white-space: pre-wrap; overflow-wrap: anywhere; }
.word { padding: 3px 0; border-radius: 3px; cursor: pointer; }
.word.pinned { box-shadow: 0 0 0 2px var(--accent); }
.word.mark { color: var(--soft); font: 12px ui-monospace, monospace; }
#scale { display: flex; align-items: center; gap: 8px; margin: 8px 0 0; color: var(--soft); font-size: 13px; }
#scale i { width: 180px; height: 10px; border-radius: 5px; }
#grid { display: grid; grid-template-columns: max-content 1fr; gap: 8px; padding: 12px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
#rows { display: grid; font: 12px ui-monospace, monospace; color: var(--soft); text-align: right; }
#rows span { display: flex; align-items: center; justify-content: end; cursor: pointer; }
#rows span.chosen { color: var(--accent); font-weight: 600; }
#sheet { overflow-x: auto; }
canvas { display: block; image-rendering: pixelated; cursor: crosshair; }
#tip { position: fixed; z-index: 3; max-width: 340px; padding: 8px 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); box-shadow: 0 4px 16px #0003; font-size: 13px; pointer-events: none; }
#tip table { border-spacing: 10px 0; margin: 4px 0 0 -10px; }
#tip td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
`;
