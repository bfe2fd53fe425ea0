"""Style of the tables, for light and dark ground and for narrow screens."""

SHEET = """<style>
.pm-table { overflow-x: auto; max-width: 100%; margin-bottom: .5rem; }
.pm-table table { border-collapse: collapse; width: 100%; font-size: .875rem; }
.pm-table caption { text-align: left; font-weight: 600; padding: .25rem 0; caption-side: top; }
.pm-table th, .pm-table td { padding: .25rem .6rem; border-bottom: 1px solid rgba(128,128,128,.3);
  white-space: nowrap; vertical-align: top; }
.pm-table th { font-weight: 600; }
.pm-table .num { text-align: right; font-variant-numeric: tabular-nums; }
.pm-table .txt { text-align: left; }
.pm-table td.txt { white-space: normal; min-width: 4rem; max-width: 28rem; }
</style>"""
