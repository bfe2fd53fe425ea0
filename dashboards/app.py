"""The explorer: ``perfmodel dash``. Pages are wiring; figures come from perfmodel.report.

They lie in ``views``: Streamlit takes a folder named ``pages`` for its older kind of application.
"""

from pathlib import Path

import streamlit as st
from explorer import files, style, view
from explorer.inputs import PAGE

st.set_page_config(
    page_title="perfmodel explorer",
    layout="wide",
    page_icon=str(Path(__file__).with_name("icon.svg")),
)
st.html(style.SHEET)

PAGES = {
    name: st.Page(f"views/{name}.py", title=title, icon=icon, url_path=name, default=name == "plan")
    for name, title, icon in (
        ("plan", "Plan", ":material/dns:"),
        ("roofline", "Roofline", ":material/show_chart:"),
        ("kernels", "Kernels", ":material/memory:"),
        ("crossover", "Crossover", ":material/merge:"),
        ("compare", "Compare", ":material/compare_arrows:"),
        ("edge", "Edge & MCU", ":material/developer_board:"),
        ("accuracy", "Accuracy", ":material/target:"),
    )
}

chosen = st.navigation(list(PAGES.values()), position="top")
st.session_state[PAGE] = chosen.url_path
files.open_scenario(PAGES)
with st.sidebar:
    view.other("?", {}, "Start over: all inputs as they were")
chosen.run()
