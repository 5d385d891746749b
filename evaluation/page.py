"""The bare page: its looks and the little that it does, apart from what it says."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from evaluation.style import agent_colour, agent_label, drawn_as

STYLE = """
:root { --ink:#1e2833; --soft:#697582; --grid:#dfe4ea; --paper:#fbfbf9; --card:#ffffff; --accent:#0072B2;
  --good:#1d7f38; --bad:#b4521a; --shade:#00000030; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8ecf1; --soft:#98a4b2; --grid:#333d49; --paper:#14181d;
  --card:#1b2128; --accent:#5db3e6; --good:#58c274; --bad:#f0995c; --shade:#ffffff38; }
  .figure svg [class^="agent-"] { filter: brightness(1.4); }
  .figure svg .agent-random { filter: none; }
  .figure svg .agent-ppo, .dot.ppo { filter: brightness(2.1) !important; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 56px; }
h1 { font-size: 40px; line-height: 1.12; letter-spacing: -0.02em; margin: 6px 0 14px; max-width: 20em; }
h2 { font-size: 29px; letter-spacing: -0.015em; margin: 72px 0 4px; }
h3 { font-size: 20px; margin: 44px 0 2px; }
h4 { font-size: 16px; margin: 30px 0 0; }
p { margin: 10px 0; max-width: 46em; }
.kicker { color: var(--soft); font-size: 14px; letter-spacing: 0.02em; margin: 0; }
.lede { font-size: 18px; color: var(--soft); max-width: 44em; }
.lede b { color: var(--ink); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 18px; margin: 30px 0 10px; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 14px; padding: 20px 24px 14px; }
.card .where { color: var(--soft); font-size: 14px; }
.card .big { font-size: 44px; font-weight: 650; letter-spacing: -0.03em; line-height: 1.15; margin: 6px 0 2px;
  font-variant-numeric: tabular-nums; }
.card .big small { display: block; font-size: 16px; font-weight: 450; letter-spacing: 0; color: var(--soft); }
.card .big i { font-style: normal; color: var(--soft); font-weight: 350; padding: 0 4px; }
.card p { margin: 6px 0 10px; }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 50%; background: var(--agent, var(--soft));
  margin-right: 7px; vertical-align: 0; }
