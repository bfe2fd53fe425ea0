"""Style: room for the answer, tables that scroll, for light and dark ground and narrow screens."""

SHEET = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 4rem; padding-bottom: 3rem; }
[data-testid="stMetricLabel"] * { white-space: normal; }
[data-testid="stMetricValue"], [data-testid="stMetricValue"] * {
  font-size: 1.35rem; white-space: normal; overflow: visible; overflow-wrap: anywhere;
  text-overflow: clip; }
.pm-link { color: inherit; }
.pm-table { overflow: auto; max-width: 100%; max-height: 30rem; margin-bottom: .5rem; }
.pm-table thead th { position: sticky; top: 0; backdrop-filter: blur(16px); }
.pm-table table { border-collapse: collapse; width: 100%; font-size: .875rem; }
.pm-table caption { text-align: left; font-weight: 600; padding: .25rem 0; caption-side: top; }
.pm-table th, .pm-table td { padding: .25rem .6rem; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid rgba(128,128,128,.3); text-align: left; }
.pm-table th { font-weight: 600; }
.pm-table .num { text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 640px) {
  [data-testid="stColumn"]:has([data-testid="stMetric"]) {
    flex: 1 1 calc(50% - 1rem); min-width: calc(50% - 1rem); } }
.pm-table td.prose { white-space: normal; min-width: 16rem; }
</style>"""
