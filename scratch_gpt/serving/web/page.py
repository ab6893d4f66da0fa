# SPDX-License-Identifier: Apache-2.0
"""The page as a whole: what the models are, and a tab for each way to look at them."""

import gradio as gr

from scratch_gpt.errors import UserError
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.web.about import About, benchmark_scores, introduction
from scratch_gpt.serving.web.handlers import Handlers
from scratch_gpt.serving.web.tabs import Tabs


# The default's orange and its grey for what is proposed are too pale to read on white (WCAG 2: 4.5 to 1).
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    body_text_color_subdued="*neutral_500",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
)
# Colors are transparent: they fit a light page and a dark one.
CSS = """
h1 { font-size: 1.5rem; font-weight: 700; margin: 0; overflow-wrap: anywhere; }
.prose p { margin: 0.25rem 0; overflow-wrap: anywhere; }
.html-container { padding: 0 !important; }
.soft { color: color-mix(in srgb, var(--body-text-color) 75%, transparent); font-size: 0.9rem; }
.note { padding: 0.75rem; border: 1px solid var(--border-color-primary); border-radius: 0.5rem; }
button[role=tab].selected { color: var(--primary-700); }
.dark button[role=tab].selected { color: var(--primary-500); }
#chat .placeholder { padding: 0 1rem; text-align: center; }
.examples { gap: 0.4rem; }
.examples button { flex: 0 1 auto; white-space: normal; overflow-wrap: anywhere; text-align: left; font-weight: 400; }
.message { unicode-bidi: plaintext; overflow-wrap: anywhere; }
table.scores, table.bars, .scores tr, .bars tr { border: 0; }
table.scores, table.bars { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scores th, .scores td, .bars th, .bars td { padding: 0.25rem 0.4rem; text-align: right; font-weight: 400;
  border: 0; border-bottom: 1px solid var(--border-color-primary); }
.scores th:first-child { text-align: left; }
.bars th[scope=row] { font-family: ui-monospace, monospace; white-space: pre; unicode-bidi: isolate; width: 1%; }
.bars td:nth-child(2) { width: 60%; }
.bar { height: 1.1rem; border-radius: 0.2rem; outline: 1px solid transparent;
  background: linear-gradient(rgb(249 115 22), rgb(249 115 22)) no-repeat 0 0 / var(--drawn) 100%; position: relative; }
.bar::after { content: ""; position: absolute; inset: 0 auto 0 0; width: var(--model); border-radius: 0.2rem;
  border: 1px solid var(--body-text-color); }
ol.tokens { display: flex; flex-wrap: wrap; gap: 0.3rem; list-style: none; padding: 0; margin: 0.5rem 0; }
.tokens li { display: flex; flex-direction: column; align-items: center; padding: 0.2rem 0.4rem; border-radius: 0.3rem;
  margin: 0; max-width: 100%; font-family: ui-monospace, monospace; font-size: 0.8rem; }
.tokens b { font-size: 0.95rem; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.tokens small { overflow-wrap: anywhere; text-align: center; }
.color-0 { background: rgb(249 115 22 / 0.25); }
.color-1 { background: rgb(59 130 246 / 0.25); }
.color-2 { background: rgb(34 197 94 / 0.25); }
.color-3 { background: rgb(217 70 239 / 0.25); }
.color-4 { background: rgb(234 179 8 / 0.25); }
.color-5 { background: rgb(20 184 166 / 0.25); }
.attention { overflow-x: auto; }
.attention table, .attention tbody { border: 0; }
.attention table { width: auto; border-collapse: collapse; font: 0.8rem ui-monospace, monospace; }
.attention tr, .attention th, .attention td { border: 0; padding: 0; }
.attention th { font-weight: normal; white-space: pre; padding: 0 0.3em; unicode-bidi: isolate; }
.attention th[scope=row] { text-align: right; }
.attention th span { writing-mode: vertical-rl; transform: rotate(180deg); }
.attention td { min-width: 1.5em; height: 1.5em; border: 1px solid var(--border-color-primary);
  background: rgb(249 115 22 / var(--weight)); }
"""


def make_page(models: list[StreamingModel]) -> gr.Blocks:
    """The page for one model or two.

    Raises:
        UserError: two models of the same name.
    """
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        message = f"both folders are called {names[0]}: rename one, the page shows them by name"
        raise UserError("duplicate_name", message, name=names[0])
    abouts = [About.of(model) for model in models]
    tabs = Tabs(models, abouts, Handlers(models))
    # first what the models were made for
    if any(model.is_chat for model in models):
        shown = [("Chat", tabs.chat), ("Next token", tabs.next_token)]
    else:
        shown = [("Next token", tabs.next_token)]
    shown[1:1] = [("Side by side", tabs.side_by_side), ("Tokens", tabs.tokens)]
    shown.append(("Attention", tabs.attention))
    with gr.Blocks(title=" and ".join(names), analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(introduction(models, abouts))
        if scores := benchmark_scores(models):
            with gr.Accordion("Scores in its benchmarks", open=False):
                gr.HTML(scores)
        with gr.Tabs(overflow_behavior="wrap"):
            for name, fill in shown:
                with gr.Tab(name):
                    fill()
    return blocks