.figure { margin: 14px 0 8px; padding: 0; overflow-x: auto; }
.figure svg { display: block; width: 100%; min-width: 620px; height: auto; }
.figure.narrow svg { max-width: var(--wide); min-width: 0; }
.figure svg text { font-family: system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif !important; }
figcaption { color: var(--soft); font-size: 14px; max-width: 58em; margin-top: 4px; }
.tablewrap { overflow-x: auto; margin: 12px 0 4px; }
.tablewrap, .figure { background:
  linear-gradient(to right, var(--paper) 40%, transparent) left / 40px 100%,
  linear-gradient(to left, var(--paper) 40%, transparent) right / 40px 100%,
  linear-gradient(to right, var(--shade), transparent) left / 14px 100%,
  linear-gradient(to left, var(--shade), transparent) right / 14px 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
.wide::before { content: "scroll sideways for the rest →"; position: sticky; left: 0; display: block;
  width: max-content; color: var(--soft); font-size: 12.5px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; min-width: 100%; }
th { text-align: right; font-weight: 550; color: var(--soft); padding: 6px 5px; border-bottom: 1.5px solid var(--grid);
  vertical-align: bottom; line-height: 1.3; white-space: nowrap; }
td { text-align: right; padding: 8px 5px; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
td small { display: block; color: var(--soft); font-size: 11px; }
td:last-child, th:last-child { padding-right: 0; }
td.up { color: var(--good); } td.down { color: var(--bad); } td.none { color: var(--soft); }
table.goals td:nth-child(2), table.goals td:nth-child(4), table.goals th:nth-child(2), table.goals th:nth-child(4) {
  text-align: left; }
table.goals td { vertical-align: top; }
table.goals td:first-child { white-space: normal; min-width: 17em; max-width: 27em; }
table.goals td:last-child, table.goals th:last-child { padding-right: 9px; }
td.verdict { font-weight: 650; }
tr.goal-missed { background: color-mix(in srgb, var(--bad) 12%, transparent); }
table.goals td:first-child, table.goals th:first-child { padding-left: 9px; }
td.heat small { color: inherit; opacity: 0.75; }
td.heat:last-child { padding-right: 9px; }
td.heat { background: color-mix(in srgb, var(--accent) var(--share), transparent); }
.legend { position: sticky; top: 0; z-index: 5; background: var(--paper); padding: 12px 0; margin-top: 34px;
  border-bottom: 1px solid var(--grid); display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.legend button { font: inherit; font-size: 14px; color: var(--ink); background: var(--card); cursor: pointer;
  border: 1px solid var(--grid); border-radius: 99px; padding: 3px 13px 3px 10px; }
.legend button[aria-pressed="false"] { opacity: 0.4; }
.legend span { color: var(--soft); font-size: 13px; margin-left: 4px; }
video { width: 100%; border-radius: 12px; background: #000; margin-top: 12px; display: block; }
details { margin: 14px 0; } summary { cursor: pointer; color: var(--soft); }
code, pre { font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 12px 16px;
  overflow-x: auto; }
dl { display: grid; grid-template-columns: minmax(150px, max-content) 1fr; gap: 6px 24px; font-size: 15px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 20px; max-width: 46em; } li { margin: 5px 0; }
footer { color: var(--soft); font-size: 14px; padding-top: 30px; padding-bottom: 60px; }
@media (max-width: 640px) { .legend { position: static; } h1 { font-size: 31px; } .card .big { font-size: 34px; }
  .cards { grid-template-columns: 1fr; }
  main, header, footer { padding-left: 18px; padding-right: 18px; } }
@media print { .legend { display: none; } }
"""

SCRIPT = """
for (const button of document.querySelectorAll('.legend button')) button.addEventListener('click', () => {
  const shown = button.getAttribute('aria-pressed') !== 'true';
  button.setAttribute('aria-pressed', shown);
  const parts = document.querySelectorAll('.agent-' + button.dataset.agent);
  for (const part of parts) part.style.display = shown ? '' : 'none';
});
const hint = () => { for (const part of document.querySelectorAll('.tablewrap, .figure'))
  part.classList.toggle('wide', part.scrollWidth > part.clientWidth + 1); };
addEventListener('resize', hint);
hint();
"""


def page(title: str, header: str, body: str, footer: str) -> str:
    """A whole HTML page that asks nothing of anyone else; the parts are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{header}</header>\n<main>{body}</main>\n<footer>{footer}</footer>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def figure(svg: str, caption: str, wide: int | None = None) -> str:
    """A figure with its caption (HTML); `wide` bounds its width in pixels."""
    narrow = f' narrow" style="--wide:{wide}px' if wide else ""
    return f'<figure class="figure{narrow}">{svg}<figcaption>{caption}</figcaption></figure>\n'


def dot(agent: str) -> str:
    """A spot of the agent's colour."""
    return f'<span class="dot {escape(drawn_as(agent))}" style="--agent:{agent_colour(agent)}"></span>'


def legend(agents: Iterable[str]) -> str:
    """Buttons that show and hide each agent in the curves and tables."""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-agent="{escape(agent)}">{dot(agent)}'
        f"{escape(agent_label(agent))}</button>"
        for agent in agents
    )
    return f'<div class="legend">{buttons}<span>click to hide or show</span></div>\n'


def table(head: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]], kind: str = "") -> str:
    """head: HTML of each heading. rows: (class of the row, its whole cells, `<td>..</td>`). kind: the table's class."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f'<tr class="{name}">{"".join(cells)}</tr>\n' for name, cells in rows)
    name = f' class="{kind}"' if kind else ""
    return f'<div class="tablewrap"><table{name}><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def cell(text: str, below: str = "", kind: str = "") -> str:
    """One cell; `below` stands under it in small."""
    name = f' class="{kind}"' if kind else ""
    return f"<td{name}>{text}{f'<small>{below}</small>' if below else ''}</td>"
