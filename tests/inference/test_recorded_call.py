"""A whole model as one call: what is recorded of it is what it computes half by half."""

import torch

import glassformer as gf
from glassformer.features.log_mel import log_mel
from glassformer.inference.recorded_call import both_halves, call_of, from_sound
from glassformer.nn.kv_cache import full
from glassformer.tracing.recorder import record

BOTH = {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_heads": 2, "d_ff": 12}


def test_an_encoder_decoder_is_called_with_both_texts():
    module = gf.build("transformer", n_encoder_layers=1, n_decoder_layers=1, **BOTH).module
    source, tokens = torch.tensor([[3, 1, 4]]), torch.tensor([[2, 7]])
    assert call_of(module) is both_halves
    with torch.no_grad():
        halves = module(tokens, module.begin(source, full(2)))
        assert torch.equal(call_of(module)(module, source, tokens), halves)
        valid = torch.tensor([[True, True, False]])
        assert not torch.equal(both_halves(module, source, tokens, valid), halves)


def test_a_language_model_is_called_as_it_is():
    module = gf.build("nano-sort").module
    assert call_of(module) is torch.nn.Module.__call__


def test_a_whisper_is_called_with_a_waveform_and_recorded_from_it_on():
    model = gf.build("whisper", n_encoder_layers=1, n_decoder_layers=1, audio_context_length=6, n_mels=5, **BOTH)
    waveform, tokens = torch.linspace(-1, 1, 1920), torch.tensor([[1, 2]])
    with torch.no_grad():
        logits = from_sound(model.module, waveform, tokens)
        torch.testing.assert_close(logits, model(log_mel(waveform, 5)[None], tokens))
    with gf.use("readable", attention="naive"):
        trace = record(model.module, waveform, tokens, call=from_sound)
    torch.testing.assert_close(trace["logits"].value, logits)
    assert {"waveform", "tokens", "frames", "encoder.output"} <= set(trace.names)
