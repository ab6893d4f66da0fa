# SPDX-License-Identifier: Apache-2.0
"""Registration of the package's classes with the Auto classes of transformers, by being imported."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig, ScratchGPTEncoderDecoderConfig
from scratch_gpt.modeling_scratch_gpt import (
    ScratchGPTForCausalLM,
    ScratchGPTForMaskedLM,
    ScratchGPTForMultipleChoice,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTModel,
    ScratchGPTPreTrainedModel,
)
from scratch_gpt.modeling_scratch_gpt_encoder_decoder import (
    ScratchGPTEncoderDecoderForSequenceClassification,
    ScratchGPTEncoderDecoderModel,
    ScratchGPTForConditionalGeneration,
)


__all__ = [
    "ScratchGPTConfig",
    "ScratchGPTEncoderDecoderConfig",
    "ScratchGPTEncoderDecoderForSequenceClassification",
    "ScratchGPTEncoderDecoderModel",
    "ScratchGPTForCausalLM",
    "ScratchGPTForConditionalGeneration",
    "ScratchGPTForMaskedLM",
    "ScratchGPTForMultipleChoice",
    "ScratchGPTForQuestionAnswering",
    "ScratchGPTForSequenceClassification",
    "ScratchGPTForTokenClassification",
    "ScratchGPTModel",
    "ScratchGPTPreTrainedModel",
]

for config_class in (ScratchGPTConfig, ScratchGPTEncoderDecoderConfig):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    config_class.register_for_auto_class()
for auto_class, model_class in (
    (AutoModel, ScratchGPTModel),
    (AutoModelForCausalLM, ScratchGPTForCausalLM),
    (AutoModelForMaskedLM, ScratchGPTForMaskedLM),
    (AutoModelForSequenceClassification, ScratchGPTForSequenceClassification),
    (AutoModelForTokenClassification, ScratchGPTForTokenClassification),
    (AutoModelForQuestionAnswering, ScratchGPTForQuestionAnswering),
    (AutoModelForMultipleChoice, ScratchGPTForMultipleChoice),
    (AutoModel, ScratchGPTEncoderDecoderModel),
    (AutoModelForSeq2SeqLM, ScratchGPTForConditionalGeneration),
    (AutoModelForSequenceClassification, ScratchGPTEncoderDecoderForSequenceClassification),
):
    auto_class.register(model_class.config_class, model_class, exist_ok=True)
    # saving copies the model files beside the weights
    model_class.register_for_auto_class(auto_class.__name__)
