"""Models of Hugging Face's, from small configurations: each with the loss that it gives itself (`outputs.loss`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .rows import EXAMPLES, Row, causal_words, generator, images, masked_words, own_loss, padded, translations

FAMILY = "Hugging Face"
NEEDS = ("transformers",)
WORDS, LENGTH = 40, 8

ENCODER = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
DECODER = {**ENCODER, "num_key_value_heads": 1}
SENTENCE = own_loss("input_ids", "attention_mask", "labels")
IMAGE = own_loss("pixel_values", "labels")


def hub(model: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    """A model by the names of its class and of its configuration's, as `Model(Config(...))` makes it."""

    def make() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**options))

    return make


def encoder(name: str, kind: str = "ForSequenceClassification", **options: Any) -> Callable[[], nn.Module]:
    return hub(name + kind, name + "Config", **{**ENCODER, **options})


def decoder(name: str, **options: Any) -> Callable[[], nn.Module]:
    return hub(name + "ForCausalLM", name + "Config", **{**DECODER, **options})


def gpt2() -> nn.Module:
    return hub("GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=2)()


def with_lora(make: Callable[[], nn.Module], *targets: str, **options: Any) -> Callable[[], nn.Module]:
    """By `peft`, on some of its layers."""

    def adapted() -> nn.Module:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(make(), LoraConfig(r=4, target_modules=list(targets), lora_dropout=0.05, **options))

    return adapted


def whisper() -> nn.Module:
    return hub(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        vocab_size=WORDS,
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=16,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=8,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )()


def spoken() -> dict[str, torch.Tensor]:
    labels = torch.randint(3, WORDS, (EXAMPLES, 6), generator=generator(1))
    labels[1:4, 4:] = -100
    return {"input_features": torch.randn((EXAMPLES, 8, 16), generator=generator()), "labels": labels}


def clip() -> nn.Module:
    text = {**ENCODER, "projection_dim": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**{k: v for k, v in ENCODER.items() if k != "vocab_size"}, "image_size": 16, "patch_size": 8}
    return hub("CLIPModel", "CLIPConfig", text_config=text, vision_config=vision, projection_dim=8)()


def captioned() -> dict[str, torch.Tensor]:
    found = padded(LENGTH, WORDS)()
    pixels = torch.rand((EXAMPLES, 3, 16, 16), generator=generator())
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"], "pixel_values": pixels}


def contrastive(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor) -> Any:
    return model(input_ids=ids, attention_mask=mask, pixel_values=pixels, return_loss=True)


def siglip_like(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Each image with its own text: nothing else of the batch."""
    found = model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
    own = (found.text_embeds * found.image_embeds).sum(1)
    return -functional.logsigmoid(own * model.logit_scale.exp()).mean()


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return hub(name + "ForImageClassification", name + "Config", num_labels=5, **options)


def row(name: str, make: Callable[[], nn.Module], examples: Any, loss: Any = SENTENCE, **options: Any) -> Row:
    return Row(FAMILY, name, make, examples, loss, **{"needs": NEEDS, **options})


SENTENCES, MASKED, CAUSAL = padded(LENGTH, WORDS), masked_words(LENGTH, WORDS), causal_words(LENGTH, WORDS)
TRANSLATED, PICTURES = translations(LENGTH, WORDS), images(3, 32, 5)
TRANSFORMER = {k: v for k, v in ENCODER.items() if k not in ("vocab_size", "max_position_embeddings")}
LORA = ("transformers", "peft")

ROWS = [
    row("BERT, classes", encoder("Bert"), SENTENCES),
    row("BERT, masked words", encoder("Bert", "ForMaskedLM"), MASKED),
    row("BERT, a label a word", encoder("Bert", "ForTokenClassification", num_labels=WORDS), MASKED),
    row("RoBERTa", encoder("Roberta", max_position_embeddings=34), SENTENCES),
    row(
        "DistilBERT",
        hub(
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            vocab_size=WORDS,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=32,
        ),
        SENTENCES,
    ),
    row("ALBERT", encoder("Albert", embedding_size=8), SENTENCES),
    row("ELECTRA", encoder("Electra", embedding_size=8), SENTENCES),
    row("MPNet", encoder("MPNet", max_position_embeddings=34), SENTENCES),
    row(
        "DeBERTa v2",
        encoder("DebertaV2", relative_attention=True, position_buckets=8),
        SENTENCES,
        refused="depends on a value of its data",
    ),
    row("BERT with LoRA", with_lora(encoder("Bert"), "query", "value", task_type="SEQ_CLS"), SENTENCES, needs=LORA),
    row("GPT-2", gpt2, CAUSAL),
    row("GPT-NeoX", decoder("GPTNeoX"), CAUSAL),
    row("OPT", decoder("OPT", word_embed_proj_dim=16, ffn_dim=32), CAUSAL),
    row("LLaMA", decoder("Llama"), CAUSAL),
    row("Qwen2", decoder("Qwen2"), CAUSAL),
    row("Qwen3", decoder("Qwen3", head_dim=8), CAUSAL),
    row("Mistral", decoder("Mistral", sliding_window=4), CAUSAL),
    row("Mixtral (experts)", decoder("Mixtral", num_local_experts=4, num_experts_per_tok=2), CAUSAL),
    row("Gemma", decoder("Gemma", head_dim=8), CAUSAL),
    row("Phi", decoder("Phi"), CAUSAL),
    row("LLaMA with LoRA", with_lora(decoder("Llama"), "q_proj", "v_proj", task_type="CAUSAL_LM"), CAUSAL, needs=LORA),
    row(
        "T5",
        hub(
            "T5ForConditionalGeneration",
            "T5Config",
            vocab_size=WORDS,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
        ),
        TRANSLATED,
    ),
    row(
        "BART",
        hub(
            "BartForConditionalGeneration",
            "BartConfig",
            vocab_size=WORDS,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=32,
            pad_token_id=0,
        ),
        TRANSLATED,
    ),
    row("Whisper", whisper, spoken, own_loss("input_features", "labels")),
    row("ViT", vision("ViT", **TRANSFORMER, image_size=32, patch_size=8), PICTURES, IMAGE),
    row("DeiT", vision("DeiT", **TRANSFORMER, image_size=32, patch_size=8), PICTURES, IMAGE),
    row("BEiT", vision("Beit", **TRANSFORMER, image_size=32, patch_size=8), PICTURES, IMAGE),
    row(
        "Swin",
        vision("Swin", image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4),
        PICTURES,
        IMAGE,
    ),
    row("ResNet", vision("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), PICTURES, IMAGE),
    row("ConvNeXt", vision("ConvNext", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), PICTURES, IMAGE),
    row("CLIP, pairs", clip, captioned, siglip_like),
    row("CLIP, its contrastive loss", clip, captioned, contrastive, refused="the examples of a batch see each other"),
]
