# SPDX-License-Identifier: Apache-2.0
"""The tabs of the page and what each control does. No tab is empty before the first click."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.web.about import SCRIPTS, About
from scratch_gpt.serving.web.handlers import MEAN_OF_HEADS, Handlers


# One answer after the other, whoever asks: they share the processor, and the attention view switches the model.
QUEUED: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
# A drawing follows what is typed and the sliders: of many changes the last one counts.
FOLLOWING: dict[str, Any] = {**QUEUED, "trigger_mode": "always_last"}
EXPECTED = "The answer appears here."


@dataclass(frozen=True)
class Tabs:
    """The tabs for one model or two.

    Args:
        abouts: of the models, in their order.
    """

    models: list[StreamingModel]
    abouts: list[About]
    handlers: Handlers

    @property
    def _names(self) -> list[str]:
        return [model.name for model in self.models]

    @property
    def _defaults(self) -> Sampling:
        return Sampling.of(self.models[0].model.generation_config)

    def chat(self) -> None:
        """A conversation with one of the models that chat."""
        number = next(number for number, model in enumerate(self.models) if model.is_chat)
        about = self.abouts[number]
        name = _model_choice([model.name for model in self.models if model.is_chat], "chat")
        messages = gr.State([])
        window = gr.Chatbot(
            render_markdown=False,
            latex_delimiters=[],
            buttons=[],
            label="Conversation",
            height="min(400px, 35vh)",  # on a phone the message is on the first screen
            elem_id="chat",
            placeholder="Nothing has been said yet. Type a message, or take one of the questions below.",
        )
        message = gr.Textbox(
            "",
            label="Message",
            placeholder="Enter sends",
            lines=1,
            max_lines=6,
            elem_id="chat-message",
            autofocus=True,
        )
        with gr.Row():
            send = gr.Button("Send", variant="primary", elem_id="chat-send", min_width=90)
            stop = gr.Button("Stop", elem_id="chat-stop", min_width=90)
            reset = gr.Button("Reset", elem_id="chat-reset", min_width=90)
        title = "Things to ask (answered right in its benchmarks)" if about.are_right else "Things to ask"
        examples = _examples(about.questions, title)
        with gr.Accordion("Settings", open=False):
            system = gr.Textbox("", label="System message", placeholder="None", max_lines=4)
            settings = [*_sliders(self._defaults), _longest(self._defaults)]
        rest, outputs = [messages, name, system, *settings], [message, window, messages]
        answering = [
            gr.on([message.submit, send.click], self.handlers.chat, [message, *rest], outputs, **QUEUED),
            *(each.click(self.handlers.chat, [each, *rest], outputs, **QUEUED) for each in examples),
        ]
        stop.click(None, cancels=answering)
        gr.on([reset.click, window.clear], lambda: ([], []), None, [window, messages], cancels=answering)

    def side_by_side(self) -> None:
        """One message to two models, or to one model at two temperatures."""
        talks = self.models[0].is_chat
        examples = _examples(
            self.abouts[0].questions if talks else self.abouts[0].beginnings, "Examples: both answer at once"
        )
        prompt = gr.Textbox(
            "",
            label="The same message to both",
            placeholder="Type a message",
            lines=2,
            elem_id="compare-message",
        )
        with gr.Row():
            send = gr.Button("Send", variant="primary", elem_id="compare-send", min_width=90)
            stop = gr.Button("Stop", min_width=90)
        sides, answers = [], []
        # two models as they are, or the likeliest answer beside a drawn one
        usual = self._defaults.temperature
        temperatures = (usual, usual) if len(self.models) > 1 else (0.0, usual or 1.0)
        with gr.Row():
            for number, temperature in enumerate(temperatures, start=1):
                side = "First" if number == 1 else "Second"  # on a phone they are one below the other
                with gr.Column(min_width=280):
                    sides += [
                        _model_choice(self._names, f"compare-{number}", f"{side}: model", number - 1),
                        gr.Slider(0, 2, temperature, step=0.05, label=f"{side}: temperature"),
                    ]
                    answers.append(
                        gr.Textbox(
                            label=f"{side}: answer",
                            placeholder=EXPECTED,
                            lines=6,
                            interactive=False,
                            elem_id=f"compare-{number}",
                        )
                    )
        with gr.Accordion("Settings of both", open=False):
            _, *others = _sliders(self._defaults, with_temperature=False)
            settings = [*others, _longest(self._defaults)]
        inputs = [prompt, *sides, *settings]
        answering = [send.click(self.handlers.compare, inputs, answers, **QUEUED)]
        for each in examples:
            taken = each.click(_same, each, prompt)
            answering.append(taken.then(self.handlers.compare, inputs, answers, **QUEUED))
        stop.click(None, cancels=answering)

    def tokens(self) -> None:
        """A text as the tokenizer cuts it."""
        texts = [*self.abouts[0].beginnings[:1], *self.abouts[0].questions[:1], SCRIPTS]
        name = _model_choice(self._names, "tokens")
        text = gr.Textbox(texts[0], label="Text", lines=2, elem_id="tokens-text")
        examples = _examples(texts, "Examples")
        _explain(
            "Each box is a token: its text, its number in the vocabulary, its bytes. \u2423 is a blank, \u23ce a line "
            "break, <E4> a byte that is only part of a character."
        )
        drawing = gr.HTML(self.handlers.tokens(texts[0], self._names[0]), elem_id="tokens-drawing")
        self._draw(self.handlers.tokens, [text, name], [name.change], examples, drawing)

    def next_token(self) -> None:
        """The likeliest next tokens, and the text continued."""
        texts = self.abouts[0].beginnings
        name = _model_choice(self._names, "completion")
        text = gr.Textbox(texts[0], label="Text to continue", lines=3, elem_id="completion-text")
        examples = _examples(texts, "Examples")
        with gr.Row():
            one = gr.Button("Add one", elem_id="completion-one", min_width=90)
            go = gr.Button("Continue", variant="primary", elem_id="completion-go", min_width=90)
            stop = gr.Button("Stop", min_width=90)
        with gr.Row():
            sliders = _sliders(self._defaults)
        _explain(
            "The bar is how likely each token is drawn with these settings, the outline how likely the model finds it: "
            "move the sliders. A token that the settings leave out has no bar."
        )
        inputs = [text, name, *sliders]
        values = [slider.value for slider in sliders]
        drawing = gr.HTML(
            self.handlers.next_tokens(texts[0], self._names[0], *values), elem_id="completion-tokens"
        )
        with gr.Accordion("Length of what is added", open=False):
            longest = _longest(self._defaults)
        moved = [name.change, *(slider.change for slider in sliders)]
        self._draw(self.handlers.next_tokens, inputs, moved, examples, drawing)
        one.click(self.handlers.add_token, inputs, text, **QUEUED)
        continuing = go.click(self.handlers.complete, [*inputs, longest], text, **QUEUED)
        stop.click(None, cancels=[continuing])

    def attention(self) -> None:
        """Which token takes how much from which earlier one."""
        about = self.abouts[0]
        texts = sorted({*about.questions, *about.beginnings}, key=len, reverse=True)[:3]
        layers = max(model.model.config.num_hidden_layers for model in self.models)
        heads = max(model.model.config.num_attention_heads for model in self.models)
        name = _model_choice(self._names, "attention")
        text = gr.Textbox(texts[0], label="Text", lines=2, elem_id="attention-text")
        examples = _examples(texts, "Examples")
        with gr.Row():
            layer = gr.Slider(
                1, max(layers, 2), 1, step=1, label="Layer", visible=layers > 1, elem_id="attention-layer"
            )
            choices = [MEAN_OF_HEADS, *map(str, range(1, heads + 1))]
            head = gr.Dropdown(
                choices, value=MEAN_OF_HEADS, label="Head", elem_id="attention-head", filterable=False
            )
        _explain(
            "Each row is a token: the stronger a cell's color, the more it takes from that column's token. No token sees "
            "later ones. A wide table scrolls sideways."
        )
        inputs = [text, name, layer, head]
        drawing = gr.HTML(
            self.handlers.attention(texts[0], self._names[0], 1, MEAN_OF_HEADS), elem_id="attention-table"
        )
        self._draw(
            self.handlers.attention, inputs, [name.change, layer.change, head.change], examples, drawing
        )

    def _draw(
        self, handler: Any, inputs: list[Any], changes: list[Any], examples: list[gr.Button], drawing: gr.HTML
    ) -> None:
        """Draw anew where the text (the first input) or a setting changes; an example becomes the text."""
        text = inputs[0]
        gr.on([text.change, *changes], handler, inputs, drawing, **FOLLOWING)
        for each in examples:
            each.click(_same, each, text)


def _same(text: str) -> str:
    return text


def _explain(text: str) -> None:
    gr.HTML(f"<p class='soft'>{escape(text)}</p>")


def _examples(texts: list[str], title: str) -> list[gr.Button]:
    """Texts to be clicked, in full."""
    gr.HTML(f"<p class='soft'>{escape(title)}</p>")
    with gr.Row(elem_classes="examples"):
        return [gr.Button(text, size="sm", min_width=60) for text in texts]


def _model_choice(names: list[str], prefix: str, label: str = "Model", chosen: int = 0) -> gr.Dropdown:
    """A choice of the model, where there is one."""
    return gr.Dropdown(
        names,
        value=names[min(chosen, len(names) - 1)],
        label=label,
        visible=len(names) > 1,
        elem_id=f"{prefix}-model",
        filterable=False,
    )


def _sliders(first: Sampling, with_temperature: bool = True) -> list[Any]:
    """Temperature, top-k, top-p: how the next token is drawn."""
    return [
        gr.Slider(
            0,
            2,
            first.temperature,
            step=0.05,
            label="Temperature (0: greedy)",
            visible=with_temperature,
            min_width=200,
        ),
        gr.Slider(0, max(100, first.top_k), first.top_k, step=1, label="Top-k (0: all)", min_width=200),
        gr.Slider(0.05, 1, first.top_p, step=0.05, label="Top-p (1: all)", min_width=200),
    ]


def _longest(first: Sampling) -> gr.Slider:
    return gr.Slider(1, 1000, first.max_new_tokens, step=1, label="Longest answer, in tokens", min_width=200)
