# SPDX-License-Identifier: Apache-2.0
"""scratch-gpt: raw text in, an aligned chat model out, and every folder on the way is a Hugging Face model.

Importing the package registers its classes with the Auto classes of transformers.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.modeling_scratch_gpt import (
    ScratchGPTForCausalLM,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTModel,
    ScratchGPTPreTrainedModel,
)


__version__ = "0.1.0"

__all__ = [
    "ScratchGPTConfig",
    "ScratchGPTForCausalLM",
    "ScratchGPTForQuestionAnswering",
    "ScratchGPTForSequenceClassification",
    "ScratchGPTForTokenClassification",
    "ScratchGPTModel",
    "ScratchGPTPreTrainedModel",
]

AutoConfig.register("scratch_gpt", ScratchGPTConfig, exist_ok=True)
ScratchGPTConfig.register_for_auto_class()
for auto_class, model_class in (
    (AutoModel, ScratchGPTModel),
    (AutoModelForCausalLM, ScratchGPTForCausalLM),
    (AutoModelForSequenceClassification, ScratchGPTForSequenceClassification),
    (AutoModelForTokenClassification, ScratchGPTForTokenClassification),
    (AutoModelForQuestionAnswering, ScratchGPTForQuestionAnswering),
):
    auto_class.register(ScratchGPTConfig, model_class, exist_ok=True)
    # saving copies the two model files beside the weights
    model_class.register_for_auto_class(auto_class.__name__)
